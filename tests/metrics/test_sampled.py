import math

import pytest
import torch

from dclip.config import Metrics
from dclip.data.toonfaces.domain import LOOKS
from dclip.metrics import distribution as D
from dclip.metrics.features import INCEPTION
from dclip.metrics.sampled import measure_samples
from dclip.models import registry
from dclip.models.judge import Judge
from dclip.text.features import read_prompts
from dclip.text.prompts import Prompt

PROMPTS = [
    Prompt(
        "a smiling person with a beard",
        1.0,
        ("a person", "a zombie"),
        {"expression": "smiling", "beard": "full"},
    )
]


def features(n, shift=0.0, seed=0, d=6):
    return (
        torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        + shift
    )


def images(n, seed=0):
    return torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ------------------------------------------------------------------------------------------- distances


def test_kid_is_that_of_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    real, fake = features(12), features(9, 0.5, seed=1)
    m, n = 9, 9
    expected = float(poly_mmd(real[:m], fake[:n], degree=3, gamma=None, coef=1.0))
    assert D.kid(D.Kernels.of(real[:m], fake)) == pytest.approx(expected, rel=1e-9)


def test_kid_counts_samples_as_often_as_it_is_told():
    real, fake = features(6), features(5, 1.0, seed=1)
    chosen = torch.tensor([1, 1, 0, 1, 0])
    some = D.kid(D.Kernels.of(real, fake), fake=chosen)
    assert some == pytest.approx(D.kid(D.Kernels.of(real, fake[chosen.bool()])), rel=1e-9)


def test_subsets_of_everything_have_no_spread_and_are_the_whole():
    kernels = D.Kernels.of(features(8), features(8, 0.3, seed=1))
    mean, std = D.subset_kid(kernels, 8, 5)
    assert mean == pytest.approx(D.kid(kernels), rel=1e-9)
    assert std == pytest.approx(0, abs=1e-9)
    assert D.subset_kid(kernels, 4, 50)[1] > 0
    assert D.subset_kid(kernels, 4, 50) == D.subset_kid(kernels, 4, 50)
    with pytest.raises(ValueError, match="fewer than the subset size 9"):
        D.subset_kid(kernels, 9)


def test_the_kid_interval_covers_the_truth_and_narrows_with_more_samples():
    def interval(n, shift):
        return D.kid_interval(D.Kernels.of(features(n), features(n, shift, seed=1)), 100)

    low, high = interval(60, 0.0)
    assert low < 0 < high
    assert interval(60, 1.0)[0] > 0
    wide, narrow = (interval(n, 0.5) for n in (15, 120))
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_the_interval_of_a_mean():
    low, high = D.mean_interval(torch.tensor([0.0, 1.0] * 50), 400)
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
    assert D.mean_interval(torch.ones(4), 10) == (1.0, 1.0)


def test_the_frechet_distance_is_that_of_torchmetrics_and_of_the_closed_form():
    from torchmetrics.image.fid import _compute_fid

    real, fake = features(40), 2 * features(30, 0.5, seed=1)
    expected = _compute_fid(real.mean(0), real.T.cov(), fake.mean(0), fake.T.cov())
    assert D.frechet(real, fake) == pytest.approx(float(expected), rel=1e-6)
    assert D.frechet(real, real) == pytest.approx(0, abs=1e-6)
    assert D.frechet(real, real + 2.0) == pytest.approx(4 * 6, rel=1e-6)


# ------------------------------------------------------------------------------------------- what samples show


@pytest.fixture
def few(monkeypatch):
    """Sets of two images are compared, too."""
    monkeypatch.setattr("dclip.metrics.sets.FEWEST", 2)


def measured(clip=None, judge=None, prompts=PROMPTS, reference="none given", n=6, **options):
    readers = {"guide": read_prompts(clip, prompts) if clip else None, "heldout": None}
    return measure_samples(
        images(n), prompts, Metrics(bootstrap=10, **options), readers, judge, reference
    )


def test_the_judge_wants_every_attribute_at_once(monkeypatch):
    judge = Judge(LOOKS, 8).eval()
    seen = {
        "expression": torch.tensor([1, 1, 0, 1, 1, 1]),
        "beard": torch.tensor([3, 3, 3, 0, 0, 3]),
    }
    monkeypatch.setattr(judge, "attributes", lambda x: seen)
    scores = measured(judge=judge, kid=False)
    assert scores.rows["judge_success"] == [1, 1, 0, 0, 0, 1]
    assert scores.values["judge_expression"] == pytest.approx(5 / 6)
    assert scores.values["judge_beard"] == pytest.approx(4 / 6)
    assert scores.values["judge_success_low"] <= 0.5 <= scores.values["judge_success_high"]


def test_what_cannot_be_measured_is_absent_with_its_reason(clip, monkeypatch, tmp_path, few):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    alone = [Prompt("airplane")]
    values = measured(clip, prompts=alone, reference=images(6)).values
    assert "give guidance.distractors" in values["p_target_guide_absent"]
    assert "ToonFaces only" in values["judge_success_absent"]
    assert f"weights fetch {INCEPTION}" in values["kid_10_absent"]
    assert (
        "no attribute"
        in measured(judge=Judge(LOOKS, 8).eval(), prompts=alone, kid=False).values[
            "judge_success_absent"
        ]
    )
    values = measured(clip).values
    assert values["p_target_heldout_absent"].startswith("no held-out CLIP")
    assert values["fid_absent"] == "none given"
    assert not any(name.startswith("kid") and not name.endswith("absent") for name in values)


def test_several_prompts_must_all_hold(clip):
    prompts = [PROMPTS[0], Prompt("red hair", 1.0, ("black hair", "grey hair"))]
    reader = read_prompts(clip, prompts)
    seen = clip.image_features(images(4))
    each = [p[:, 0] for p in reader.probabilities(seen)]
    assert torch.equal(reader.target_probability(seen), torch.minimum(*each))
    for p in reader.probabilities(seen):
        torch.testing.assert_close(p.sum(1), torch.ones(4))


def test_toonfaces_are_compared_by_the_judges_features(few):
    values = measured(
        judge=Judge(LOOKS, 8).eval(), reference=images(8, seed=1), kid_sizes=[2, 6, 50]
    ).values
    assert values["kid_features"] == "judge, 6 images against 8 true ones"
    assert "6 images are fewer" in values["kid_50_absent"]
    assert values["kid_low"] <= values["kid_high"]
    assert values["fid"] > 0


def test_the_reference_faces_truly_show_what_is_asked_for():
    from dclip.data.toonfaces.images import class_images

    faces = class_images({"expression": "smiling", "hair_color": "red"}, 5).facts
    assert all(face["expression"] == "smiling" and face["hair_color"] == "red" for face in faces)
    assert len({face["beard"] + face["clothes"] + face["cut"] for face in faces}) > 1


def test_photographs_are_compared_by_inception_where_its_weights_are_on_disk(
    monkeypatch, tmp_path, few
):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    file = folder / registry.get(INCEPTION).files[0].name
    torch.save({"weight": torch.zeros(1)}, file)
    reason = measured(reference=images(2, seed=1), kid_sizes=[2], prompts=[], n=2).values
    assert "is not the published inception" in reason["kid_2_absent"]
    monkeypatch.setattr(registry, "verdict", lambda *_: (True, ""))
    values = measured(reference=images(2, seed=1), kid_sizes=[2], prompts=[], n=2).values
    assert values["kid_features"].startswith("inception-v3-compat, 2 images")
    assert math.isfinite(values["kid_2"])


def compared(n, m=60, bootstrap=10, size=10):
    """The values of KID and FID of features of n and m images."""
    from dclip.metrics.suite import compare_sets

    sets = D.FeatureSets(
        features(m), features(n, 0.5, seed=1), {"kid_10": size}, "a setting", 5, bootstrap
    )
    return compare_sets("samples", sets).values


@pytest.mark.parametrize(("n", "m"), [(49, 60), (60, 49), (10, 10), (1, 200)])
def test_few_images_have_no_distance_between_sets_but_a_reason(n, m):
    values = compared(n, m)
    assert set(values) == {"kid_10_absent", "fid_absent"}
    for reason in values.values():
        assert f"{min(n, m)} images are too few" in reason and "give 50 or more" in reason


def test_without_a_measured_kid_there_is_no_interval():
    values = compared(50, size=1000)
    assert "50 images are fewer than a subset of 1000" in values.pop("kid_10_absent")
    assert not any("kid" in name for name in values)


def test_kid_comes_with_its_interval_and_fid_with_a_note():
    values = compared(50)
    assert values["kid_10_low"] == values["kid_low"] <= values["kid_10"] <= values["kid_10_high"]
    assert values["fid_note"].startswith("of 50 images, so it is too high")
    assert "fid_note" not in compared(2048, 2048, bootstrap=0)


def test_kid_without_its_interval_is_not_said():
    values = compared(50, bootstrap=0)
    assert "set metric.bootstrap above 0" in values["kid_10_absent"]
    assert "kid_10" not in values and values["fid"] > 0


def test_a_run_of_few_images_says_why_it_has_no_distance():
    values = measured(judge=Judge(LOOKS, 8).eval(), reference=images(60, seed=1)).values
    assert values["kid_50_absent"].startswith("6 images are too few")
    assert values["fid_absent"].startswith("6 images are too few")
