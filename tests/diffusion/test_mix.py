import pytest
import torch

from dclip.diffusion.mix import degree, degrees, mix
from helpers.denoisers import asymmetric, constant, start, wavy

# ------------------------------------------------------------------------------------------- mixtures


def test_a_mixture_is_the_weighted_sum():
    x, t = start(), torch.tensor([5, 5])
    mixed = mix([constant(1.0), constant(10.0), wavy], [0.5, 0.25, 2.0])(x, t).eps
    torch.testing.assert_close(mixed, 0.5 + 2.5 + 2 * wavy(x, t).eps)


def test_weights_may_depend_on_the_timestep():
    eps_fn = mix([constant(1.0), constant(3.0)], lambda t: [t / 100, 1 - t / 100])
    assert float(eps_fn(start(), torch.tensor([100, 100])).eps.mean()) == pytest.approx(1)
    assert float(eps_fn(start(), torch.tensor([25, 25])).eps.mean()) == pytest.approx(2.5)


def test_a_network_without_weight_is_not_called():
    def never(x, t):
        raise AssertionError("called")

    assert float(mix([constant(2.0), never], [1, 0])(start(), torch.tensor([1, 1])).eps.mean()) == 2
    assert float(degree(never, constant(2.0), 1)(start(), torch.tensor([1, 1])).eps.mean()) == 2
    assert float(degree(constant(2.0), never, 0)(start(), torch.tensor([1, 1])).eps.mean()) == 2


def test_degree_goes_from_the_original_to_the_tuned_model_and_beyond():
    for gamma, expected in ((0, 1.0), (0.5, 2.0), (1, 3.0), (1.5, 4.0)):
        assert float(
            degree(constant(1.0), constant(3.0), gamma)(start(), torch.tensor([1, 1])).eps.mean()
        ) == pytest.approx(expected)


def test_a_mixture_without_any_weight_or_with_too_few_is_refused():
    with pytest.raises(ValueError, match="all weights are 0 at t=7"):
        mix([constant(1.0)], [0])(start(), torch.tensor([7, 7]))
    with pytest.raises(ValueError):
        mix([constant(1.0), constant(2.0)], [1])(start(), torch.tensor([7, 7]))


def test_a_mixture_mixes_both_noises_and_guidance_shifts_both():
    x, t = start(), torch.tensor([5, 5])
    mixed = mix([constant(1.0), asymmetric], [0.25, 0.75])(x, t)
    torch.testing.assert_close(mixed.eps, 0.25 + 0.75 * wavy(x, t).eps)
    torch.testing.assert_close(mixed.x0_eps, 0.25 + 0.75 * asymmetric(x, t).x0_eps)
    rows, times = x.repeat_interleave(2, 0), torch.full((4,), 5)
    strip = degrees(constant(1.0), asymmetric, [0.0, 0.75])(rows, times)
    torch.testing.assert_close(strip.x0_eps[1::2], mixed.x0_eps)
    torch.testing.assert_close(strip.eps[::2], torch.ones_like(x))
    shifted = mixed.shifted(x)
    torch.testing.assert_close(mixed.eps - shifted.eps, x)
    torch.testing.assert_close(mixed.x0_eps - shifted.x0_eps, x)
