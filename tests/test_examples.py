"""Fine-tuning on a single image, and edits that are defined by example images."""

import shutil

import pytest
import torch
from PIL import Image

import dclip
from dclip import losses
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.pipeline import run
from dclip.text.direction import direction_of
from dclip.types import Images
from helpers.images import images16, read_image
from helpers.networks import write_edit
from helpers.runs import configure, words


def paint(path, color, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


@pytest.fixture
def settings(tiny):
    """Settings that do not say where images come from."""
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "checkpoint", "sampler", "method")
    }
    return {**keep, "metric.kid": "false", "metric.lpips": "false"}


# ------------------------------------------------------------------------------------------- one image


def test_a_single_photograph_is_learned_from_and_edited(settings, tmp_path):
    photo = paint(tmp_path / "me.png", (120, 130, 90), (90, 70))
    single = {
        "method__objective": "onestep",
        "method__lora__rank": 2,
        "method__batch": 1,
        "method__epochs": 4,
    }
    folder = run(
        configure(
            *words({**settings, "method.lr": 0.02}, input=photo, output=tmp_path / "out", **single)
        )
    )
    assert {p.name for p in (folder / "samples").iterdir()} == {
        "image_me.png", "before_after.png", "degree_of_change.png", "degree_of_change.gif",
    }  # fmt: skip
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == 1
    assert metrics["judge_success"] in (0.0, 1.0)  # whatever it shows, and however it was drawn
    saved = read_edit(str(folder))
    assert saved.header["kind_of_weights"] == "lora"
    assert saved.header["scores"]["s_dir"] == pytest.approx(metrics["s_dir"], abs=1e-5)
    curves = (folder / "curves.jsonl").read_text()
    assert curves.count("loss_total") == 4  # one image, one update an epoch
    assert curves.count("images_per_s") == 4
    again = run(configure(*words({k: v for k, v in settings.items() if k.split(".")[0] not in ("sampler", "method")},
                                 task="edit", edit__adapter=folder, input=photo, output=tmp_path / "out")))  # fmt: skip
    one, other = (read_image(f / "samples" / "image_me.png", 64) for f in (folder, again))
    assert float((one - other).abs().max()) < 3 / 127


def test_one_image_is_not_shared_between_processes(settings, tmp_path):
    photo = paint(tmp_path / "me.png", (1, 2, 3))
    with pytest.raises(DclipError, match=r"set trainer\.devices=1"):
        configure(*words(settings, input=photo, method__batch=2), "trainer.devices=2")


def test_input_is_not_for_every_task(tmp_path):
    with pytest.raises(DclipError, match="task=edit, finetune, translate or demo"):
        configure("task=sample", f"input={tmp_path}")


# ------------------------------------------------------------------------------------------- examples


def test_the_direction_of_examples_is_that_of_their_means():
    before, after = torch.randn(5, 8), torch.randn(3, 8)
    direction = losses.image_direction(before, after)
    assert float(direction.norm()) == pytest.approx(1, abs=1e-5)
    assert float(direction @ (after.mean(0) - before.mean(0))) > 0
    torch.testing.assert_close(losses.image_direction(after, before), -direction)
    with pytest.raises(ValueError, match="no difference"):
        losses.image_direction(before, before)


def test_examples_are_compared_with_source_examples_or_with_the_images_at_hand(
    settings, clip, tmp_path
):
    for i, color in enumerate([(200, 30, 30), (220, 60, 40)]):
        paint(tmp_path / "after" / f"{i}.png", color)
    paint(tmp_path / "before" / "0.png", (30, 30, 200))
    images = Images(torch.rand(3, 3, 64, 64) * 2 - 1, tuple("abc"))

    def features(*paths):
        return clip.image_features(torch.stack([read_image(p, 64) for p in paths]))

    after = features(tmp_path / "after" / "0.png", tmp_path / "after" / "1.png")
    cfg = configure(*words(settings, edit__examples=tmp_path / "after"))
    expected = losses.image_direction(clip.image_features(images.pixels), after)
    torch.testing.assert_close(direction_of(cfg, images)(clip), expected)
    cfg = configure(
        *words(
            settings, edit__examples=tmp_path / "after", edit__source_examples=tmp_path / "before"
        )
    )
    expected = losses.image_direction(features(tmp_path / "before" / "0.png"), after)
    torch.testing.assert_close(direction_of(cfg, images)(clip), expected)
    assert cfg.edit.name == "after"


def test_texts_are_the_direction_without_examples(settings):
    cfg = configure(*words(settings, edit="zombie"))
    assert direction_of(cfg, Images(torch.zeros(1, 3, 64, 64), ("a",))) == (
        cfg.edit.source,
        cfg.edit.target,
    )


def test_a_run_learns_from_examples_and_knows_them_later(settings, tmp_path):
    examples = paint(tmp_path / "reddish" / "0.png", (210, 40, 30)).parent
    small = {"dataset__train": 4, "dataset__validation": 2, "dataset__test": 2, "method__epochs": 1}
    folder = run(
        configure(*words(settings, edit__examples=examples, output=tmp_path / "out", **small))
    )
    header = read_edit(str(folder)).header["edit"]
    assert (header["name"], header["target"], header["examples"]) == (
        "reddish",
        "images like reddish",
        str(examples),
    )
    assert -1 <= read_json(folder / "metrics.json")["s_dir"] <= 1
    apply = words(
        {k: v for k, v in settings.items() if k.split(".")[0] not in ("sampler", "method")},
        task="edit",
        edit__adapter=folder,
    )
    assert configure(*apply).edit.examples == str(examples)
    shutil.rmtree(examples)
    gone = configure(*apply)
    assert gone.edit.examples is None
    assert not gone.metric.clip


def test_the_notebook_finds_a_region_by_the_examples(tiny, nets, model, tmp_path, monkeypatch):
    told = {"edit__region": "clip", "edit__region_colors": 0, "loss__contrast": 0, "loss__clip": 1}
    for name, seed in (("source_examples", 1), ("examples", 2)):
        dclip.save_images(images16(2, seed).pixels, tmp_path / name)
        told[f"edit__{name}"] = tmp_path / name
    learned = write_edit(tmp_path / "edit", tiny, nets["model16"], "smiling", 0.3, **told)
    directions = []

    def seen(options, clip, direction, source, *_):
        kept = [dclip.load_images(tmp_path / name, 16) for name in ("source_examples", "examples")]
        expected = losses.image_direction(*map(clip.image_features, kept))
        torch.testing.assert_close(direction, expected)
        directions.append(direction)
        return torch.ones_like(source[:, :1])

    monkeypatch.setattr("dclip.api.seen_region", seen)
    dclip.edit(model, images16(2).pixels, learned)
    assert len(directions) == 1
    shutil.rmtree(tmp_path / "examples")
    with pytest.raises(DclipError, match=r"region=clip needs the examples .* choose region=auto"):
        dclip.edit(model, images16(2).pixels, learned)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["edit.examples=/nowhere/at/all"], "edit.examples=/nowhere/at/all does not exist"),
        (["edit.source_examples=/"], "edit.source_examples needs edit.examples"),
    ],
)
def test_examples_that_are_not_there_are_refused(overrides, said):
    with pytest.raises(DclipError) as caught:
        configure(*overrides)
    assert said in str(caught.value)


def test_examples_without_a_picture_or_without_a_difference_are_refused(settings, clip, tmp_path):
    (tmp_path / "empty").mkdir()
    photo = paint(tmp_path / "one" / "0.png", (9, 9, 9))
    images = Images(read_image(photo, 64)[None], ("a",))
    with pytest.raises(DclipError, match=r"edit\.examples=.*empty holds no images"):
        direction_of(configure(*words(settings, edit__examples=tmp_path / "empty")), images)
    with pytest.raises(DclipError, match="no difference"):
        direction_of(configure(*words(settings, edit__examples=tmp_path / "one")), images)(clip)
