"""Every command and every setting that stands in a comment of conf/ can be typed."""

import re

import pytest
from PIL import Image

from dclip.study.document import studies
from helpers.experiments import APPLICATIONS, EXPERIMENTS, TRAININGS
from helpers.networks import write_edit
from helpers.runs import ROOT, SMALL

CONF = ROOT / "conf"
SETTING = r"[-\w./]+=(?:'[^']*'|\[[^\]]*\]|[^\s,;:`')]*[^\s,;:`').])"
FILES = ("FILE", "WEIGHTS")  # placeholders of the comments
FOLDERS = ("DIR", "FOLDER", "examples")


def comments_of(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if line.startswith("# ")]
    return "\n".join(line[2:] for line in lines if "@package" not in line)


def settings_in(path):
    """Every group of settings in a file's comments; what names no experiment belongs to the file's own."""
    for group in re.findall(rf"{SETTING}(?:[ \n]{SETTING})*", comments_of(path)):
        words = [word.replace("'", "") for word in re.findall(SETTING, group)]
        words = [word for word in words if not word.endswith(("NAME", "..."))]
        complete = any(word.startswith(("experiment=", "study=")) for word in words)
        if path.parent.name in ("experiment", "study") and not complete:
            words.insert(0, f"{path.parent.name}={path.stem}")
        if words:
            yield tuple(words)


COMMANDS = sorted({words for path in CONF.rglob("*.yaml") for words in settings_in(path)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, nets):
    """A folder where what the comments name exists: two learned edits, a picture, some files."""
    folder = tmp_path_factory.mktemp("user")
    tiny = {"experiment": "toonfaces_red_hair", **SMALL, "clip.name": nets["clip"]}
    for name in ("red_hair", "beard", "tanned"):
        run = folder / "outputs" / f"finetune_{name}" / "2026-01-01_00-00-00_00000000"
        write_edit(run, tiny, nets["model64"], name)
    for name in FILES:
        (folder / name).write_bytes(b"")
    for name in FOLDERS:
        (folder / name).mkdir()
        for i in range(10):
            Image.new("RGB", (64, 64)).save(folder / name / f"{i}.png")
    Image.new("RGB", (64, 64)).save(folder / "photo.png")
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_comment_says_can_be_typed(words, folder, configure_on, monkeypatch):
    monkeypatch.chdir(folder)
    studied = [word.removeprefix("study=") for word in words if word.startswith("study=")]
    if studied:
        assert set(studied) <= set(studies())
    else:
        net = words[0].removeprefix("experiment=pretrain_").removesuffix("_ddpm")
        start = f"task.start={ROOT}/dclip/weights/{net}.safetensors"
        configure_on(*(start if word == "task.start=WEIGHTS" else word for word in words))


def test_the_comments_have_commands():
    """So that the test above cannot pass because nothing was found."""
    for command in (
        ("experiment=cifar10_latent", "guidance=contrastive_faithful"),
        ("experiment=imagenet", "edit=cubism", "dataset.category=tiger cat"),
        ("experiment=celeba", "edit=old"),
        ("study=tune_red_hair", "workers=2"),
    ):
        assert command in COMMANDS
    assert {f"experiment={name}" for name in EXPERIMENTS} <= {words[0] for words in COMMANDS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_begins_with_its_command_its_cost_and_the_score_to_expect(name):
    path = CONF / "experiment" / f"{name}.yaml"
    comments = comments_of(path)
    assert comments.startswith(f"python run.py experiment={name}")
    costs = ("minute", "second", "hour", "Cost")
    assert any(word in comments for word in costs) or name in (*APPLICATIONS, *TRAININGS)
    assert "Expected" in comments or "Published" in comments


@pytest.mark.parametrize("path", CONF.rglob("*.yaml"), ids=lambda path: path.stem)
def test_comments_are_at_most_100_columns_wide(path):
    wide = [line for line in path.read_text("utf-8").splitlines() if len(line) > 100]
    assert not wide
