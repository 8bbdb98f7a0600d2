"""Metrics that know the right answer, by hand: pictures of a few greys, and closed forms."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from dclip.config import Metrics, ParserName
from dclip.data.domains import true_images
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.metrics import counterfactual as C
from dclip.metrics.color import changed_share, cie76, lab
from dclip.metrics.contract import Scores
from dclip.metrics.distribution import mean_interval, ratio_interval
from dclip.metrics.error_picture import error_picture
from dclip.metrics.intervals import add_intervals
from dclip.metrics.names import HEADLINE, find, ordered
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.types import Edited, Images

SIDE = 32


def grey(*strips):
    """One picture [1,3,32,32] of vertical strips of equal width, each a byte of grey."""
    row = torch.tensor(strips).repeat_interleave(SIDE // len(strips))
    return (row / 127.5 - 1).expand(1, 3, SIDE, SIDE).clone()


def color(r, g, b):
    return (torch.tensor([r, g, b]) / 127.5 - 1).view(1, 3, 1, 1)


SOURCE = grey(40, 40, 40, 40)
TRUTH = grey(200, 200, 40, 40)  # the left half should change


def approx(expected):
    return pytest.approx(expected, abs=1e-6)


def all_of(result, source=SOURCE, truth=TRUTH):
    """Every number of one picture."""
    found = C.agreement(result, source, truth)
    return {
        "closer": float(C.closer(result, source, truth)),
        "effectiveness": float(C.effectiveness(result, source, truth)),
        "amplification": float(C.amplification(result, source, truth)),
        "edit": float(found.edit),
        "kept": float(found.preservation),
        "iou": float(found.iou),
    }


# --------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((2, 2, 2), (0.548, 0, 0)),  # on the straight part of both curves
    ],
)
def test_lab_is_that_of_the_tables(rgb, expected):
    np.testing.assert_allclose(lab(color(*rgb)).flatten(), expected, atol=0.02)


def test_the_distance_of_greys_is_that_of_their_lightness():
    assert float(cie76(color(200, 200, 200), color(212, 212, 212))) == pytest.approx(4.31, abs=0.01)
    assert float(cie76(color(7, 99, 200), color(7, 99, 200))) == 0


def test_the_share_of_changed_pixels_counts_what_is_noticed():
    assert float(changed_share(grey(40, 41, 60, 40), SOURCE)) == 0.25


# ------------------------------------------------------------------------------------ closed forms


def test_the_truth_scores_one_and_spills_nothing():
    assert all_of(TRUTH) == approx(
        {"closer": 1, "effectiveness": 1, "amplification": 0, "edit": 1, "kept": 1, "iou": 1}
    )


def test_the_untouched_source_scores_nothing_but_what_it_keeps():
    assert all_of(SOURCE) == approx(
        {"closer": 0, "effectiveness": 0, "amplification": 0, "edit": 0, "kept": 1, "iou": 0}
    )


def test_half_way_is_half_as_effective_and_no_pixel_is_right_yet():
    assert all_of(grey(120, 120, 40, 40)) == approx(
        {"closer": 1, "effectiveness": 0.5, "amplification": 0, "edit": 0, "kept": 1, "iou": 0}
    )


def test_what_is_spilled_is_amplification_and_costs_the_background():
    """A third quarter changes as much as each of the two that should."""
    assert all_of(grey(200, 200, 200, 40)) == approx(
        {
            "closer": 1,
            "effectiveness": 1,
            "amplification": math.sqrt(1 / 2),
            "edit": 1,
            "kept": 0.5,
            "iou": 2 / 3,
        }
    )


def test_a_change_in_the_wrong_place_is_further_than_nothing():
    assert all_of(grey(40, 40, 200, 200)) == approx(
        {"closer": 0, "effectiveness": 0, "amplification": 1, "edit": 0, "kept": 0, "iou": 0}
    )


def test_as_near_as_the_source_is_not_nearer():
    assert float(C.closer(grey(200, 40, 200, 40), SOURCE, TRUTH)) == 0


def test_a_colour_that_is_nearly_right_counts_from_its_distance_on():
    """Greys 200 and 212 are 4.31 apart: right within 5, 6, ..., 10, six of eleven thresholds."""
    found = all_of(grey(212, 212, 40, 40))
    assert found["edit"] == pytest.approx(6 / 11)
    assert found["iou"] == pytest.approx(6 / 11)
    assert found["effectiveness"] == pytest.approx(172 / 160)


def test_iou_is_the_mean_of_the_thresholds_own():
    """One quarter is nearly right, one right, one wrong everywhere: (6 * 2 + 5 * 1) / (11 * 3)."""
    found = all_of(grey(212, 200, 120, 40))
    assert found["iou"] == pytest.approx((6 * 2 / 3 + 5 * 1 / 3) / 11)


def test_effectiveness_and_amplification_are_the_parts_of_the_squared_distance():
    random = torch.Generator().manual_seed(0)
    source, truth, result = (torch.rand(5, 3, 8, 8, generator=random) * 2 - 1 for _ in range(3))
    e, a = C.effectiveness(result, source, truth), C.amplification(result, source, truth)
    x, y, z = (np.rint((p.numpy() + 1) * 127.5) for p in (source, truth, result))
    expected = np.square(z - y).sum((1, 2, 3)) / np.square(x - y).sum((1, 2, 3))
    np.testing.assert_allclose((e - 1) ** 2 + a**2, expected, rtol=1e-4)


def test_where_nothing_should_change_only_what_is_kept_means_something():
    found = all_of(grey(200, 40, 40, 40), truth=SOURCE)
    assert found["kept"] == 0.75 and found["edit"] == 1 and found["iou"] == 0
    assert all(math.isnan(found[name]) for name in ("closer", "effectiveness", "amplification"))
    assert all_of(SOURCE, truth=SOURCE)["iou"] == 1


# ----------------------------------------------------------------------------------- the error map


def test_the_error_map_has_a_colour_for_each_of_four_fates():
    result = grey(200, 120, 40, 90)  # right, not far enough, kept, spilled
    found = C.error_map(result, SOURCE, TRUTH)[0, :, 0, ::8]
    fates = ("changed and right", "missed", "kept and right", "wrongly changed")
    for k, fate in enumerate(fates):
        shade = ((found[:, k] + 1) * 127.5).round().int().tolist()
        assert tuple(shade) == C.ERROR_COLORS[fate]
    assert len(set(C.ERROR_COLORS.values())) == 4


def test_the_error_picture_shows_the_map_with_its_legend():
    images = Images(SOURCE, ("a",))
    assert error_picture(Edited(images, TRUTH), "edit") is None
    picture = error_picture(Edited(images, TRUTH, TRUTH), "edit")
    colors = {color for _, color in picture.getcolors(1 << 20)}
    assert set(C.ERROR_COLORS.values()) <= colors


# ----------------------------------------------------------------------------------- measured


@pytest.fixture(scope="module")
def faces():
    return toonfaces("test", 6, TRUTHS["red_hair"])


def test_every_number_is_measured_with_its_interval(faces):
    truth = true_images(faces, TRUTHS["red_hair"])
    half = truth.clone()
    half[:3] = faces.pixels[:3]  # three faces are untouched
    scores = measure(Edited(faces, half, truth), Metrics(lpips=False), Scorers())
    assert scores.values["closer"] == 0.5 and scores.rows["closer"] == [0, 0, 0, 1, 1, 1]
    assert 0 <= scores.values["closer_low"] < 0.5 < scores.values["closer_high"] <= 1
    assert scores.values["preservation_accuracy"] == 1
    assert scores.values["amplification"] == pytest.approx(0, abs=1e-5)
    assert scores.values["effectiveness"] == 0.5
    assert "true_success" not in scores.values  # there is no judge
    low, high = (scores.values[f"counterfactual_ratio_{end}"] for end in ("low", "high"))
    assert 0 <= low < scores.values["counterfactual_ratio"] < high <= 1


class Sure:
    """A judge that sees red hair everywhere."""

    def sees(self, images):
        return [defaultdict(str, hair_color="red")] * len(images)

    def parameters(self):
        return iter([torch.zeros(1)])


def test_true_success_believes_the_judge_only_where_the_truth_agrees(faces):
    truth = true_images(faces, TRUTHS["red_hair"])
    result = truth.clone()
    result[:2] = -1  # painted black, and yet the judge sees red hair
    options = Metrics(clip=False, identity=False, lpips=False, kid=False)
    options.parser = ParserName.none
    edited, scorers = Edited(faces, result, truth), Scorers(judge=Sure())
    scores = measure(edited, options, scorers, truth=TRUTHS["red_hair"])
    assert scores.rows["judge_success"] == [1] * 6
    assert scores.rows["true_success"] == [0, 0, 1, 1, 1, 1]
    assert scores.values["true_success"] == pytest.approx(4 / 6)


def test_without_true_pictures_their_metrics_are_not_mentioned(faces):
    values = measure(Edited(faces, faces.pixels), Metrics(lpips=False), Scorers()).values
    assert not {"closer", "closer_absent", "edit_iou", "edit_iou_absent"} & set(values)
    assert values["changed_pixels"] == 0


def test_the_truth_comes_first_in_tables_and_the_judge_beside_it():
    mixed = ["mae", "judge_success", "seconds_edit", "closer", "s_dir", "counterfactual_ratio"]
    assert ordered(mixed)[:4] == ["closer", "counterfactual_ratio", "judge_success", "s_dir"]
    assert all(find(name) is not None for name in HEADLINE)


# ----------------------------------------------------------------------------------- intervals


def test_the_interval_of_a_ratio_draws_both_means_together():
    below = torch.tensor([1.0, 5.0, 2.0, 9.0])
    assert ratio_interval(below / 2, below, 50) == pytest.approx((0.5, 0.5))
    low, high = ratio_interval(torch.tensor([0.0, 0, 9, 9]), below, 200)
    assert 0 <= low < 18 / 17 < high


def test_pictures_that_mean_nothing_are_left_out_of_means_and_intervals():
    scores = Scores()
    scores.add("closer", torch.tensor([1.0, math.nan, 1.0]))
    scores.add("effectiveness", torch.full((3,), math.nan))
    scores.ratio("counterfactual_ratio", "d", "u", torch.ones(3), torch.zeros(3))
    add_intervals(scores, 20)
    assert scores.values["closer"] == scores.values["closer_low"] == 1
    assert (
        "effectiveness" not in scores.values
        and "means nothing" in scores.values["effectiveness_absent"]
    )
    assert "nothing to change" in scores.values["counterfactual_ratio_absent"]
    assert mean_interval(torch.tensor([2.0, math.nan]), 9) == (2, 2)


def test_variants_of_an_image_are_drawn_together():
    scores = Scores()
    scores.add("closer", torch.tensor([0.0, 1.0] * 5))  # every image: one of two variants
    add_intervals(scores, 50, variants=2)
    assert scores.values["closer_low"] == scores.values["closer_high"] == 0.5
    one = Scores()
    one.add("closer", torch.tensor([0.0, 1.0]))
    add_intervals(one, 50, variants=2)
    assert set(one.values) == {"closer"}
