"""Presets, and the experiments of objectives and applications."""

import pytest
from PIL import Image

from dclip.config import OPTIONS, Encode, option_name, plain
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.diffusionclip.options import DiffusionClip, OneStep
from helpers.networks import write_edit
from helpers.runs import ROOT, SMALL, configure, words

RECIPES = {
    "faithful",
    "faithful_guidance",
    "faithful_latent",
    "quick",
    "shared",
}  # these set more than an objective
PRESETS = sorted({p.stem for p in (ROOT / "conf" / "preset").glob("*.yaml")} - RECIPES)
APPLIED = sorted(
    p.stem
    for p in (ROOT / "conf" / "experiment").glob("*.yaml")
    if p.stem.startswith(("apply_", "translate_"))
)


@pytest.fixture(scope="session")
def learned(tiny, nets, tmp_path_factory):
    """An output folder in which red hair, beards and tans were learned."""
    output = tmp_path_factory.mktemp("learned")
    for name, bias in (("red_hair", 0.3), ("beard", -0.2), ("tanned", 0.1)):
        write_edit(
            output / f"finetune_{name}" / "2026-01-01_00-00-00_a", tiny, nets["model64"], name, bias
        )
    return output


@pytest.fixture
def hand(learned, tiny):
    """Settings with which an application runs in seconds on the tiny networks."""
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "checkpoint", "metric")
    }
    return words({**keep, "dataset.test": 2, "output": learned}, metric__lpips="false")


# ------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_how_any_edit_is_learned(name):
    cfg = configure("experiment=toonfaces_red_hair", "recipe=toonfaces", f"preset={name}")
    assert cfg.edit.name == "red_hair"
    learned_as = "gpu_efficient" if name == "lora" else name
    for variant in ("_faithful", "_invert", "_lora"):
        learned_as = learned_as.removesuffix(variant)
    assert option_name("method", cfg.method) == learned_as
    assert (cfg.method.lora.rank > 0) is name.endswith("lora")


def test_every_objective_has_a_preset():
    learned_as = {type(configure(f"preset={name}").method) for name in PRESETS}
    ours = {option for option in OPTIONS["method"].values() if issubclass(option, DiffusionClip)}
    assert learned_as == ours


def test_presets_combine():
    cfg = configure("experiment=toonfaces_zombie", "preset=[onestep,lora]")
    assert (type(cfg.method), cfg.method.lora.rank, cfg.sampler.encode) == (
        OneStep,
        8,
        Encode.stochastic,
    )


def test_two_presets_in_one_word_are_the_two():
    one, two = (
        plain(configure("experiment=toonfaces_zombie", f"preset={preset}"))
        for preset in ("onestep_lora", "[onestep,lora]")
    )
    assert one == two


def test_an_objective_is_learned_at_debug_size(tiny, tmp_path):
    from dclip.pipeline import run

    settings = {
        k: v
        for k, v in tiny.items()
        if k in SMALL or k.split(".")[0] not in ("experiment", "sampler", "method")
    }
    overrides = words(
        {"experiment": "toonfaces_red_hair", **settings},
        output=tmp_path,
        metric="none",
        degrees="[]",
    )
    folder = run(configure(*overrides, "preset=[onestep,lora]"))
    assert read_edit(str(folder)).header["kind_of_weights"] == "lora"
    assert read_json(folder / "status.json")["status"] == "finished"


# ------------------------------------------------------------------------------------------- applications


@pytest.mark.parametrize("name", APPLIED)
def test_every_application_begins_with_its_command_and_is_possible(name, hand):
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text("utf-8")
    assert f"python run.py experiment={name}" in text.splitlines()[1]
    cfg = configure(f"experiment={name}", *hand)
    assert cfg.task.applies
    assert set(cfg.edit.name.split("+")) <= {"red_hair", "beard", "tanned"}


@pytest.mark.parametrize("name", ["apply_mix", "translate_sketch"])
def test_an_application_says_what_to_learn_first(name, tmp_path):
    with pytest.raises(DclipError, match=r"edit\.adapter=red_hair is neither .* first learn it"):
        configure(f"experiment={name}", f"output={tmp_path}")


@pytest.mark.parametrize("name", ["apply_soup", "apply_stochastic"])
def test_an_application_runs_to_its_pictures_at_debug_size(name, hand):
    from dclip.pipeline import run

    folder = run(configure(f"experiment={name}", *hand, "name=application"))
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == (8 if name == "apply_stochastic" else 2)
    assert ("variety" in metrics) is (name == "apply_stochastic")
    assert (folder / "samples" / "degree_of_change.gif").is_file()


def test_a_single_image_and_examples_ask_for_their_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DclipError, match=r"input=photo\.png does not exist"):
        configure("experiment=single_image")
    with pytest.raises(DclipError, match=r"edit\.examples=examples does not exist"):
        configure("experiment=examples")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    cfg = configure("experiment=single_image")
    assert (type(cfg.method), cfg.method.lora.rank, cfg.method.batch) == (
        OneStep,
        8,
        1,
    )
