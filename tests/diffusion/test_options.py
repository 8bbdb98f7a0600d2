"""What a sampler's option says of itself, against what its step rule does."""

from dataclasses import replace

import pytest
import torch

from dclip.config import OPTIONS, Encode, FinalStep, SamplerOption
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import (
    FixedPoint,
    Variance,
    inverter_of,
    pairs_of,
    sampler_named,
    solver_of,
)
from dclip.diffusion.sampler import Prediction, sample
from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError

NAMES = list(OPTIONS["sampler"])


def counting():
    calls = []

    def eps_fn(x, t):
        calls.append(int(t[0]))
        return Prediction(torch.sin(3 * x))

    return calls, eps_fn


@pytest.mark.parametrize("final", ["to_clean", "to_t0"])
@pytest.mark.parametrize("name", NAMES)
def test_an_option_knows_the_calls_of_both_directions(name, final):
    options = sampler_named(name)(500, 9, 5, FinalStep(final))
    if isinstance(options, FixedPoint):
        options = replace(options, tolerance=1e-30)  # never quite still
    up, down = pairs_of(options)
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    calls, eps_fn = counting()
    latent = sample(eps_fn, x, up, Schedule(), solver=inverter_of(options))
    assert options.inversion_calls() == options.encoding_calls() == len(calls)
    assert replace(options, encode=Encode.stochastic).encoding_calls() == 0
    assert options.two_states == (latent.ndim == 5)
    calls, eps_fn = counting()
    sample(eps_fn, latent, down, Schedule(), solver=solver_of(options), noise=ImageNoise("a"))
    assert options.generation_calls() == len(calls)


@pytest.mark.parametrize("name", NAMES)
def test_an_option_knows_whether_it_is_random(name):
    options = sampler_named(name)(500, 9, 5)
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    made = []
    for seed in (0, 1):
        noise, solver = ImageNoise("a", seed), solver_of(options)
        down = pairs_of(options)[1]
        made.append(sample(counting()[1], x, down, Schedule(), solver=solver, noise=noise))
    assert options.is_random == (not torch.equal(*made))


def test_ancestral_sampling_takes_the_variance_of_the_network_unless_it_is_told():
    assert solver_of(sampler_named("ddpm")(), "learned_range").variance == "learned_range"
    told = sampler_named("ddpm")(variance=Variance.fixed_large)
    assert solver_of(told, "learned_range").variance == "fixed_large"


def test_a_sampler_that_is_not_there_or_has_no_rule_is_refused():
    with pytest.raises(DclipError, match=r"sampler=midpoint is not here; known: ddim, .*plugins="):
        sampler_named("midpoint")
    with pytest.raises(DclipError, match="SamplerOption has no step rule"):
        solver_of(SamplerOption())
