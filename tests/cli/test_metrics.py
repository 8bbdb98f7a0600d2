"""``dclip metrics``: scores of two folders of pictures, against second implementations, and everything that can be wrong."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from scipy.ndimage import correlate1d

from dclip.cli import metrics
from dclip.data.domains import true_images
from dclip.data.images import exact, save_png
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.errors import DclipError
from dclip.metrics import functional as F
from dclip.metrics.contract import METRICS, metric
from dclip.metrics.names import described, names_of
from dclip.metrics.presets import NOTES, PRESETS
from helpers.runs import ROOT, command

COUNT = 6


@pytest.fixture(scope="module", autouse=True)
def few():
    """Sets of two pictures are compared, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dclip.metrics.sets.FEWEST", 2)
        yield


def pictures_of(folder):
    return [
        np.asarray(Image.open(p)).astype(np.float64) / 255 for p in sorted(folder.glob("*.png"))
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Test faces, and the same with red hair and some noise."""
    root = tmp_path_factory.mktemp("folders")
    faces = toonfaces("test", COUNT, TRUTHS["red_hair"])
    noise = torch.randn(faces.pixels.shape, generator=torch.Generator().manual_seed(0))
    truth = true_images(faces, TRUTHS["red_hair"])
    edited = (truth + 0.1 * noise).clamp(-1, 1)
    for k, name in enumerate(faces.ids):
        save_png(faces.pixels[k], root / "real" / f"{name}.png")
        save_png(edited[k], root / "edited" / f"{name}.png")
        save_png(truth[k], root / "truth" / f"{name}.png")
        mask = Image.new("L", (64, 64))
        mask.paste(255, (0, 0, 32, 64))  # the left half is white
        (root / "mask").mkdir(exist_ok=True)
        mask.save(root / "mask" / f"{name}.png")
    return root


def scored(folders, out, *words):
    code = metrics.main(
        [
            "--real",
            str(folders / "real"),
            "--edited",
            str(folders / "edited"),
            "--output",
            str(out),
            "--device",
            "cpu",
            *words,
        ]
    )
    content = json.loads((out / "metrics.json").read_text("utf-8"))
    rows = {}
    if (out / "rows.csv").is_file():
        with (out / "rows.csv").open(encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        rows = {
            name: [line[name] if name == "image" else float(line[name]) for line in lines]
            for name in lines[0]
        }
    return code, content, rows


TOON = (
    "--domain",
    "toonfaces",
    "--source-text",
    "person",
    "--text",
    "person with red hair",
    "--kid-subset",
    "4",
)


@pytest.fixture(scope="module")
def toon(folders, tmp_path_factory):
    return scored(folders, tmp_path_factory.mktemp("toon"), *TOON, *beside(folders))


def beside(folders):
    return "--truth", str(folders / "truth"), "--mask", str(folders / "mask")


# ------------------------------------------------------------------------------------------- second implementations


def ssim_by_hand(x, y, span=1.0, valid=False):
    """One channel; borders mirrored, or only where the window fits."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(z):
        out = correlate1d(correlate1d(z, taps, 0, mode="mirror"), taps, 1, mode="mirror")
        return out[5:-5, 5:-5] if valid else out

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


def test_pixel_metrics_are_numpys(folders, toon):
    _, content, rows = toon
    real, edited = pictures_of(folders / "real"), pictures_of(folders / "edited")
    mse = [np.square(a - b).mean() for a, b in zip(real, edited, strict=True)]
    np.testing.assert_allclose(
        rows["mae"], [np.abs(a - b).mean() for a, b in zip(real, edited, strict=True)], atol=2e-6
    )
    np.testing.assert_allclose(rows["mse"], mse, atol=2e-6)
    np.testing.assert_allclose(rows["psnr"], -10 * np.log10(mse), atol=1e-3)
    expected = [
        np.mean([ssim_by_hand(a[..., c], b[..., c]) for c in range(3)])
        for a, b in zip(real, edited, strict=True)
    ]
    np.testing.assert_allclose(rows["ssim"], expected, atol=2e-4)
    luma = [[p @ np.array([0.299, 0.587, 0.114]) for p in side] for side in (real, edited)]
    expected = [ssim_by_hand(a, b, valid=True) for a, b in zip(*luma, strict=True)]
    np.testing.assert_allclose(rows["ssim_luma"], expected, atol=2e-4)
    assert 0.1 < min(expected) < max(expected) < 0.99
    assert content["scores"]["psnr"] == pytest.approx(np.mean(rows["psnr"]), abs=1e-5)


def test_kid_and_fid_are_numpys_on_the_same_features(folders, tmp_path):
    from dclip.models.checkpoints import load_judge

    _, content, _ = scored(
        folders,
        tmp_path,
        *TOON,
        "--kid-subset",
        str(COUNT),
        "--kid-subsets",
        "1",
        "--metrics",
        "kid",
        "fid",
    )
    x, y = (
        load_judge()
        .features(
            torch.stack([exact(Image.open(p)) for p in sorted((folders / name).glob("*.png"))])
        )
        .double()
        .numpy()
        for name in ("real", "edited")
    )

    def kernel(p, q):
        return (p @ q.T / p.shape[1] + 1) ** 3

    within = sum(
        (k.sum() - np.trace(k)) / (COUNT * (COUNT - 1)) for k in (kernel(x, x), kernel(y, y))
    )
    assert content["scores"]["kid"] == pytest.approx(within - 2 * kernel(x, y).mean(), rel=1e-4)
    cov = [np.cov(z, rowvar=False) for z in (x, y)]
    root = sqrtm(cov[0] @ cov[1])
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(
        cov[0] + cov[1] - 2 * np.real(root)
    )
    assert content["scores"]["fid"] == pytest.approx(expected, rel=1e-3)


def test_s_dir_clip_text_id_and_sc_are_those_of_the_networks_by_hand(folders, toon):
    from dclip.models.checkpoints import load_clip, load_identity, load_judge

    _, _, rows = toon
    a, b = (
        torch.stack([exact(Image.open(p)) for p in sorted((folders / n).glob("*.png"))])
        for n in ("real", "edited")
    )
    clip, identity, judge = load_clip("toonfaces_heldout"), load_identity(), load_judge()
    with torch.no_grad():
        text = clip.text_features(["person", "person with red hair"]).double().numpy()
        before, after = (clip.image_features(x).double().numpy() for x in (a, b))
        embedded = [identity.features(x).double().numpy() for x in (a, b)]
        parts = [judge.part_map(x).numpy() for x in (a, b)]
    change, direction = after - before, text[1] - text[0]
    cosine = (change @ direction) / np.linalg.norm(change, axis=1) / np.linalg.norm(direction)
    np.testing.assert_allclose(rows["s_dir"], cosine, atol=1e-4)
    np.testing.assert_allclose(rows["clip_text"], after @ text[1], atol=1e-4)
    np.testing.assert_allclose(rows["id"], (embedded[0] * embedded[1]).sum(1), atol=1e-4)
    np.testing.assert_allclose(rows["sc"], (parts[0] == parts[1]).mean((1, 2)), atol=1e-6)
    assert min(rows["s_dir"]) > 0


def test_lpips_is_the_published_sum_over_layers_of_its_trunk(folders, tmp_path, monkeypatch):
    """With a trunk of random weights: the published one is not in the repository, the heads are."""
    from pathlib import Path

    import torchmetrics
    from torchvision.models import squeezenet1_1

    trunk = squeezenet1_1(weights=None).eval()
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(trunk.state_dict(), place / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("dclip.models.registry.verdict", lambda *_: (True, ""))
    code, content, rows = scored(
        folders, tmp_path / "out", "--preset", "piebench", "--metrics", "lpips"
    )
    assert code == 0
    heads = torch.load(
        Path(torchmetrics.__file__).parent
        / "functional"
        / "image"
        / "lpips_models"
        / "squeeze.pth",
        map_location="cpu",
        weights_only=True,
    )
    shift, scale = (
        torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1),
        torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1),
    )

    def layers(x):
        seen = []
        for i, layer in enumerate(trunk.features):
            x = layer(x)
            if i in (1, 4, 7, 9, 10, 11, 12):
                seen.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-8))
        return seen

    expected = []
    for before, after in zip(
        pictures_of(folders / "real"), pictures_of(folders / "edited"), strict=True
    ):
        x, y = (torch.from_numpy(p).permute(2, 0, 1).float() * 2 - 1 for p in (before, after))
        with torch.no_grad():
            found = zip(
                layers(((x - shift) / scale)[None]),
                layers(((y - shift) / scale)[None]),
                strict=True,
            )
            expected.append(
                sum(
                    float(((p - q).square() * heads[f"lin{k}.model.1.weight"]).sum(1).mean())
                    for k, (p, q) in enumerate(found)
                )
            )
    np.testing.assert_allclose(rows["lpips"], expected, rtol=1e-3, atol=2e-6)
    assert min(expected) > 0
    assert "squeeze" in content["choices"]["lpips"]


def test_torchmetrics_preset_is_torchmetrics(folders, tmp_path):
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    _, content, rows = scored(
        folders, tmp_path, "--preset", "torchmetrics", "--metrics", "psnr", "ssim", "mse"
    )
    a, b = (
        torch.from_numpy(np.stack(pictures_of(folders / n))).permute(0, 3, 1, 2)
        for n in ("real", "edited")
    )
    a, b = a * 0.5 + 0.2, b * 0.5 + 0.2  # a data range below one
    for index, name in enumerate(rows["image"]):
        for side, x in (("real", a), ("edited", b)):
            save_png(x[index].float() * 2 - 1, tmp_path / "grey" / side / f"{name}.png")
    _, content, rows = scored(
        tmp_path / "grey",
        tmp_path / "out",
        "--preset",
        "torchmetrics",
        "--metrics",
        "psnr",
        "ssim",
        "mse",
    )
    a, b = (
        torch.from_numpy(np.stack(pictures_of(tmp_path / "grey" / n))).permute(0, 3, 1, 2)
        for n in ("real", "edited")
    )
    psnr, ssim = PeakSignalNoiseRatio(data_range=1.0), StructuralSimilarityIndexMeasure()
    assert content["scores"]["psnr"] == pytest.approx(float(psnr(b, a)), abs=1e-3)
    np.testing.assert_allclose(
        rows["ssim"], [float(ssim(y[None], x[None])) for x, y in zip(a, b, strict=True)], atol=1e-4
    )
    assert (
        content["scores"]["psnr_low"] < content["scores"]["psnr"] < content["scores"]["psnr_high"]
    )
    assert content["scores"]["ssim"] != pytest.approx(
        float(F.ssim(b * 2 - 1, a * 2 - 1).mean()), abs=1e-3
    )


def test_intervals_hold_the_means_and_are_those_of_a_bootstrap(toon):
    _, content, rows = toon
    random = np.random.default_rng(0)
    for name, row in rows.items():
        if name == "image" or f"{name}_low" not in content["scores"]:
            continue
        row = np.array(row)
        low, high = np.quantile(random.choice(row, (4000, len(row))).mean(1), [0.025, 0.975])
        width = max(high - low, 1e-6)
        assert content["scores"][f"{name}_low"] == pytest.approx(low, abs=0.15 * width + 1e-6), name
        assert content["scores"][f"{name}_high"] == pytest.approx(high, abs=0.15 * width + 1e-6), (
            name
        )


# ------------------------------------------------------------------------------------------- against the truth


def test_anybodys_results_are_scored_against_true_pictures(folders, toon):
    from dclip.metrics import counterfactual as C

    _, content, rows = toon
    x, y, z = (
        torch.stack([exact(Image.open(p)) for p in sorted((folders / n).glob("*.png"))])
        for n in ("real", "edited", "truth")
    )
    np.testing.assert_allclose(rows["effectiveness"], C.effectiveness(y, x, z), atol=1e-5)
    np.testing.assert_allclose(rows["edit_iou"], C.agreement(y, x, z).iou, atol=1e-5)
    scores = content["scores"]
    ratio = np.mean(rows["truth_distance"]) / np.mean(rows["truth_distance_untouched"])
    assert scores["counterfactual_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert scores["counterfactual_ratio_low"] < ratio < scores["counterfactual_ratio_high"]
    assert scores["judge_success"] >= scores["true_success"] <= scores["closer"]
    assert "truth_distance" not in scores


@pytest.mark.parametrize(("edited", "closer", "ratio"), [("truth", 1, 0), ("real", 0, 1)])
def test_the_truth_is_closer_and_the_source_is_not(folders, tmp_path, edited, closer, ratio):
    words = ["--real", folders / "real", "--edited", folders / edited, "--truth", folders / "truth"]
    words += ["--output", tmp_path, "--device", "cpu", "--metrics", "closer", "edit_iou"]
    assert metrics.main([*map(str, words), "counterfactual_ratio"]) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["scores"]
    assert scores["closer"] == closer and scores["counterfactual_ratio"] == ratio
    assert scores["edit_iou"] == 1 or edited == "real"
    assert Image.open(tmp_path / "error_map.png").width > 6 * 64


def test_the_headline_comes_first_on_the_console(folders, tmp_path, capsys):
    scored(
        folders, tmp_path, *TOON, *beside(folders), "--metrics", "mae", "closer", "judge_success"
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["closer", "judge_success", "mae"]


def test_without_truth_or_mask_their_metrics_are_absent_only_where_asked_for(folders, tmp_path):
    _, content, _ = scored(folders, tmp_path / "a")
    assert not any(name.startswith(("closer", "piebench", "judge")) for name in content["scores"])
    words = ("--metrics", "mae", "closer", "background_psnr", "true_success")
    _, content, _ = scored(folders, tmp_path / "b", *words, *TOON[:2])
    assert "--truth" in content["scores"]["closer_absent"]
    assert "--mask" in content["scores"]["background_psnr_absent"]
    assert not (tmp_path / "b" / "error_map.png").exists()


def test_a_coloured_mask_is_named_and_the_rest_is_scored(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "mask", tmp_path / "mask")
    first = sorted((tmp_path / "mask").iterdir())[0]
    Image.new("RGB", (64, 64), (200, 0, 0)).save(first)
    words = ("--mask", str(tmp_path / "mask"), "--metrics", "background_psnr")
    code, content, rows = scored(folders, tmp_path / "out", *words)
    assert code == 1 and len(rows["image"]) == COUNT - 1
    assert f"{first} is coloured" in "\n".join(content["left_out"])


def test_a_pair_without_its_truth_is_said_and_the_rest_is_scored(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "truth", tmp_path / "truth")
    first, second = sorted((tmp_path / "truth").iterdir())[:2]
    first.unlink()
    Image.open(second).resize((48, 48)).save(second)
    words = ("--truth", str(tmp_path / "truth"), "--metrics", "closer")
    code, content, rows = scored(folders, tmp_path / "out", *words)
    assert code == 1 and len(rows["closer"]) == COUNT - 2
    said = "\n".join(content["left_out"])
    assert f"has no {first.stem}" in said and "64x64 and 48x48" in said


# ------------------------------------------------------------------------------------------- what is written


def test_every_choice_is_written_beside_the_scores(toon, folders, tmp_path):
    code, content, rows = toon
    assert code == 0
    assert content["counts"] == {"real": COUNT, "edited": COUNT, "pairs": COUNT}
    assert content["left_out"] == []
    scores = content["scores"]
    names = names_of("folders")
    lpips = {"lpips", "background_lpips", "piebench_lpips"}
    assert {n for n in names if n in scores} >= set(names) - lpips
    for name in names:
        assert name in scores or len(scores[f"{name}_absent"]) > 10
        assert len(content["choices"][name]) > 10
    assert len(rows["image"]) == COUNT
    _, other, _ = scored(folders, tmp_path, "--preset", "torchmetrics", "--metrics", "mae")
    for name in ("ssim", "psnr", "kid"):
        assert other["choices"][name] != content["choices"][name]
    assert set(NOTES) == set(PRESETS)


def test_the_presets_say_what_differs():
    told = {name: described(choices, "faces", None) for name, choices in PRESETS.items()}
    assert "alex" in told["dclip"]["lpips"] and "squeeze" in told["piebench"]["lpips"]
    assert (
        "openai_vit_l_14" in told["piebench"]["clip_text"]
        and "openai_vit_b_16" in told["dclip"]["s_dir"]
    )
    assert (
        "subsets of 1000" in told["torchmetrics"]["kid"]
        and "subsets of 50 " in told["dclip"]["kid"]
    )
    assert (
        "data range 1" in told["dclip"]["ssim"]
        and "range of the two" in told["torchmetrics"]["ssim"]
    )
    assert (
        "of 48 pixels" not in told["dclip"]["pixels"]
        and "to 48 pixels" in described(PRESETS["dclip"], "faces", 48)["pixels"]
    )


def test_parquet_is_written_where_pyarrow_is_installed_and_the_lack_is_said(
    folders, tmp_path, capsys, monkeypatch
):
    import types

    scored(folders, tmp_path / "a", "--metrics", "mae")
    without = capsys.readouterr().out
    if metrics.find_spec("pyarrow") is None:
        assert "pip install pyarrow" in without
        assert not (tmp_path / "a" / "rows.parquet").exists()
        written = {}
        parquet = types.SimpleNamespace(
            write_table=lambda table, path: (written.update(table), path.write_bytes(b"P"))[1]
        )
        fake = types.SimpleNamespace(table=dict, parquet=parquet)
        monkeypatch.setitem(sys.modules, "pyarrow", fake)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
        monkeypatch.setattr(metrics, "find_spec", lambda _: True)
        scored(folders, tmp_path / "b", "--metrics", "mae")
        assert len(written["image"]) == len(written["mae"]) == COUNT
        assert (tmp_path / "b" / "rows.parquet").is_file()
    else:
        assert (tmp_path / "a" / "rows.parquet").is_file()


@pytest.mark.parametrize("batch", ["1", "4", "64"])
def test_the_batch_size_never_changes_a_score(folders, toon, tmp_path, batch):
    _, content, rows = scored(folders, tmp_path, *TOON, *beside(folders), "--batch", batch)
    for name, value in toon[1]["scores"].items():
        assert content["scores"][name] == (
            pytest.approx(value, rel=2e-4, abs=2e-5) if isinstance(value, float) else value
        ), name
    for name, row in toon[2].items():
        assert rows[name] == (row if name == "image" else pytest.approx(row, abs=2e-5)), name


# ------------------------------------------------------------------------------------------- what can be wrong


def test_broken_files_other_sizes_and_missing_pairs_are_said_and_the_rest_is_scored(
    folders, tmp_path
):
    import shutil

    for side in ("real", "edited"):
        shutil.copytree(folders / side, tmp_path / side)
    names = sorted(p.name for p in (tmp_path / "real").iterdir())
    (tmp_path / "real" / names[0]).write_bytes(b"not a picture")
    (tmp_path / "edited" / names[1]).write_bytes(
        (tmp_path / "edited" / names[1]).read_bytes()[:200]
    )
    (tmp_path / "edited" / names[2]).write_bytes(b"")
    Image.open(tmp_path / "edited" / names[3]).resize((48, 40)).save(tmp_path / "edited" / names[3])
    (tmp_path / "edited" / names[4]).unlink()
    save_png(torch.zeros(3, 64, 64), tmp_path / "edited" / "alone.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "real" / f"{names[5][:-4]}.jpg")
    done = command(
        "metrics", "--real", "real", "--edited", "edited", "--output", "out", "--domain", "toonfaces", "--metrics", "mae", "kid",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    content = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    # files that are no pictures do not count
    assert content["counts"] == {"real": COUNT - 1, "edited": COUNT - 2, "pairs": 1}
    assert content["scores"]["mae"] > 0
    assert "mae_low" not in content["scores"]  # one picture
    assert "kid_absent" in content["scores"]
    said = "\n".join(content["left_out"])
    for word in (
        *names[:3],
        "48x40",
        f"edited has no {names[4][:-4]}",
        "real has no alone",
        "has the same name",
    ):
        assert word in said, word
    assert len(content["left_out"]) == 7
    assert "left out: 7" in done.stdout and names[0] in done.stdout


def test_pictures_of_many_sizes_can_be_brought_to_one(tmp_path):
    for k, size in enumerate([(50, 80), (64, 64), (200, 40)]):
        Image.new("RGB", size, (40 * k, 100, 30)).save(
            (tmp_path / "real").mkdir(exist_ok=True) or tmp_path / "real" / f"{k}.png"
        )
        Image.new("RGB", (64, 64), (40 * k, 100, 60)).save(
            (tmp_path / "edited").mkdir(exist_ok=True) or tmp_path / "edited" / f"{k}.webp",
            lossless=True,
        )
    code, content, _ = scored(tmp_path, tmp_path / "a", "--metrics", "mae")
    assert code == 1 and content["counts"]["pairs"] == 1
    code, content, rows = scored(tmp_path, tmp_path / "b", "--metrics", "mae", "--size", "48")
    assert code == 0 and content["counts"]["pairs"] == 3
    assert rows["mae"] == pytest.approx([30 / 255 / 3] * 3, abs=1e-5)
    code, content, rows = scored(
        tmp_path,
        tmp_path / "c",
        "--metrics",
        "kid",
        "fid",
        "--sets",
        "--domain",
        "toonfaces",
        "--kid-subset",
        "2",
    )
    assert code == 0 and content["counts"] == {
        "real": 3,
        "edited": 3,
        "real_scored": 3,
        "edited_scored": 3,
    }


def test_sets_need_no_common_names(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "real", tmp_path / "real")
    (tmp_path / "edited").mkdir()
    for k, path in enumerate(sorted((folders / "edited").iterdir())[:5]):
        shutil.copy(path, tmp_path / "edited" / f"other_{k}.png")
    (tmp_path / "edited" / "bad.png").write_text("bad")
    with pytest.raises(DclipError, match=r"no name in common.*--sets"):
        scored(tmp_path, tmp_path / "a")
    code, content, rows = scored(
        tmp_path, tmp_path / "b", "--sets", "--domain", "toonfaces", "--kid-subset", "4"
    )
    assert code == 1 and "bad.png" in content["left_out"][0]
    assert rows == {}
    assert content["counts"]["edited_scored"] == 5
    assert content["counts"]["edited"] == 5, "an unreadable file is no picture"
    assert content["scores"]["fid"] > 0
    assert content["scores"]["kid_low"] < content["scores"]["kid_high"]
    assert "mae" not in content["scores"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sets"], r"kid, fid: its Inception weights are not on disk; run dclip weights fetch"),
        (["--sets", "--metrics", "mae"], r"mae: it compares pairs; remove --sets"),
        (["--metrics", "lpips"], r"lpips: its alex trunk is not on disk"),
        (["--metrics", "clip_text"], r"clip_text: no texts; give --source-text and --text"),
    ],
)
def test_nothing_that_can_be_scored_is_an_error(folders, tmp_path, monkeypatch, words, said):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(DclipError, match=f"nothing can be scored: {said}"):
        scored(folders, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_too_few_pictures_for_a_distance_between_sets_are_an_error(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("dclip.metrics.sets.FEWEST", COUNT + 1)
    with pytest.raises(DclipError, match="kid, fid: 6 images are too few"):
        scored(folders, tmp_path / "out", "--sets", "--domain", "toonfaces")
    code, content, _ = scored(folders, tmp_path / "out", "--domain", "toonfaces")
    assert code == 0 and "6 images are too few" in content["scores"]["kid_absent"]


def test_a_fid_of_few_pictures_is_marked(folders, tmp_path, capsys):
    words = ("--sets", "--domain", "toonfaces", "--kid-subset", "2")
    _, content, _ = scored(folders, tmp_path, *words)
    assert content["scores"]["fid_note"].startswith("of 6 images")
    assert "(of 6 images, so it is too high" in capsys.readouterr().out


def test_a_text_that_clip_would_cut_off_is_refused(folders, tmp_path):
    long = "red hair " * 40
    for words, option in (
        (("--source-text", "a", "--text", long), "--text"),
        (("--source-text", long, "--text", "a"), "--source-text"),
    ):
        with pytest.raises(DclipError, match=f"{option} is too long for the CLIP"):
            scored(folders, tmp_path / "out", "--domain", "toonfaces", *words)


def test_what_has_no_weights_is_absent_with_the_remedy(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    code, content, _ = scored(folders, tmp_path / "out", "--source-text", "a", "--text", "b")
    assert code == 0
    remedies = {
        "lpips": "fetch lpips_alexnet", "s_dir": "fetch openai_vit_b_16", "clip_text": "fetch openai_vit_b_16",
        "id": "fetch arcface", "sc": "fetch bisenet", "kid": "Inception", "fid": "Inception",
    }  # fmt: skip
    for name, remedy in remedies.items():
        assert remedy in content["scores"][f"{name}_absent"], name
        assert name not in content["scores"]
    assert {"mae", "mse", "psnr", "ssim", "ssim_luma"} <= set(content["scores"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "vgg"], "dclip, piebench, torchmetrics"),
        (["--kid-subset", "1"], "--kid-subset 1"),
        (["--size", "8"], "--size 8"),
        (["--batch", "0"], "--batch 0"),
        (["--bootstrap", "-1"], "--bootstrap -1"),
        (["--text", "zombie"], "belong together"),
        (["--text", " ", "--source-text", "a"], "empty"),
        (["--text", "a", "--source-text", "A"], "same text"),
        (["--clip", "bisenet"], "no CLIP"),
        (["--clip", "nothing"], "no weights are called"),
        (["--device", "tpu"], "--device tpu"),
        (["--domain", "face"], "--domain face does not exist; did you mean faces?"),
        (["--reel", "x"], "unrecognized arguments: --reel x; see dclip metrics --help"),
        (["--sets", "--truth", "x"], "belong to pairs"),
        (["--truth", "nowhere"], "--truth nowhere is not a folder"),
        (["--domain", "toonfaces", "--source-text", "a", "--text", "a"], "same text"),
    ],
)
def test_a_bad_word_is_refused_in_one_line(folders, tmp_path, words, said):
    with pytest.raises(DclipError) as caught:
        metrics.main(
            [
                "--real",
                str(folders / "real"),
                "--edited",
                str(folders / "edited"),
                "--output",
                str(tmp_path),
                *words,
            ]
        )
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_folders_that_are_none_are_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for real, said in (
        (tmp_path / "nowhere", "is not a folder"),
        (tmp_path / "empty", "holds no pictures"),
    ):
        with pytest.raises(DclipError, match=said):
            metrics.main(["--real", str(real), "--edited", str(folders / "edited")])
    (tmp_path / "empty" / "test_00000.png").write_text("no")
    name = sorted((folders / "edited").iterdir())[0].name
    (tmp_path / "empty" / name).write_text("no")
    with pytest.raises(DclipError, match=r"none of .* can be scored"):
        metrics.main(["--real", str(tmp_path / "empty"), "--edited", str(folders / "edited")])


def test_a_metric_of_ones_own_is_measured_of_folders_too(folders, tmp_path, monkeypatch):
    (tmp_path / "paleness.py").write_text(
        "from dclip.extend import metric\n\n\n"
        "@metric('paleness', 'higher', 'Mean of the result.')\n"
        "def paleness(edited, scorers):\n    return edited.result.mean((1, 2, 3))\n"
    )
    words = ("--real", folders / "real", "--edited", folders / "edited", "--output", "out")
    done = command(
        "metrics", *words, "--plugins", "paleness", "--metrics", "paleness", "mae", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    expected = np.mean([p.mean() * 2 - 1 for p in pictures_of(folders / "edited")])
    assert content["scores"]["paleness"] == pytest.approx(expected, abs=1e-5)
    assert content["choices"]["paleness"] == "Mean of the result."
    assert re.search(r"paleness +↑", done.stdout) and re.search(r"mae +↓", done.stdout)


def test_a_metric_that_gives_a_reason_for_a_later_batch_is_absent(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "fickle", None)  # taken off the list after the test
    seen = []

    @metric("fickle", "higher", "Mean of the result, of two pictures.")
    def fickle(edited, scorers):
        seen.extend(edited.source.ids)
        return edited.result.mean((1, 2, 3)) if len(seen) <= 2 else "two are enough"

    words = ("--metrics", "fickle", "mae", "--batch", "2")
    code, content, rows = scored(folders, tmp_path, *words)
    assert code == 0 and content["scores"]["fickle_absent"] == "two are enough"
    assert "fickle" not in content["scores"] and "fickle" not in rows
    assert len(rows["mae"]) == COUNT and len(seen) == 4


def test_help_needs_no_torch():
    code = "import sys\nfrom dclip.cli.metrics import build_parser\nbuild_parser().format_help()\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
