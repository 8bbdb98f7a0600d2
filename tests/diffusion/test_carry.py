"""Two branches: against plain implementations of each paper's loop, and an edit that is none."""

import math
from dataclasses import replace

import pytest
import torch

from dclip.diffusion.carry import (
    Branches,
    carry_ddcm,
    carry_flow,
    carry_noise_maps,
    carry_offset,
    states_between,
    states_up,
    times_down,
)
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDIM, DDPM, Prediction, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.solvers import AB2, BELM, DPMPP2M, FixedPointSolver, HeunSolver
from dclip.diffusion.timesteps import CLEAN, mirrored, pairs_down, pairs_up
from helpers.denoisers import asymmetric, constant, start, wavy

SCHEDULE = Schedule()
A = SCHEDULE.alpha_bar
IDS = ("a", "b")
CALM = [DDIM(), AB2(), HeunSolver(), DPMPP2M(), FixedPointSolver(), BELM()]
SOLVERS = [*CALM, DDIM(1.0), DDPM()]
STEPS = [1, 2, 6, 20]
SIX = pairs_down(500, 6)


def name(solver):
    return f"{type(solver).__name__}{getattr(solver, 'eta', '')}"


def down(steps):
    return (
        [(500, CLEAN)]
        if steps == 1
        else pairs_down(500, steps + 1, "to_t0" if steps == 2 else "to_clean")
    )


def pull(x, t):
    """Another denoiser: what an edit learned."""
    return Prediction(wavy(x, t).eps + 0.3 * torch.cos(x))


def rho(t):
    return math.sqrt((1 - A(t)) / A(t))


def branches(edited, solver=None, pairs=SIX, **more):
    return Branches(wavy, edited, IDS, pairs, SCHEDULE, solver or DDIM(), **more)


def inverted(x, pairs, solver=None):
    """States of an inversion of these very steps (so that a solver of two states may start)."""
    up = mirrored(pairs)
    return states_up(wavy, x, up, SCHEDULE, solver or DDIM(), times_down(pairs))


# ------------------------------------------------------------------- an edit that changes nothing


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_offsets_give_the_source_back_with_every_solver(solver, steps):
    x, pairs, two = start(), down(steps), isinstance(solver, BELM) and steps > 1
    upward = solver if isinstance(solver, BELM) else DDIM()
    states = inverted(x, pairs, upward)
    both = branches(wavy, solver, pairs, two_states=two, seed=3)
    torch.testing.assert_close(carry_offset(both, states), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", STEPS)
def test_noise_maps_give_the_source_back(steps):
    for denoiser in (wavy, asymmetric):
        both = replace(branches(denoiser, pairs=down(steps)), original=denoiser)
        torch.testing.assert_close(carry_noise_maps(both, start()), start(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("solver", CALM, ids=name)
def test_the_difference_of_a_flow_and_itself_is_nothing(solver, steps):
    both = branches(wavy, solver, down(steps), noises=2)
    torch.testing.assert_close(carry_flow(both, start()), start(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_a_virtual_inversion_of_nothing_is_the_source(solver, steps):
    """Whatever the solver: the steps are its own."""
    both = branches(wavy, solver, down(steps), seed=3)
    torch.testing.assert_close(carry_ddcm(both, start()), start(), rtol=0, atol=1e-9)
    other = replace(branches(pull, solver, down(steps)), seed=3)
    usual = replace(other, solver=DDIM())
    assert torch.equal(carry_ddcm(other, start()), carry_ddcm(usual, start()))


# -------------------------------------------------------------------- against plain implementations


def test_offsets_are_those_of_direct_inversion():
    """DDIM written out: both branches side by side, the source's offset added to both."""
    x = start()
    states = states_up(wavy, x, pairs_up(500, 40), SCHEDULE, DDIM(), times_down(SIX))
    source = edited = states[:, 0]
    for k, (t, t_next) in enumerate(SIX):
        ends = []
        for branch, denoiser in ((source, wavy), (edited, pull)):
            eps = denoiser(branch, torch.full((2,), t)).eps
            x0 = (branch - math.sqrt(1 - A(t)) * eps) / math.sqrt(A(t))
            ends.append(math.sqrt(A(t_next)) * x0 + math.sqrt(1 - A(t_next)) * eps)
        offset = states[:, k + 1] - ends[0]
        source, edited = ends[0] + offset, ends[1] + offset
    made = carry_offset(branches(pull), states)
    torch.testing.assert_close(made, edited, rtol=0, atol=1e-9)
    torch.testing.assert_close(source, x, rtol=0, atol=1e-9)
    assert float((made - x).abs().max()) > 0.1


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_noise_maps_are_the_edit_friendly_ones(weight):
    """z_t and sigma_t written out, the source's drift removed; the weight is TurboEdit's."""
    x, noise = start(), ImageNoise(["carry/a", "carry/b"], 5)
    noised = [math.sqrt(A(t)) * x + math.sqrt(1 - A(t)) * noise.like(x) for t, _ in SIX] + [x]

    def mean(denoiser, now, t, t_next):
        eps = denoiser(now, torch.full((2,), t)).eps
        sigma = math.sqrt((1 - A(t_next)) / (1 - A(t)) * (1 - A(t) / A(t_next)))
        x0 = (now - math.sqrt(1 - A(t)) * eps) / math.sqrt(A(t))
        return math.sqrt(A(t_next)) * x0 + math.sqrt(1 - A(t_next) - sigma**2) * eps, sigma

    edited = noised[0]
    for k, (t, t_next) in enumerate(SIX):
        of_source, sigma = mean(wavy, noised[k], t, t_next)
        plain, whole = mean(wavy, edited, t, t_next)[0], mean(pull, edited, t, t_next)[0]
        if sigma:
            z = (noised[k + 1] - of_source) / sigma
            edited = plain + weight * (whole - plain) + sigma * z
        else:  # TurboEdit's form, where the source itself comes back
            edited = noised[k + 1] + plain - of_source + weight * (whole - plain)

    def weighted(now, t):
        return Prediction((1 - weight) * wavy(now, t).eps + weight * pull(now, t).eps)

    made = carry_noise_maps(branches(weighted, seed=5), x)
    torch.testing.assert_close(made, edited, rtol=0, atol=1e-9)


@pytest.mark.parametrize("noises", [1, 3])
def test_a_flow_is_flow_edits(noises):
    """z += (rho' - rho) mean_n [eps_1(sqrt(a) (z + rho n)) - eps_0(sqrt(a) (x + rho n))]."""
    x, noise = start(), ImageNoise(["carry/a", "carry/b"], 0)
    z = x
    for t, t_next in SIX:
        total, times = 0, torch.full((2,), t)
        for _ in range(noises):
            n = noise.like(x)
            noised = math.sqrt(A(t)) * (x + rho(t) * n)
            moved = math.sqrt(A(t)) * (z + rho(t) * n)
            total = total + pull(moved, times).eps - wavy(noised, times).eps
        z = z + (rho(t_next) - rho(t)) * total / noises
    made = carry_flow(branches(pull, noises=noises), x)
    torch.testing.assert_close(made, z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pairs", [SIX, pairs_down(500, 6, "to_t0")], ids=["clean", "t0"])
def test_ddcm_is_the_virtual_inversion_of_infedit(pairs):
    """Both branches written out, with eps_c that brings x_t back to the source."""
    x, noise = start(), ImageNoise(["carry/a", "carry/b"], 5)
    first = noise.like(x)
    source = edited = math.sqrt(A(500)) * x + math.sqrt(1 - A(500)) * first
    for t, t_next in pairs:
        times = torch.full((2,), t)
        consistent = (source - math.sqrt(A(t)) * x) / math.sqrt(1 - A(t))
        eps = pull(edited, times).eps - wavy(source, times).eps + consistent
        x0 = (edited - math.sqrt(1 - A(t)) * eps) / math.sqrt(A(t))
        if t_next == pairs[-1][1]:
            break
        n = noise.like(x)
        source = math.sqrt(A(t_next)) * x + math.sqrt(1 - A(t_next)) * n
        edited = math.sqrt(A(t_next)) * x0 + math.sqrt(1 - A(t_next)) * n
    made = carry_ddcm(branches(pull, pairs=pairs, seed=5), x)
    torch.testing.assert_close(made, x0, rtol=0, atol=1e-9)
    assert float((made - x).abs().max()) > 0.1


def test_a_constant_difference_is_taken_whole_at_every_step_of_ddcm():
    """c = - sum of rho times the difference: each step goes to the clean image."""
    both = replace(branches(constant(0.5)), original=constant(0.2))
    expected = start() - 0.3 * sum(rho(t) for t, _ in SIX)
    torch.testing.assert_close(carry_ddcm(both, start()), expected, rtol=0, atol=1e-9)


def test_ddcm_sees_only_the_x0_of_an_asymmetric_step():
    both, alike = branches(asymmetric), branches(lambda x, t: Prediction(asymmetric(x, t).x0_eps))
    torch.testing.assert_close(carry_ddcm(both, start()), carry_ddcm(alike, start()))


OF_EPS = [solver for solver in CALM if not isinstance(solver, DPMPP2M)]  # that one follows x0


@pytest.mark.parametrize("solver", OF_EPS, ids=name)
def test_a_constant_difference_is_followed_exactly_by_every_solver_of_eps(solver):
    both = replace(branches(constant(0.5), solver), original=constant(0.2))
    expected = start() - rho(500) * 0.3
    torch.testing.assert_close(carry_flow(both, start()), expected, rtol=0, atol=1e-9)


def test_a_flow_keeps_apart_the_two_noises_of_an_asymmetric_step():
    """Euler's: z' = z + (rho' d eps - rho d x0_eps), with d the difference to the source's branch."""
    pairs = [(500, 250), (250, CLEAN)]
    x, noise, z = start(), ImageNoise(["carry/a", "carry/b"], 0), start()
    for t, t_next in pairs:
        n, times = noise.like(x), torch.full((2,), t)
        plain = wavy(math.sqrt(A(t)) * (x + rho(t) * n), times).eps
        whole = asymmetric(math.sqrt(A(t)) * (z + rho(t) * n), times)
        z = z + rho(t_next) * (whole.eps - plain) - rho(t) * (whole.x0_eps - plain)
    made = carry_flow(branches(asymmetric, pairs=pairs), x)
    torch.testing.assert_close(made, z, rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------ rows and states


@pytest.mark.parametrize("way", [carry_noise_maps, carry_flow, carry_ddcm, carry_offset])
def test_copies_of_an_image_are_carried_as_it_is_alone(way):
    x = start()
    begin = inverted(x, SIX) if way is carry_offset else x
    alone = way(branches(pull), begin)
    copied = way(branches(pull, copies=3, noises=1), begin)
    torch.testing.assert_close(copied.unflatten(0, (2, 3))[:, 1], alone, rtol=0, atol=1e-12)


def test_states_between_the_nodes_are_where_ddim_passes():
    """An inversion's state at another timestep is that of DDIM's step that ends there."""
    x, up = start(), pairs_up(500, 5)
    states = states_up(wavy, x, up, SCHEDULE, DDIM(), [500, 300, 0, CLEAN])
    end = sample(wavy, x, up, SCHEDULE)
    partly = sample(wavy, x, [(0, 125), (125, 250), (250, 300)], SCHEDULE)
    torch.testing.assert_close(states[:, 0], end, rtol=0, atol=1e-12)
    torch.testing.assert_close(states[:, 1], partly, rtol=0, atol=1e-12)
    assert torch.equal(states[:, 2], x) and torch.equal(states[:, 3], x)


def test_a_straight_line_is_the_image_noised_with_one_noise():
    x, n = start(), start(seed=1)
    latent = math.sqrt(A(500)) * x + math.sqrt(1 - A(500)) * n
    states = states_between([(CLEAN, x), (500, latent)], x, [500, 200, CLEAN], SCHEDULE)
    middle = math.sqrt(A(200)) * x + math.sqrt(1 - A(200)) * n
    torch.testing.assert_close(states[:, 1], middle, rtol=0, atol=1e-9)
