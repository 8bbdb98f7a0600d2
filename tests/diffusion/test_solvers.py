import math
from itertools import pairwise

import pytest
import torch

from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDIM, Prediction, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.solvers import AB2, BELM, DPMPP2M, FixedPointSolver, HeunSolver
from dclip.diffusion.timesteps import mirrored, pairs_down, pairs_up
from helpers.denoisers import asymmetric, constant, start, wavy

SCHEDULE = Schedule()
A = SCHEDULE.alpha_bar
SECOND_ORDER = [AB2(), HeunSolver(), DPMPP2M()]


def optimal_for_normal_data(x, t):
    """E[eps | x_t] = sqrt(1 - a_t) x for data from N(0, 1); the exact ODE then leaves x as it is."""
    return Prediction(math.sqrt(1 - A(int(t[0]))) * x)


def counted(eps_fn):
    seen = []
    return seen, lambda x, t: seen.append(int(t[0])) or eps_fn(x, t)


def name(solver):
    return type(solver).__name__


def errors(solver, up, final="to_t0", grid="uniform"):
    x, found = start(), []
    for steps in (21, 41, 81, 161):
        pairs = pairs_up(500, steps, grid) if up else pairs_down(500, steps, final, grid)
        end = sample(optimal_for_normal_data, x, pairs, SCHEDULE, solver=solver)
        found.append(float((end - x).abs().max() / x.abs().max()))
    return found


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("solver", SECOND_ORDER, ids=name)
def test_second_order_solvers_converge_with_the_square_of_the_steps_in_both_directions(solver, up):
    # DPM-Solver++ is of second order in lambda, of which a uniform grid of t has a few huge steps near t = 0
    found = errors(solver, up, grid="log_snr" if isinstance(solver, DPMPP2M) else "uniform")
    ratios = [a / b for a, b in pairwise(found)]
    assert all(r > 3 for r in ratios[1:]), (found, ratios)


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_ddim_converges_at_first_order_and_is_far_behind(up):
    ddim, ab2 = errors(DDIM(), up), errors(AB2(), up)
    assert all(1.7 < a / b < 2.3 for a, b in pairwise(ddim))
    assert ab2[-1] < ddim[-1] / 20


@pytest.mark.parametrize("solver", [*SECOND_ORDER, FixedPointSolver()], ids=name)
def test_a_constant_eps_is_followed_exactly_whatever_the_steps(solver):
    x = start()
    latent = sample(constant(0.7), x, pairs_up(600, 7), SCHEDULE, solver=solver)
    again = sample(
        constant(0.7),
        latent,
        pairs_down(600, 3, "to_t0"),
        SCHEDULE,
        solver=solver,
    )
    if isinstance(solver, DPMPP2M):  # exact for a constant x0, not for a constant eps
        assert float((again - x).abs().max()) < 1
    else:
        torch.testing.assert_close(again, x, rtol=0, atol=1e-9)


def test_dpm_solver_follows_a_constant_x0_exactly():
    def eps_fn(x, t):
        a = A(int(t[0]))
        return Prediction((x - math.sqrt(a) * 0.3) / math.sqrt(1 - a))

    end = sample(eps_fn, start(), pairs_down(900, 4), SCHEDULE, solver=DPMPP2M())
    torch.testing.assert_close(end, torch.full_like(end, 0.3), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("solver", "calls"),
    [(DDIM(), 10), (AB2(), 11), (DPMPP2M(), 10), (HeunSolver(), 19)],
    ids=lambda v: str(v),
)
def test_network_calls_of_a_generation_of_ten_steps(solver, calls):
    seen, eps_fn = counted(wavy)
    sample(eps_fn, start(), pairs_down(500, 10), SCHEDULE, solver=solver)
    assert len(seen) == calls
    assert min(seen) == 0


@pytest.mark.parametrize("final", ["to_clean", "to_t0"])
def test_fixed_point_latents_reconstruct_on_their_own_coarse_grid(final):
    x, down = 0.5 * start(4), pairs_down(500, 6, final)
    latent = sample(wavy, x, mirrored(down), SCHEDULE, solver=FixedPointSolver(60, 1e-9, 0.5))
    again = sample(wavy, latent, down, SCHEDULE)
    plain = sample(wavy, sample(wavy, x, pairs_up(500, 40), SCHEDULE), down, SCHEDULE)
    assert float((again - x).abs().max()) < 1e-6
    assert float((plain - x).abs().mean()) > 1e-3


def test_fixed_point_stops_early_and_every_image_by_itself():
    x = torch.cat([torch.zeros(1, 3, 4, 4, dtype=torch.float64), 0.5 * start(1)])
    up = mirrored(pairs_down(400, 6))
    seen, eps_fn = counted(lambda x, t: Prediction(0.3 * x))
    sample(eps_fn, x[:1], up, SCHEDULE, solver=FixedPointSolver(50, 1e-6))
    easy = len(seen)
    rows = []
    both = sample(
        lambda x, t: rows.append(len(x)) or eps_fn(x, t),
        x,
        up,
        SCHEDULE,
        solver=FixedPointSolver(50, 1e-6),
    )
    alone = torch.cat(
        [sample(eps_fn, one[None], up, SCHEDULE, solver=FixedPointSolver(50, 1e-6)) for one in x]
    )
    assert easy == len(up) + 1  # where a step begins, the one before has looked already
    assert len(rows) > 2 * easy
    assert sum(rows) == easy + len(rows)  # the image that is at rest is not looked at again
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-12)


def test_extrapolation_finds_the_same_fixed_point_with_fewer_calls():
    x, up = 0.5 * start(4), mirrored(pairs_down(500, 6))
    found, calls = [], []
    for accelerate in (False, True):
        seen, eps_fn = counted(lambda x, t: Prediction(0.8 * x + 0.05 * wavy(x, t).eps))
        found.append(
            sample(
                eps_fn, x, up, SCHEDULE, solver=FixedPointSolver(100, 1e-8, accelerate=accelerate)
            )
        )
        calls.append(len(seen))
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)
    assert calls[1] < 0.7 * calls[0], calls


def test_extrapolation_survives_a_network_that_swings_between_two_answers():
    x, up = start(2), mirrored(pairs_down(500, 3))
    for damping in (1.0, 0.5):
        found = sample(
            lambda x, t: Prediction(3 * x.sign()),
            x,
            up,
            SCHEDULE,
            solver=FixedPointSolver(20, 1e-8, damping),
        )
        assert bool(torch.isfinite(found).all())
        assert float(found.abs().max()) < 20


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=name)
def test_a_solver_forgets_between_walks(solver):
    pairs = pairs_down(500, 5)
    first = sample(wavy, start(), pairs, SCHEDULE, solver=solver)
    sample(wavy, start(seed=1), pairs, SCHEDULE, solver=solver)
    torch.testing.assert_close(
        sample(wavy, start(), pairs, SCHEDULE, solver=solver), first, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "solver", [*SECOND_ORDER, FixedPointSolver(), FixedPointSolver(3, 1e-9)], ids=name
)
def test_a_batch_of_one_gives_the_picture_of_a_batch_of_four(solver):
    x, up = start(4), pairs_up(500, 6)
    whole = sample(wavy, x, up, SCHEDULE, solver=solver, noise=ImageNoise("abcd"))
    single = torch.cat([sample(wavy, one[None], up, SCHEDULE, solver=solver) for one in x])
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [*SECOND_ORDER, FixedPointSolver()], ids=name)
def test_gradients_flow_through_every_solver(solver):
    x = start().requires_grad_()
    sample(wavy, x, pairs_down(500, 4), SCHEDULE, solver=solver).sum().backward()
    assert float(x.grad.abs().min()) > 0


@pytest.mark.parametrize("solver", [*SECOND_ORDER, BELM()], ids=name)
def test_solvers_that_follow_one_noise_refuse_two(solver):
    with pytest.raises(ValueError, match=r"another noise than eps.* choose sampler=ddim"):
        sample(asymmetric, start(), pairs_down(500, 4), SCHEDULE, solver=solver)


# ------------------------------------------------------------------------------------------- exactly reversible


@pytest.mark.parametrize("grid", ["rho", "uniform", "quadratic"])
@pytest.mark.parametrize("final", ["to_clean", "to_t0"])
@pytest.mark.parametrize("steps", [3, 6, 20])
def test_belm_brings_an_image_back_to_rounding_however_few_the_steps(steps, final, grid):
    x, down = 0.5 * start(4), pairs_down(500, steps, final, grid)
    latent = sample(wavy, x, mirrored(down), SCHEDULE, solver=BELM())
    assert latent.shape == (4, 2, 3, 4, 4)
    again = sample(wavy, latent, down, SCHEDULE, solver=BELM())
    torch.testing.assert_close(again, x, rtol=0, atol=1e-9)
    single = sample(
        wavy, latent[:, 0], down, SCHEDULE, solver=BELM()
    )  # one state alone is not enough
    assert float((single - x).abs().max()) > 1e-6


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_belm_is_of_second_order(up):
    x, found = start(), []
    for steps in (21, 41, 81, 161):
        down = pairs_down(500, steps, "to_t0", "rho")
        end = sample(
            optimal_for_normal_data, x, mirrored(down) if up else down, SCHEDULE, solver=BELM()
        )
        found.append(float(((end[:, 0] if up else end) - x).abs().max() / x.abs().max()))
    assert found[-1] < 1e-2
    assert all(a / b > 3 for a, b in pairwise(found)), found


def test_belm_follows_a_constant_eps_and_treats_every_image_alone():
    x, down = start(4), pairs_down(600, 7, "to_t0", "rho")
    latent = sample(constant(0.7), x, mirrored(down), SCHEDULE, solver=BELM())
    exact = sample(constant(0.7), x, pairs_up(600, 3), SCHEDULE)
    torch.testing.assert_close(latent[:, 0], exact, rtol=0, atol=1e-9)
    whole = sample(wavy, x, mirrored(down), SCHEDULE, solver=BELM())
    single = torch.cat(
        [sample(wavy, one[None], mirrored(down), SCHEDULE, solver=BELM()) for one in x]
    )
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-9)
