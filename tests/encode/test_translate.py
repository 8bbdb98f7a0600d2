"""Images of an unseen kind, brought into the model's domain."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.toonfaces.domain import LOOKS
from dclip.data.toonfaces.drawing import render, render_parts, strokes
from dclip.data.toonfaces.faces import Drawing, sample_face
from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.edits.roundtrip import present_translation
from dclip.encode.translate import into_domain
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.metrics.translated import translation_scores
from dclip.models.judge import Judge
from dclip.types import Edited, Images
from helpers.networks import a_run, write_edit
from helpers.runs import configure, words


def domain(cfg, model, images):
    return into_domain(a_run(cfg, model), cfg.task, images)


def named(n=3, size=16):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Images(pixels, tuple(f"p{i}" for i in range(n)))


@pytest.fixture
def translating(tiny, nets):
    """Settings of task=translate with the tiny 16-pixel model."""

    def build(**settings):
        keep = {
            k: v
            for k, v in tiny.items()
            if k.split(".")[0] in ("trainer", "logger", "clip", "metric")
        }
        chosen = {"task": "translate", "task__rounds": 2, "task__steps": 3, "task__t0": 400}
        return configure(
            *words({**keep, "checkpoint.name": nets["model16"]}, **{**chosen, **settings})
        )

    return build


def test_every_round_noises_to_the_timestep_at_which_it_starts_to_denoise(model, translating):
    seen = []
    model.unet.register_forward_hook(
        lambda _net, args, _out: seen.append((args[0].clone(), int(args[1][0])))
    )
    images = named()
    domain(translating(task__rounds=1), model, images)
    assert [t for _, t in seen] == [400, 200, 0]
    noise = ImageNoise([f"translate/{name}" for name in images.ids], 0).like(images.pixels)
    expected = add_noise(images.pixels, noise, model.schedule.alpha_bar(seen[0][1]))
    torch.testing.assert_close(seen[0][0], expected)
    neighbour = add_noise(images.pixels, noise, model.schedule.alpha_bar(seen[0][1] - 1))
    assert float((expected - neighbour).abs().max()) > 1e-3  # what the published code would have


def test_rounds_go_on_from_each_other_with_new_noise(model, translating):
    seen = []
    model.unet.register_forward_hook(
        lambda _net, args, _out: seen.append((args[0].clone(), int(args[1][0])))
    )
    images, cfg = named(), translating(task__rounds=2)
    second = domain(cfg, model, images)
    assert [t for _, t in seen] == [400, 200, 0] * 2
    first = domain(translating(task__rounds=1), model, images)
    noise = ImageNoise([f"translate/{name}" for name in images.ids], 0)
    noise.like(images.pixels)
    a = model.schedule.alpha_bar(400)
    rebuilt = (seen[3][0] - (1 - a) ** 0.5 * noise.like(images.pixels)) / a**0.5
    torch.testing.assert_close(rebuilt.clamp(-1, 1), first.pixels, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(second.pixels, first.pixels, atol=0.05)
    assert float(second.pixels.abs().max()) <= 1


@pytest.mark.parametrize("sampler", ["ddim", "fixed_point", "ddpm", "ddpm sampler.noise_last=true"])
def test_translation_adds_no_noise_whatever_the_edits_sampler_is(model, translating, sampler):
    """DiffusionCLIP, Algorithm 4: the first stage is deterministic, eta is the edit's."""
    words_ = sampler.split()
    more = dict(word.split("=") for word in words_[1:])
    if words_[0] != "ddpm":
        more["sampler.eta"] = "1"
    plain = domain(translating(), model, named())
    noisy = domain(translating(sampler=words_[0], **more), model, named())
    torch.testing.assert_close(noisy.pixels, plain.pixels, rtol=0, atol=0)


def test_no_round_leaves_the_images_as_they_are(model, translating):
    images = named()
    assert torch.equal(domain(translating(task__rounds=0), model, images).pixels, images.pixels)


@pytest.mark.parametrize("settings", [{}, {"sampler": "ddpm"}])
def test_the_batch_size_never_changes_a_translation(model, translating, settings):
    whole, parts = (
        domain(translating(trainer__batch=b, **settings), model, named()).pixels for b in (25, 1)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-3)


def test_variants_are_various_and_belong_to_their_names(model, translating):
    cfg, several = translating(variants=3), named().repeat(3)
    made = domain(cfg, model, several).pixels
    assert translation_scores(several, made, None, 3)["variety"] > 0.01
    assert translation_scores(several, several.pixels, None, 3)["variety"] == 0
    torch.testing.assert_close(
        domain(cfg, model, several.take([4])).pixels[0], made[4], rtol=1e-3, atol=1e-3
    )


def test_intervals_of_an_edit_draw_its_images_with_their_variants(model, translating, monkeypatch):
    run, found = a_run(translating(variants=3), model), {}
    monkeypatch.setattr(type(run.record), "metrics", lambda self, values: found.update(values))
    several = named().repeat(3)
    noise = torch.rand(several.pixels.shape, generator=torch.Generator().manual_seed(1))
    came = replace(several, pixels=several.pixels * (1 - noise))
    present_translation(run, several, came, came.pixels * noise)
    edited, options = Edited(came, came.pixels * noise), run.cfg.metric
    expected = measure(edited, options, Scorers(), variants=3).values
    assert [found[key] for key in ("mae_low", "mae_high")] == [
        expected[key] for key in ("mae_low", "mae_high")
    ]
    own = translation_scores(several, came.pixels, None, 3)["variety"]
    assert found["variety"] == own != expected["variety"]


def test_scores_say_what_of_the_source_is_left():
    torch.manual_seed(0)
    source, judge = toonfaces("test", 3, domain=Drawing.strokes), Judge(LOOKS, 4).eval()
    same = translation_scores(source, source.pixels, judge)
    other = translation_scores(source, -source.pixels, judge)
    assert same["coarse_mae"] == 0
    assert other["coarse_mae"] > 0.2
    for scores in (same, other):
        assert all(
            0 <= scores[k] <= 1 for k in ("judge_domain", "judge_domain_before", "judge_painted")
        )
    assert "judge_painted" not in translation_scores(
        toonfaces("test", 2, domain=Drawing.sketch), source.pixels[:2], judge
    )


# ------------------------------------------------------------------------------------------- sources


def test_strokes_are_blocks_of_the_colours_of_the_parts():
    face = sample_face("test", 3)
    painted, parts = strokes(face, blur=0), render_parts(face)
    assert painted.shape == (64, 64, 3)
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == len(np.unique(parts))
    hair = parts == 2
    assert np.abs(painted[hair].mean(0) - render(face)[hair].mean(0)).max() < 1
    assert np.array_equal(strokes(face), strokes(face))
    assert len(np.unique(strokes(face).reshape(-1, 3), axis=0)) > 50


def test_the_domains_of_toonfaces_show_different_pictures():
    shown = {domain: toonfaces("test", 2, domain=domain) for domain in Drawing}
    assert all(images.ids == shown[Drawing.toon].ids for images in shown.values())
    assert [
        bool(shown[d].facts) for d in (Drawing.toon, Drawing.strokes, Drawing.sketch, Drawing.pixel)
    ] == [
        True,
        True,
        False,
        False,
    ]
    pictures = [images.pixels for images in shown.values()]
    assert all(
        float((a - b).abs().mean()) > 0.02 for i, a in enumerate(pictures) for b in pictures[:i]
    )


# ------------------------------------------------------------------------------------------- from the command line


def test_strokes_are_translated_and_edited(tiny, nets, tmp_path):
    from dclip.pipeline import run

    edit = write_edit(tmp_path / "red", tiny, nets["model64"], "red_hair", 0.3)
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "checkpoint")
    }
    settings = {
        "task__rounds": 1,
        "task__steps": 2,
        "dataset__domain": "strokes",
        "dataset__test": 2,
        "metric__kid": "false",
    }
    folder = run(
        configure(
            *words(
                keep,
                task="translate",
                edit__adapter=edit,
                output=tmp_path / "out",
                variants=2,
                **settings,
            )
        )
    )
    assert {p.stem for p in (folder / "samples").glob("image_*.png")} == {
        f"image_test_{i:05d}_v{v}" for i in (0, 1) for v in (1, 2)
    }  # fmt: skip
    assert Image.open(folder / "samples" / "before_after.png").size[1] > 2 * 96
    metrics = read_json(folder / "metrics.json")
    assert {
        "judge_domain",
        "judge_painted",
        "coarse_mae",
        "variety",
        "s_dir",
        "judge_success",
        "seconds_translate",
    } <= set(metrics)
    assert metrics["images"] == 4
    assert "translate_red_hair" in folder.parent.name


def test_a_photograph_is_translated_without_an_edit(tiny, tmp_path):
    from dclip.pipeline import run

    Image.new("RGB", (90, 70), (120, 130, 90)).save(tmp_path / "me.png")
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "checkpoint")
    }
    settings = words(
        keep,
        task="translate",
        task__rounds=1,
        task__steps=2,
        input=tmp_path / "me.png",
        output=tmp_path / "out",
    )
    folder = run(configure(*settings, "metric=none"))
    assert {p.name for p in (folder / "samples").iterdir()} == {"image_me.png", "before_after.png"}
    assert read_json(folder / "metrics.json")["coarse_mae"] > 0


@pytest.mark.parametrize(
    ("words_", "said"),
    [
        (["task.t0=1000"], "task.t0=1000"),
        (["task.steps=1"], "task.steps=1"),
        (["task.rounds=-1"], "task.rounds=-1"),
        (["task.rounds=0", "variants=2"], "nothing is random"),
        (["dataset.domain=photo"], "dataset.domain"),
        (["mix.weights=[0.5,0.5]"], "2 weights for 1 edit"),
        (["task=edit", "dataset.domain=sketch"], "is for task=translate"),
    ],
)
def test_impossible_translations_are_refused_in_one_line(words_, said, edits_root):
    with pytest.raises(DclipError) as caught:
        configure(
            "task=translate",
            *words_,
            *([f"edit.adapter={edits_root}"] if "task=edit" in words_ else []),
        )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="session")
def edits_root(tiny, nets, tmp_path_factory):
    return write_edit(tmp_path_factory.mktemp("one"), tiny, nets["model16"], "red_hair", 0.3)
