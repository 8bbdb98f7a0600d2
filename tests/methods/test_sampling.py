import csv
import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dclip.data.toonfaces.images import toonfaces
from dclip.encode.start import start_of
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.sampling.edit import warn_of_clipping
from dclip.models.checkpoints import load_model
from helpers.networks import a_run
from helpers.runs import configure, run, words

# ------------------------------------------------------------------------------------------- whole runs


def sampled(tiny, tmp_path, **more):
    settings = {
        "task": "sample",
        "task.count": 2,
        "sampler.t0": 999,
        "sampler.s_gen": 4,
        "guidance.targets": "a person with a beard",
    }
    return run(*words({**tiny, **settings, "metric.bootstrap": 20}, output=tmp_path, **more))


@pytest.fixture
def few(monkeypatch):
    """Sets of two images are compared, too."""
    monkeypatch.setattr("dclip.metrics.sets.FEWEST", 2)


def table(folder, name):
    with (folder / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def pictures(folder):
    return {
        p.name: Image.open(p).tobytes() for p in sorted((folder / "samples").glob("image_*.png"))
    }


def test_a_guided_run_leaves_pictures_traces_and_numbers(tiny, tmp_path, few):
    folder = sampled(
        tiny,
        tmp_path,
        guidance="contrastive",
        metric__judge="true",
        metric__kid="true",
        metric__reference=6,
        metric__kid_sizes="[2,50]",
    )
    for name in ("sheet", "film", "traces", "before_after"):
        assert Image.open(folder / "samples" / f"{name}.png").size[0] > 64
    metrics = read_json(folder / "metrics.json")
    assert 0 <= metrics["clipped"] <= 1
    assert 0 < metrics["p_target_path"] < 1
    for name in ("p_target_guide", "p_target_heldout", "judge_success", "kid_2", "fid"):
        assert math.isfinite(metrics[name]), name
        assert math.isfinite(metrics[f"{name}_free"]), name
    assert (
        metrics["p_target_guide_low"] <= metrics["p_target_guide"] <= metrics["p_target_guide_high"]
    )
    assert "fewer" in metrics["kid_50_absent"]
    assert (metrics["network_calls"], metrics["clip_calls"], metrics["count"]) == (
        4,
        3,
        2,
    )  # not below t = 200
    assert metrics["time_ratio"] > 0
    rows = table(folder, "rows.csv")
    assert len(rows) == 2
    assert {"p_target_guide", "judge_success_free"} <= set(rows[0])
    traces = table(folder, "traces.csv")
    assert [t["t"] for t in traces if t["target"] == "1"] == ["999", "666", "333"]
    assert sum(float(t["mean"]) for t in traces if t["t"] == "666") == pytest.approx(1, abs=1e-4)
    assert "a person with a beard" in (folder / "report.html").read_text("utf-8")


def test_scale_zero_leaves_the_pictures_of_a_run_without_guidance(tiny, tmp_path):
    free = sampled(tiny, tmp_path / "free", sampler="ddim", sampler__eta=0.5)
    off = sampled(
        tiny,
        tmp_path / "off",
        sampler="ddim",
        sampler__eta=0.5,
        guidance="contrastive",
        guidance__scale=0,
    )
    on = sampled(
        tiny,
        tmp_path / "on",
        sampler="ddim",
        sampler__eta=0.5,
        guidance="contrastive",
        guidance__time_travel=1,
    )
    assert pictures(free) == pictures(off)
    assert pictures(free) != pictures(on)
    for folder in (free, off):
        assert table(folder, "traces.csv")
        assert "clip_calls" in read_json(folder / "metrics.json")
        assert read_json(folder / "metrics.json")["clip_calls"] == 0
    assert read_json(on / "metrics.json")["network_calls"] == 4 + 2


def test_directional_guidance_from_noise_edits_the_unguided_sample(tiny, tmp_path):
    folder = sampled(
        tiny,
        tmp_path,
        guidance="directional",
        task__paired="false",
        edit__source="person",
        guidance__every=2,
    )
    assert "p_target_heldout_free" in read_json(folder / "metrics.json")
    assert (folder / "samples" / "before_after.png").is_file()


def test_images_are_edited_by_guided_sampling_from_their_latents(tiny, tmp_path):
    Image.new("RGB", (64, 64), (200, 150, 90)).save(tmp_path / "me.png")
    folder = sampled(
        tiny, tmp_path / "out", task__start="images", input=tmp_path / "me.png", sampler__t0=400, task__clip_x0="false",
        guidance="contrastive_directional", guidance__targets="a person with a beard",
    )  # fmt: skip
    metrics = read_json(folder / "metrics.json")
    assert {"mae", "ssim", "s_dir", "s_dir_heldout", "p_target_heldout"} <= set(metrics)
    assert set(pictures(folder)) == {"image_me.png"}


def test_test_images_are_edited_and_judged(tiny, tmp_path):
    folder = sampled(
        tiny, tmp_path, task__start="images", sampler__t0=300, guidance="spherical", metric__judge="true", edit="smiling",
        guidance__targets="null", dataset__test=2, task__paired="false",
    )  # fmt: skip
    metrics = read_json(folder / "metrics.json")
    assert {"judge_success", "judge_preservation", "counterfactual_ratio", "closer"} <= set(metrics)
    assert (folder / "samples" / "error_map.png").is_file()
    assert metrics["count"] == 2


def test_published_pixels_are_half_black(tiny, tmp_path):
    folder = sampled(tiny, tmp_path, task__published_pixels="true")
    darkest = [np.frombuffer(p, np.uint8) for p in pictures(folder).values()]
    assert np.mean([np.mean(p == 0) for p in darkest]) > 0.25


def test_without_prompts_nothing_is_asked(tiny, tmp_path):
    folder = sampled(tiny, tmp_path, guidance__targets="null")
    metrics = read_json(folder / "metrics.json")
    assert not any("target" in name for name in metrics)
    assert not (folder / "traces.csv").exists()


def test_a_leak_puts_the_mean_of_training_images_into_the_noise(tiny, nets):
    settings = {
        **tiny,
        "task": "sample",
        "task.count": 400,
        "sampler.t0": 500,
        "guidance.targets": "null",
    }
    model = load_model(str(nets["model64"]))

    def latents(**more):
        cfg = configure(*words(settings, **more))
        return start_of(a_run(cfg, model), cfg.task).latents

    plain = latents()
    leaked = latents(task__leak=3)
    mean = toonfaces("train", 3).pixels.mean(0)
    a = model.schedule.alpha_bar(500)
    torch.testing.assert_close(leaked, (1 - a) ** 0.5 * plain + a**0.5 * mean)
    assert (
        F.mse_loss(leaked.mean(0), a**0.5 * mean) < 0.01 < F.mse_loss(plain.mean(0), a**0.5 * mean)
    )


def test_a_leak_without_training_images_is_refused(tiny, nets):
    settings = {
        **tiny,
        "task": "sample",
        "task.leak": 3,
        "dataset": "sampled",
        "guidance.targets": "null",
    }
    cfg = configure(*words(settings))
    cfg = configure(*words(settings))
    with pytest.raises(DclipError, match=r"task\.leak=0"):
        start_of(a_run(cfg, load_model(str(nets["model64"]))), cfg.task)


def test_samples_that_guidance_drives_out_of_their_range_are_said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    guided, free = torch.full((2, 3, 8, 8), 0.5), torch.zeros(2, 3, 8, 8)
    guided[0] = 1.7
    free[:, :, 0, :2] = -1
    warn_of_clipping(free, None, 0.3)
    warn_of_clipping(guided, guided, 1e6)
    assert not caplog.records
    warn_of_clipping(guided, free, 1e6)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("50 % of the samples' values are clipped (without guidance: 3 %)")
    assert "guidance.scale=1e+06 is too strong" in said
