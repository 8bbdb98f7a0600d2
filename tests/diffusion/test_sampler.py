import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dclip.diffusion.noise import ImageNoise, image_seed
from dclip.diffusion.sampler import DDIM, DDPM, Evaluation, Prediction, predict_x0, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import pairs_down, pairs_up
from helpers.denoisers import asymmetric, constant, start, wavy

SCHEDULE = Schedule()
A = SCHEDULE.alpha_bar


def optimal_for_normal_data(x, t):
    """E[eps | x_t] = sqrt(1 - a_t) x for data from N(0, 1)."""
    return Prediction(math.sqrt(1 - A(int(t[0]))) * x)


class Fixed:
    """Noise that is the same number everywhere."""

    def __init__(self, value):
        self.value = value

    def like(self, x):
        return torch.full_like(x, self.value)


# ------------------------------------------------------------------------------------------- closed form


@pytest.mark.parametrize("steps", [2, 6, 40])
def test_a_constant_eps_carries_x_exactly_where_the_ode_says(steps):
    # with y = x / sqrt(a) and s = sqrt((1 - a) / a) the DDIM ODE is dy/ds = eps
    x, c, t0 = start(), 0.7, 500
    up = sample(constant(c), x, pairs_up(t0, steps), SCHEDULE)
    s = [math.sqrt((1 - A(t)) / A(t)) for t in (0, t0)]
    expected = math.sqrt(A(t0)) * (x / math.sqrt(A(0)) + (s[1] - s[0]) * c)
    torch.testing.assert_close(up, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("s_for", "s_gen"), [(2, 2), (40, 6), (6, 40)])
def test_a_constant_eps_is_reconstructed_exactly(s_for, s_gen):
    x = start()
    latent = sample(constant(-0.4), x, pairs_up(601, s_for), SCHEDULE)
    again = sample(constant(-0.4), latent, pairs_down(601, s_gen, "to_t0"), SCHEDULE)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-10)
    clean = sample(constant(-0.4), latent, pairs_down(601, s_gen, "to_clean"), SCHEDULE)
    torch.testing.assert_close(
        clean, (x + 0.4 * math.sqrt(1 - A(0))) / math.sqrt(A(0)), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("final", ["to_t0", "to_clean"])
def test_the_linear_eps_turns_by_the_angles_of_the_schedule(final):
    # with sqrt(a) = cos(theta) one DDIM step multiplies x by cos(theta' - theta)
    def theta(t):
        return math.acos(math.sqrt(A(t)))

    x, up, down = start(), pairs_up(500, 40), pairs_down(500, 6, final)
    factor = math.prod(math.cos(theta(b) - theta(a)) for a, b in [*up, *down])
    end = sample(
        optimal_for_normal_data, sample(optimal_for_normal_data, x, up, SCHEDULE), down, SCHEDULE
    )
    torch.testing.assert_close(end, factor * x, rtol=0, atol=1e-10)


def test_the_linear_eps_converges_to_the_start_at_first_order():
    # the exact ODE leaves x as it is
    x, errors = start(), []
    for steps in (11, 21, 41, 81, 161):
        latent = sample(optimal_for_normal_data, x, pairs_up(500, steps), SCHEDULE)
        again = sample(optimal_for_normal_data, latent, pairs_down(500, steps, "to_t0"), SCHEDULE)
        errors.append(float((again - x).abs().max() / x.abs().max()))
    ratios = [a / b for a, b in pairwise(errors)]
    assert errors[0] > 1e-3
    assert errors[-1] < 0.02
    assert all(1.85 < r < 2.15 for r in ratios), ratios


def test_inversion_asks_the_network_at_the_lower_timestep_of_every_pair():
    seen = []

    def eps_fn(x, t):
        seen.append(t.tolist())
        return Prediction(x)

    sample(eps_fn, start(), [(0, 100), (100, 250)], SCHEDULE)
    assert seen == [[0, 0], [100, 100]]


def test_predict_x0_undoes_the_forward_process():
    x0, eps, a = start(seed=1), start(seed=2), A(321)
    torch.testing.assert_close(
        predict_x0(math.sqrt(a) * x0 + math.sqrt(1 - a) * eps, eps, a), x0, rtol=0, atol=1e-10
    )


def test_gradients_flow_through_the_whole_chain():
    x = start().requires_grad_()
    sample(wavy, x, pairs_down(500, 6), SCHEDULE).sum().backward()
    assert float(x.grad.abs().min()) > 0


# ------------------------------------------------------------------------------------------- two noises


def test_an_asymmetric_step_predicts_x0_from_one_noise_and_points_back_with_the_other():
    x, a, b, t = start(), A(400), A(300), torch.full((2,), 400)
    made = sample(asymmetric, x, [(400, 300)], SCHEDULE)
    back, of_x0 = wavy(x, t).eps, 0.9 * wavy(x, t).eps - 0.1
    x0 = (x - math.sqrt(1 - a) * of_x0) / math.sqrt(a)
    torch.testing.assert_close(made, math.sqrt(b) * x0 + math.sqrt(1 - b) * back)
    clipped = sample(asymmetric, x, [(400, 300)], SCHEDULE, clip_x0=True)
    expected = math.sqrt(b) * x0.clamp(-1, 1) + math.sqrt(1 - b) * back
    torch.testing.assert_close(clipped, expected)


def test_ancestral_steps_follow_the_noise_of_x0():
    x, pairs = start(), [(400, 300)]
    made = sample(asymmetric, x, pairs, SCHEDULE, solver=DDPM(), noise=ImageNoise("ab"))
    alone = sample(
        lambda x, t: Prediction(asymmetric(x, t).x0_eps),
        x,
        pairs,
        SCHEDULE,
        solver=DDPM(),
        noise=ImageNoise("ab"),
    )
    assert torch.equal(made, alone)


# ------------------------------------------------------------------------------------------- ancestral sampling


def test_ddpm_over_all_steps_is_the_algorithm_of_ho_et_al():
    ids, x = ["a", "b"], start()
    ours = sample(wavy, x, pairs_down(999, 1000), SCHEDULE, solver=DDPM(), noise=ImageNoise(ids, 3))

    betas = np.linspace(1e-4, 0.02, 1000)
    alphas, bars = 1 - betas, np.cumprod(1 - betas)
    drawers = [torch.Generator().manual_seed(image_seed(3, name)) for name in ids]
    y = x.numpy().copy()
    for t in range(999, -1, -1):
        eps = 0.5 * np.sin(2 * y) + t / 2000
        y = (y - betas[t] / np.sqrt(1 - bars[t]) * eps) / np.sqrt(alphas[t])
        if t > 0:
            z = np.stack([torch.randn(3, 4, 4, generator=g).numpy() for g in drawers]).astype(
                np.float64
            )
            y = y + np.sqrt((1 - bars[t - 1]) / (1 - bars[t]) * betas[t]) * z
    np.testing.assert_allclose(ours.numpy(), y, rtol=1e-7, atol=1e-7)


def sigma_of(solver, t, t_next, fraction=None):
    """The standard deviation a solver adds, seen from outside."""
    x = start()
    eps = wavy(x, torch.full((2,), t)).eps
    step = Evaluation(t, x, eps, predict_x0(x, eps, A(t)), fraction).toward(t_next)
    return solver.advance(step, SCHEDULE, Fixed(1.0)) - solver.advance(step, SCHEDULE, Fixed(0.0))


@pytest.mark.parametrize(("t", "t_next"), [(500, 400), (999, 0), (101, 100)])
def test_ddpm_variance_honours_the_stride(t, t_next):
    beta = 1 - A(t) / A(t_next)
    small = math.sqrt(beta * (1 - A(t_next)) / (1 - A(t)))
    for variance, expected in (("fixed_small", small), ("fixed_large", math.sqrt(beta))):
        sigma = sigma_of(DDPM(variance), t, t_next)
        torch.testing.assert_close(sigma, torch.full_like(sigma, expected), rtol=1e-6, atol=1e-9)


def test_a_strided_ddpm_keeps_normal_data_normal():
    # for N(0, 1) data and its optimal eps, the exact posterior of any stride has mean sqrt(a/a') x and keeps the variance at 1
    t, t_next = 600, 300
    x = start()
    eps = optimal_for_normal_data(x, torch.full((2,), t)).eps
    step = Evaluation(t, x, eps, predict_x0(x, eps, A(t))).toward(t_next)
    mean = DDPM("fixed_large").advance(step, SCHEDULE, Fixed(0.0))
    torch.testing.assert_close(mean, math.sqrt(A(t) / A(t_next)) * x, rtol=0, atol=1e-10)
    sigma = sigma_of(DDPM("fixed_large"), t, t_next)
    torch.testing.assert_close(
        A(t) / A(t_next) + sigma**2, torch.ones_like(sigma), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("value", [-1.0, -0.3, 0.0, 0.6, 1.0])
def test_learned_range_interpolates_between_the_two_logarithms(value):
    t, t_next = 700, 550
    fraction = torch.full((2, 3, 4, 4), value, dtype=torch.float64)
    beta = 1 - A(t) / A(t_next)
    small = beta * (1 - A(t_next)) / (1 - A(t))
    share = (value + 1) / 2
    expected = math.sqrt(beta**share * small ** (1 - share))
    sigma = sigma_of(DDPM("learned_range"), t, t_next, fraction)
    torch.testing.assert_close(sigma, torch.full_like(sigma, expected), rtol=1e-6, atol=1e-9)


def test_the_sampler_passes_a_networks_fraction_on():
    fraction = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    pairs = [(500, 400)]
    learned = sample(
        lambda x, t: Prediction(wavy(x, t).eps, fraction),
        start(),
        pairs,
        SCHEDULE,
        solver=DDPM("learned_range"),
        noise=ImageNoise("ab"),
    )
    large = sample(
        wavy, start(), pairs, SCHEDULE, solver=DDPM("fixed_large"), noise=ImageNoise("ab")
    )
    torch.testing.assert_close(learned, large)


@pytest.mark.parametrize(
    "pairs", [pairs_down(999, 1000)[:60], pairs_down(600, 7)], ids=["full grid", "strided"]
)
def test_ddim_with_eta_one_is_ddpm_with_the_small_variance(pairs):
    one, other = (
        sample(wavy, start(), pairs, SCHEDULE, solver=s, noise=ImageNoise("ab", 5))
        for s in (DDIM(1.0), DDPM())
    )
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(one, sample(wavy, start(), pairs, SCHEDULE))


@pytest.mark.parametrize("solver", [DDPM(), DDIM(1.0)])
def test_stochastic_steps_refuse_to_go_up_or_without_noise(solver):
    with pytest.raises(ValueError, match=r"DDIM|eta=0"):
        sample(wavy, start(), [(0, 100)], SCHEDULE, solver=solver, noise=ImageNoise("ab"))
    with pytest.raises(ValueError, match="needs noise"):
        sample(wavy, start(), [(500, 400)], SCHEDULE, solver=solver)


def test_learned_range_without_a_fraction_is_refused():
    with pytest.raises(ValueError, match="learned_range"):
        sample(
            wavy,
            start(),
            [(500, 400)],
            SCHEDULE,
            solver=DDPM("learned_range"),
            noise=ImageNoise("ab"),
        )


# ------------------------------------------------------------------------------------------- noise, clipping


@pytest.mark.parametrize("solver", [DDPM(), DDIM(0.7), DDIM()])
def test_a_batch_of_one_gives_the_picture_of_a_batch_of_four(solver):
    ids, x, pairs = list("abcd"), start(4), pairs_down(700, 12)
    whole = sample(wavy, x, pairs, SCHEDULE, solver=solver, noise=ImageNoise(ids, 1))
    singles = [
        sample(wavy, x[i : i + 1], pairs, SCHEDULE, solver=solver, noise=ImageNoise([ids[i]], 1))
        for i in range(4)
    ]
    torch.testing.assert_close(whole, torch.cat(singles), rtol=0, atol=1e-12)


def test_noise_for_another_number_of_images_is_refused():
    with pytest.raises(ValueError, match="noise for 2 images was asked for a batch of 3"):
        ImageNoise("ab").like(torch.empty(3, 3, 2, 2))


@pytest.mark.parametrize("solver", [DDIM(), DDPM()])
def test_clip_x0_keeps_every_predicted_image_in_range(solver):
    seen = {True: [], False: []}
    for clipped, x0s in seen.items():
        sample(
            constant(-3.0), start(), pairs_down(900, 10), SCHEDULE, solver=solver, noise=ImageNoise("ab"), clip_x0=clipped,
            on_step=lambda step, x0s=x0s: x0s.append(float(step.x0.abs().max())),
        )  # fmt: skip
    assert len(seen[True]) == 10
    assert max(seen[True]) <= 1
    assert max(seen[False]) > 1


def test_clip_x0_changes_nothing_where_x0_is_in_range():
    x = 0.5 * torch.ones(2, 3, 4, 4, dtype=torch.float64)
    kept = [sample(constant(0.1), x, pairs_down(50, 5), SCHEDULE, clip_x0=c) for c in (False, True)]
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=1e-10)
