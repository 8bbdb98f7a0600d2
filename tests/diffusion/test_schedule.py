from itertools import pairwise

import numpy as np
import pytest

from dclip.config import FinalStep, Grid
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import CLEAN, check_steps, grid, mirrored, pairs_down, pairs_up


@pytest.mark.parametrize(("t", "expected"), [(0, 0.9999), (500, 0.0778), (999, 4.04e-5)])
def test_alpha_bar_has_the_published_values(t, expected):
    assert Schedule().alpha_bar(t) == pytest.approx(expected, rel=0.01)


def test_alpha_bar_is_the_running_product_of_one_minus_beta():
    product = 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert Schedule().alpha_bar(t) == pytest.approx(product, rel=1e-9)


def test_the_clean_image_has_all_of_the_signal():
    assert CLEAN == -1
    assert Schedule().alpha_bar(CLEAN) == 1.0


def test_tables_are_float64_and_belong_to_their_own_schedule():
    assert Schedule().alpha_bars.numpy().dtype == np.float64
    assert Schedule(steps=10).alpha_bar(9) == pytest.approx(
        float(np.prod(1 - np.linspace(1e-4, 0.02, 10)))
    )
    assert Schedule().alpha_bar(9) == pytest.approx(
        float(np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:10]))
    )


@pytest.mark.parametrize("t", [-2, 1000, 5000])
def test_a_timestep_outside_the_schedule_is_refused(t):
    with pytest.raises(ValueError, match=f"t={t} is outside"):
        Schedule().alpha_bar(t)


@pytest.mark.parametrize(
    ("steps", "t0", "expected"),
    [
        (6, 500, [0, 100, 200, 300, 400, 500]),
        (6, 601, [0, 120, 240, 360, 480, 601]),
        (2, 1, [0, 1]),
        (4, 3, [0, 1, 2, 3]),
    ],
)
def test_grids_are_those_of_the_published_code(steps, t0, expected):
    assert grid(t0, steps) == expected


def test_a_grid_of_forty_steps_starts_as_published_and_ends_at_t0():
    taus = grid(500, 40)
    assert taus[:6] == [0, 12, 25, 38, 51, 64]
    assert taus[-1] == 500
    assert len(taus) == 40


@pytest.mark.parametrize("t0", [1, 7, 300, 500, 601, 999])
def test_the_densest_grid_visits_every_timestep_once(t0):
    assert grid(t0, t0 + 1) == list(range(t0 + 1))


@pytest.mark.parametrize(("t0", "steps"), [(500, 6), (601, 40), (300, 2), (999, 50)])
def test_pairs_up_and_down_mirror_each_other(t0, steps):
    up = pairs_up(t0, steps)
    assert up[0][0] == 0
    assert up[-1][1] == t0
    assert len(up) == steps - 1
    assert all(a < b for a, b in up)
    assert all(before[1] == after[0] for before, after in pairwise(up))
    assert pairs_down(t0, steps, "to_t0") == [(b, a) for a, b in up[::-1]]


def test_the_final_step_is_taken_or_left_as_asked():
    with_it, without = pairs_down(500, 6, FinalStep.to_clean), pairs_down(500, 6, FinalStep.to_t0)
    assert with_it == [*without, (0, -1)]
    assert without == [(500, 400), (400, 300), (300, 200), (200, 100), (100, 0)]
    assert pairs_down(500, 6) == with_it


@pytest.mark.parametrize("kind", list(Grid))
@pytest.mark.parametrize(
    ("t0", "steps"), [(500, 6), (500, 40), (300, 301), (7, 8), (999, 2), (40, 39)]
)
def test_every_kind_of_grid_goes_up_from_zero_to_t0_without_repeating_itself(kind, t0, steps):
    taus = grid(t0, steps, kind)
    assert (taus[0], taus[-1], len(taus)) == (0, t0, steps)
    assert all(a < b for a, b in pairwise(taus))


def test_grids_are_even_in_what_they_are_named_after():
    a = Schedule().alpha_bars.numpy()
    spread = {
        "uniform": np.arange(1000.0), "quadratic": np.sqrt(np.arange(1000)), "log_snr": np.log(a / (1 - a)),
        "rho": np.sqrt((1 - a) / a),
    }  # fmt: skip
    for kind, scale in spread.items():
        gaps = np.abs(np.diff(scale[grid(600, 5, kind)]))
        assert gaps.max() / gaps.min() < 1.1, kind


def test_mirrored_pairs_are_the_way_back():
    assert mirrored([(0, 5), (5, 9)]) == [(9, 5), (5, 0)]
    assert mirrored(pairs_down(500, 6)) == [(-1, 0), *pairs_up(500, 6)]


@pytest.mark.parametrize(
    ("t0", "steps", "words"),
    [
        (0, 2, "t0=0"),
        (-5, 2, "t0=-5"),
        (1000, 6, "t0=1000"),
        (500, 1, "steps=1"),
        (500, 0, "steps=0"),
        (5, 7, "steps=7"),
    ],
)
def test_impossible_grids_are_refused(t0, steps, words):
    for make in (grid, pairs_up, pairs_down):
        with pytest.raises(ValueError, match=words):
            make(t0, steps)


def test_a_refusal_names_the_setting_and_the_choices():
    with pytest.raises(ValueError, match=r"s_gen=9 is impossible with t0=5: choose 2 to 6"):
        check_steps(5, 9, "s_gen")


def test_an_unknown_final_step_is_refused():
    with pytest.raises(ValueError, match="somewhere"):
        pairs_down(500, 6, "somewhere")
