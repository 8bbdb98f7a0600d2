import math
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from dclip.config import Metrics, NoMetrics
from dclip.data.domains import true_images
from dclip.data.toonfaces.domain import LOOKS
from dclip.data.toonfaces.faces import ATTRIBUTES, labels, sample_face
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import TRUTHS, Truth
from dclip.errors import DclipError
from dclip.metrics import contract, names
from dclip.metrics import functional as F
from dclip.metrics.contract import METRICS, Metric
from dclip.metrics.distribution import Kernels, kid
from dclip.metrics.features import judge_features
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import REASONS, measure
from dclip.metrics.words import Need, Switch
from dclip.models.identity import IdentityModel, IrSe, IrSeConfig
from dclip.models.judge import Judge
from dclip.types import Edited, Images
from helpers.runs import ROOT


def random_images(n=3, size=32, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def bytes_of(x):
    return np.rint((np.clip(x.numpy().astype(np.float64), -1, 1) + 1) * 127.5)


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    net = Judge(LOOKS, 4).eval().requires_grad_(False)
    with torch.no_grad():  # so that a random judge's features differ visibly between pictures
        net.hidden[1].weight.mul_(3000)
    return net


@pytest.fixture(scope="module")
def identity():
    torch.manual_seed(0)
    return IdentityModel(
        IrSe(IrSeConfig(64, 8, ((8, 1), (8, 1), (8, 1)), 16, 0.2)).eval().requires_grad_(False)
    )


@pytest.fixture(scope="module")
def faces():
    return toonfaces("test", 8, TRUTHS["red_hair"])


# ------------------------------------------------------------------------------------------- pixels


def test_mae_and_psnr_are_numpys_on_eight_bits():
    a, b = random_images(seed=1), random_images(seed=2) * 0.4
    x, y = bytes_of(a) / 255, bytes_of(b) / 255
    np.testing.assert_allclose(F.mae(a, b).numpy(), np.abs(x - y).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(
        F.psnr(a, b).numpy(), 10 * np.log10(1 / ((x - y) ** 2).mean((1, 2, 3))), rtol=1e-5
    )


def test_pixels_out_of_range_count_as_the_file_would_hold_them():
    a = torch.full((1, 3, 4, 4), 1.7)
    assert float(F.mae(a, torch.ones(1, 3, 4, 4))) == 0
    assert float(F.mae(-a, torch.ones(1, 3, 4, 4))) == 1
    assert float(F.psnr(-a, torch.ones(1, 3, 4, 4))) == pytest.approx(0, abs=1e-5)


def ssim_by_hand(a, b):
    """Wang et al. 2004 with an 11-tap Gaussian of sigma 1.5, borders mirrored, mean over pixels and channels."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(z):
        return correlate1d(correlate1d(z, taps, 0, mode="mirror"), taps, 1, mode="mirror")

    values = []
    for x, y in zip(a, b, strict=True):  # channels of one picture
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        values.append(
            (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
        )
    return np.mean(values)


def test_ssim_is_that_of_an_independent_implementation(faces):
    a = faces.pixels[:4]
    b = (a + 0.3 * random_images(4, 64, seed=3)).clamp(-1, 1)
    expected = [
        ssim_by_hand(x, y) for x, y in zip(bytes_of(a) / 255, bytes_of(b) / 255, strict=True)
    ]
    assert 0.1 < min(expected) < 0.99
    np.testing.assert_allclose(F.ssim(a, b).numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(F.ssim(a[:1], b[:1]).numpy(), expected[:1], atol=2e-4)


def test_part_agreement_is_the_share_of_equal_pixels():
    a = torch.zeros(2, 4, 4, dtype=torch.long)
    b = a.clone()
    b[1, 0] = 3
    assert F.part_agreement(a, b).tolist() == [1.0, 0.75]


# ------------------------------------------------------------------------------------------- KID


def kid_by_hand(x, y):
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    m, d = x.shape

    def kernel(p, q):
        return (p @ q.T / d + 1) ** 3

    kxx, kyy, kxy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = (kxx.sum() - np.trace(kxx) + kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    return within - 2 * kxy.mean()


def features_of(judge, pixels):
    return judge.features(torch.from_numpy(bytes_of(pixels) / 255 * 2 - 1).float()).numpy()


def test_kid_over_the_whole_set_is_the_plain_polynomial_kernel(judge, faces):
    a, b = faces.pixels, (faces.pixels * 0.5 + 0.3).clamp(-1, 1)
    extract = judge_features(judge)
    real, fake = extract(a), extract(b)
    np.testing.assert_allclose(real.numpy(), features_of(judge, a), rtol=1e-3, atol=1e-3)
    expected = kid_by_hand(real.numpy(), fake.numpy())
    assert abs(expected) > 1e-4
    assert kid(Kernels.of(real, fake)) == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def few(monkeypatch):
    """Sets of two images are compared, too."""
    monkeypatch.setattr("dclip.metrics.sets.FEWEST", 2)


@pytest.mark.parametrize("with_truth", [False, True])
def test_measured_kid_is_the_plain_kernel_on_its_own_subset(judge, faces, with_truth, few):
    result = (faces.pixels * 0.5 + 0.3).clamp(-1, 1)
    truth = true_images(faces, TRUTHS["red_hair"]) if with_truth else None
    options = Metrics(
        pixels=False,
        lpips=False,
        clip=False,
        identity=False,
        judge=False,
        kid_subsets=1,
        kid_subset=4,
    )
    scores = measure(Edited(faces, result, truth), options, Scorers(judge=judge)).values
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2020)
        real, fake = (torch.randperm(8)[:4].numpy() for _ in range(2))
    extract, reference = judge_features(judge), truth if with_truth else faces.pixels
    expected = kid_by_hand(extract(reference).numpy()[real], extract(result).numpy()[fake])
    assert scores["kid"] == pytest.approx(expected, rel=1e-6)
    assert scores["kid_low"] < scores["kid_high"]
    assert (
        scores["kid_features"] == f"judge, 4 of 8, against {'truth' if with_truth else 'sources'}"
    )


def test_kid_counts_an_image_once_however_many_variants_it_has(judge, faces, few):
    result = (faces.pixels * 0.5 + 0.3).clamp(-1, 1)
    options = Metrics(**dict.fromkeys(("pixels", "lpips", "clip", "identity", "judge"), False))
    once = measure(Edited(faces, result), options, Scorers(judge=judge)).values
    others = torch.stack([result, -result], 1).flatten(0, 1)
    twice = measure(
        Edited(faces.repeat(2), others), options, Scorers(judge=judge), variants=2
    ).values
    for name in ("kid", "kid_std", "kid_low", "kid_high"):
        assert twice[name] == pytest.approx(once[name], rel=1e-5)
    assert twice["kid_features"] == once["kid_features"]


def test_measuring_leaves_the_global_random_numbers_alone(judge, faces, few):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    measure(Edited(faces, faces.pixels), Metrics(kid_subsets=3), Scorers(judge=judge))
    assert torch.equal(torch.rand(3), expected)


# ------------------------------------------------------------------------------------------- the judge


def kept(edit, *faces):
    return [TRUTHS[edit].kept(face) for face in faces]


def test_judged_success_counts_the_target_value_only():
    face = sample_face("test", 0)
    seen = [face.with_(hair_color=color) for color in ("red", "brown", "blue")]
    assert F.judged_success(seen, TRUTHS["red_hair"].goal).tolist() == [1, 0, 0]


def test_judged_preservation_is_the_share_of_all_other_visible_attributes():
    face = sample_face("test", 0).with_(expression="smiling", background="white", clothes="dress")
    others = len(ATTRIBUTES) - 1
    changed = face.with_(hair_color="red", background="mint", clothes="shirt")
    seen = [face, face.with_(hair_color="red"), changed]
    shares = F.judged_preservation(seen, kept("red_hair", face, face, face))
    assert shares.tolist() == pytest.approx([1, 1, (others - 2) / others])


def test_eyes_that_cannot_be_seen_do_not_count():
    surprised = sample_face("test", 0).with_(expression="surprised", eyes="open")
    assert labels(surprised)["eyes"] == -1
    seen = [surprised.with_(eyes="closed")]
    assert F.judged_preservation(seen, kept("red_hair", surprised)).tolist() == [1]
    calm = surprised.with_(expression="neutral")
    seen = [calm.with_(expression="surprised", eyes="closed")]
    assert F.judged_preservation(seen, kept("surprised", calm)).tolist() == [1]
    shares = F.judged_preservation([calm.with_(eyes="closed")], kept("red_hair", calm))
    assert shares.tolist() == pytest.approx([1 - 1 / (len(ATTRIBUTES) - 1)])


# ------------------------------------------------------------------------------------------- measure


def test_an_edit_that_changes_nothing_scores_as_nothing(clip, judge, identity, faces):
    edited = Edited(faces, faces.pixels.clone(), true_images(faces, TRUTHS["red_hair"]))
    texts = ("person", "person with red hair")
    scores = measure(
        edited, Metrics(), Scorers(clip, clip, identity, judge), texts, TRUTHS["red_hair"]
    )
    assert scores.values["mae"] == 0
    assert scores.values["psnr"] == 100
    assert scores.values["ssim"] == pytest.approx(1, abs=1e-5)
    assert scores.values["counterfactual_ratio"] == 1
    assert scores.values["id"] == pytest.approx(1, abs=1e-5)
    assert scores.values["sc"] == 1
    assert scores.values["s_dir"] == 0
    assert scores.values["s_dir_heldout"] == 0
    assert all(math.isfinite(v) for v in scores.values.values() if isinstance(v, float))


def test_the_true_edit_has_no_distance_to_the_truth(judge, faces):
    truth = true_images(faces, TRUTHS["red_hair"])
    scores = measure(Edited(faces, truth.clone(), truth), Metrics(), Scorers(judge=judge)).values
    assert scores["counterfactual_ratio"] == 0
    assert scores["mae"] > 0


def test_half_way_to_the_truth_has_about_half_the_distance(faces):
    truth = true_images(faces, TRUTHS["red_hair"])
    scores = measure(Edited(faces, (faces.pixels + truth) / 2, truth), Metrics(), Scorers()).values
    assert scores["counterfactual_ratio"] == pytest.approx(0.5, abs=0.02)


def test_s_dir_is_the_mean_cosine_of_the_two_changes(clip, faces):
    texts, result = ("person", "zombie"), faces.pixels.flip(2)
    scores = measure(Edited(faces, result), Metrics(), Scorers(clip=clip), texts)
    text = clip.text_features(texts).numpy().astype(np.float64)
    with torch.no_grad():
        change = (
            (clip.image_features(result) - clip.image_features(faces.pixels))
            .numpy()
            .astype(np.float64)
        )
    direction = (text[1] - text[0]) / np.linalg.norm(text[1] - text[0])
    expected = (change / np.linalg.norm(change, axis=1, keepdims=True)) @ direction
    assert scores.values["s_dir"] == pytest.approx(expected.mean(), abs=1e-4)
    np.testing.assert_allclose(scores.rows["s_dir"], expected, atol=1e-4)


def test_what_cannot_be_computed_is_absent_with_its_reason(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scores = measure(
        Edited(faces, faces.pixels), Metrics(), Scorers(), ("a", "b"), TRUTHS["red_hair"]
    ).values
    for name in ("s_dir", "s_dir_heldout", "id", "sc", "kid", "lpips"):
        assert name not in scores
        reason = scores[f"{name}_absent"]
        assert isinstance(reason, str)
        assert len(reason) > 10
    assert {"mae", "psnr", "ssim"} <= set(scores)
    assert "counterfactual_ratio" not in scores


def test_a_style_edit_has_no_preservation_and_an_unknown_one_no_success(judge, faces):
    style = measure(
        Edited(faces, faces.pixels), Metrics(), Scorers(judge=judge), truth=Truth("style", "sketch")
    ).values
    assert "judge_success" in style
    assert "style" in style["judge_preservation_absent"]
    unknown = measure(Edited(faces, faces.pixels), Metrics(), Scorers(judge=judge)).values
    assert "judge_success" not in unknown
    assert "not known" in unknown["judge_success_absent"]


def test_too_few_images_have_no_kid(judge, faces):
    few = faces.take(range(3))
    scores = measure(Edited(few, few.pixels), Metrics(), Scorers(judge=judge)).values
    assert "kid" not in scores
    assert "3 images are too few" in scores["kid_absent"]


def test_families_can_be_switched_off(judge, identity, clip, faces):
    off = Metrics(clip=False, identity=False, pixels=False, lpips=False, kid=False, judge=False)
    every = Scorers(clip, clip, identity, judge)
    assert (
        measure(Edited(faces, faces.pixels), off, every, ("a", "b"), TRUTHS["red_hair"]).values
        == {}
    )


def test_no_images_give_no_scores():
    none = Images(torch.zeros(0, 3, 64, 64), ())
    assert measure(Edited(none, none.pixels), Metrics(), Scorers()).values == {}


def test_the_batch_size_never_changes_a_score(clip, judge, identity, faces, few):
    edited = Edited(faces, faces.pixels.flip(3), true_images(faces, TRUTHS["red_hair"]))
    found = []
    for size in (1, 3, 64):
        scores = measure(
            edited,
            Metrics(kid_subsets=3),
            Scorers(clip, None, identity, judge, batch=size),
            ("person", "zombie"),
            TRUTHS["red_hair"],
        )
        found.append(scores)
    for other in found[1:]:
        assert other.values.keys() == found[0].values.keys()
        for name, value in found[0].values.items():
            assert other.values[name] == (
                pytest.approx(value, abs=5e-5, rel=1e-3) if isinstance(value, float) else value
            )
        for name, row in found[0].rows.items():
            assert other.rows[name] == pytest.approx(
                row, abs=3e-4
            )  # a CLIP of random weights makes much of rounding


def test_a_score_is_the_mean_of_its_rows(clip, judge, identity, faces):
    edited = Edited(faces, faces.pixels.flip(3), true_images(faces, TRUTHS["red_hair"]))
    scores = measure(
        edited,
        Metrics(),
        Scorers(clip, clip, identity, judge),
        ("person", "zombie"),
        TRUTHS["red_hair"],
    )
    for name, row in scores.rows.items():
        assert len(row) == 8
        if name in scores.values:
            assert scores.values[name] == pytest.approx(np.mean(row), abs=1e-5)
    assert {
        "mae",
        "psnr",
        "ssim",
        "id",
        "sc",
        "s_dir",
        "judge_success",
        "judge_preservation",
    } <= set(scores.rows)


# ------------------------------------------------------------------------------------------- the list


def test_every_metric_says_what_it_means_in_one_sentence():
    for name, quantity in METRICS.items():
        assert quantity.name == name
        assert quantity.arrow in ("↑", "↓")
        assert quantity.meaning[0].isupper() and quantity.meaning.endswith(".")


def test_every_word_of_a_metric_has_its_setting_and_its_reason():
    assert {*Metrics().switches(), "parts"} >= set(get_args(Switch))
    assert set(REASONS) == set(get_args(Need))
    assert all(not isinstance(metric, Metric) or metric.readers for metric in METRICS.values())


def test_columns_find_their_metric():
    assert names.find("kid_25") is names.find("kid") is METRICS["kid"]
    assert names.find("mae_25") is None and names.find("images") is None
    assert [names.arrow(name) for name in ("mae", "s_dir", "images")] == ["↓", "↑", ""]
    assert [names.higher_is_better(name) for name in ("fid", "id", "x")] == [False, True, None]
    assert names.ordered(["peak_memory_mb", "kid_50", "x", "id", "kid_10"]) == [
        "id",
        "kid_50",
        "kid_10",
        "peak_memory_mb",
    ]


@pytest.fixture
def own_metric():
    """A metric of somebody's own, gone afterwards."""
    before = dict(METRICS)

    @contract.metric("redness", "higher", "How red the result is.")
    def redness(edited, scorers):
        return edited.result[:, 0].mean((1, 2))

    yield redness
    METRICS.clear()
    METRICS.update(before)


def test_a_metric_of_ones_own_is_measured_with_the_others(own_metric, faces):
    edited = Edited(faces, faces.pixels)
    scores = measure(edited, Metrics(kid=False), Scorers())
    np.testing.assert_allclose(scores.rows["redness"], faces.pixels[:, 0].mean((1, 2)), atol=1e-6)
    assert "redness" not in measure(edited, NoMetrics(), Scorers()).values
    assert names.arrow("redness") == "↑"


def test_a_distance_of_ones_own_is_measured_with_the_others(judge, faces, few):
    before = dict(METRICS)

    @contract.set_metric("gap", "lower", "Distance of the means.", readers=("edits",))
    def gap(sets):
        return contract.Scores({"gap": float((sets.real.mean(0) - sets.fake.mean(0)).norm())})

    try:
        scores = measure(Edited(faces, faces.pixels), Metrics(), Scorers(judge=judge)).values
    finally:
        METRICS.clear()
        METRICS.update(before)
    assert scores["gap"] == 0 and "kid" in scores


def test_a_metric_is_refused_under_a_name_that_is_taken_or_with_words_that_mean_nothing():
    with pytest.raises(DclipError, match=r"'mae' of .* exists already, in dclip.metrics.pairs"):
        contract.metric("mae", "lower", "Mine.")(lambda edited, scorers: "no")
    for words, message in (
        ({"better": "more"}, "better has 'more'; choose higher, lower"),
        ({"better": "lower", "needs": ["faces"]}, "needs has 'faces'; choose clip, heldout"),
        ({"better": "lower", "readers": ["tables"]}, "readers has 'tables'; choose edits, folders"),
        ({"better": "lower", "switch": "colour"}, "switch has 'colour'; choose clip, identity"),
    ):
        with pytest.raises(DclipError, match=f"metric 'mine': {message}"):
            contract.metric("mine", meaning="Mine.", **words)(lambda edited, scorers: "no")
    assert "mine" not in METRICS


def test_a_metric_that_does_not_declare_its_network_is_told_so(faces):
    with pytest.raises(DclipError, match=r"uses 'identity'.*needs=\['identity'\]"):
        Scorers().features("identity", faces.pixels)


def test_what_a_network_sees_is_computed_once(identity, faces):
    calls = []
    features = identity.features
    identity.features = lambda x: calls.append(len(x)) or features(x)
    scorers = Scorers(identity=identity)
    first = scorers.features("identity", faces.pixels)
    assert scorers.features("identity", faces.pixels) is first
    scorers.features("identity", faces.pixels.clone())
    scorers.forget()
    scorers.features("identity", faces.pixels)
    del identity.features
    assert calls == [8, 8, 8]


def test_the_list_of_metrics_needs_no_torch():
    code = "import sys, dclip.metrics.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
