"""Presets, and the experiments of objectives and applications."""

import importlib.util
import json
import shutil

import pytest
from omegaconf import OmegaConf
from PIL import Image

from dclip.config import Encode, plain
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.diffusionclip.options import ObjectiveName
from helpers.networks import write_edit
from helpers.runs import ROOT, SMALL, configure, words

PRESETS = sorted(
    p.stem
    for p in (ROOT / "conf" / "preset").glob("*.yaml")
    if p.stem == "lora" or "objective:" in p.read_text("utf-8")
)
APPLIED = sorted(
    p.stem
    for p in (ROOT / "conf" / "experiment").glob("*.yaml")
    if p.stem.startswith(("apply_", "translate_"))
)


def script(name):
    """A script under experiments/, as a module."""
    spec = importlib.util.spec_from_file_location(
        f"{name}_run", ROOT / "experiments" / name / "run.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def learned(tiny, nets, tmp_path_factory):
    """An output folder in which red hair and beards were learned."""
    output = tmp_path_factory.mktemp("learned")
    for name, bias in (("red_hair", 0.3), ("beard", -0.2)):
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
    cfg = configure("experiment=toonfaces_red_hair", f"preset={name}")
    assert cfg.edit.name == "red_hair"
    learned_as = "gpu_efficient" if name == "lora" else name
    for variant in ("_faithful", "_invert", "_lora"):
        learned_as = learned_as.removesuffix(variant)
    assert cfg.method.objective.value == learned_as
    assert (cfg.method.lora.rank > 0) is name.endswith("lora")


def test_every_objective_has_a_preset():
    assert {configure(f"preset={name}").method.objective for name in PRESETS} == set(ObjectiveName)


def test_presets_combine():
    cfg = configure("experiment=toonfaces_zombie", "preset=[onestep,lora]")
    assert (cfg.method.objective, cfg.method.lora.rank, cfg.sampler.encode) == (
        ObjectiveName.onestep,
        8,
        Encode.stochastic,
    )


def test_an_objective_is_learned_at_debug_size(tiny, tmp_path):
    from dclip.pipeline import run

    settings = {
        k: v
        for k, v in tiny.items()
        if k in SMALL or k.split(".")[0] not in ("experiment", "sampler", "method")
    }
    overrides = words(
        {"experiment": "toonfaces_red_hair", **settings}, output=tmp_path, metric="none"
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
    assert set(cfg.edit.name.split("+")) <= {"red_hair", "beard"}


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
    assert (cfg.method.objective, cfg.method.lora.rank, cfg.method.batch) == (
        ObjectiveName.onestep,
        8,
        1,
    )


# ------------------------------------------------------------------------------------------- grids


def test_equal_budgets_mean_equal_network_calls():
    grid = script("finetuning")
    chain = configure("experiment=toonfaces_red_hair").method
    for preset in grid.PRESETS.split(","):
        spent = grid.epochs("red_hair", preset, 1.0) * grid.calls(preset, chain.s_train)
        one_epoch = grid.calls(preset, chain.s_train)
        assert abs(spent - chain.epochs * 3 * chain.s_train) <= one_epoch / 2, preset
    assert grid.epochs("red_hair", "onestep_lora", 0.25) < grid.epochs(
        "red_hair", "onestep_lora", 1.0
    )
    assert set(grid.PRESETS.split(",")) == set(PRESETS)


def finished_run(folder, note, **metrics):
    (folder / "samples").mkdir(parents=True)
    settings = plain(configure(f"note='{note}'"))
    OmegaConf.save(OmegaConf.create(settings), folder / "config.yaml")
    (folder / "status.json").write_text(json.dumps({"status": "finished"}))
    (folder / "metrics.json").write_text(json.dumps({"images": 3, **metrics}))
    (folder / "adapter.safetensors").write_bytes(b"x" * 1000)
    Image.new("RGB", (8, 8)).save(folder / "samples" / "before_after.png")


def test_a_grid_of_objectives_becomes_a_table_with_its_spread_over_seeds(tmp_path, monkeypatch):
    grid = script("finetuning")
    monkeypatch.setattr(grid, "HERE", tmp_path)
    for seed, success in ((0, 0.8), (1, 0.6)):
        finished_run(
            tmp_path / "red_hair_chain" / str(seed),
            f"finetuning / red_hair / chain / 1 / {seed}",
            judge_success=success,
        )
    finished_run(
        tmp_path / "red_hair_lora" / "0",
        "finetuning / red_hair / lora / 0.25 / 0",
        judge_success=0.5,
    )
    runs = grid.cells(tmp_path)
    assert set(runs) == {
        ("red_hair", "chain", 1.0, 0),
        ("red_hair", "chain", 1.0, 1),
        ("red_hair", "lora", 0.25, 0),
    }
    table = grid.rows(runs)
    assert [(line["objective"], line["seeds"]) for line in table] == [("chain", 2), ("lora", 1)]
    assert table[0]["judge_success"] == pytest.approx(0.7)
    text = grid.markdown(table)
    assert "judge_success ↑" in text
    assert "0.7 ±0.14" in text
    assert "| - |" in text
    assert grid.montage(runs, "red_hair").size == (8, 36)
    grid.write_csv(
        tmp_path / "table.csv", table
    )  # what is not run anew, or only from fewer seeds, stays
    fewer = {key: folder for key, folder in runs.items() if key[1] == "chain" and key[3] == 0}
    assert [(line["objective"], line["seeds"], line["budget"]) for line in grid.rows(fewer)] == [
        ("chain", 2, 1.0),
        ("lora", 1, 0.25),
    ]


def test_every_row_of_the_applications_is_a_possible_command(learned, hand, tmp_path):
    grid = script("applications")
    grid.draw(tmp_path)
    assert len(list((tmp_path / "red_hair").glob("*.png"))) == 16
    for rows in grid.SECTIONS.values():
        for command in rows.values():
            configure(
                *[word.replace("{work}", str(tmp_path)) for word in command],
                f"output={learned}",
                "dataset.test=2",
            )


def test_the_applications_become_a_table_a_section(tmp_path, monkeypatch, capsys):
    grid = script("applications")
    monkeypatch.setattr(grid, "HERE", tmp_path)
    finished_run(
        tmp_path / "mix_3" / "0",
        "applications / mix / mixed, gamma 2",
        judge_success=0.75,
        judge_success_beard=0.9,
    )
    finished_run(tmp_path / "mix_8" / "0", "applications / mix / soup, gamma 2", judge_success=0.5)
    grid.collect(tmp_path)
    table = grid.cells(grid.earlier(), "mix")
    assert [line[""] for line in table] == ["mixed, gamma 2", "soup, gamma 2"]
    assert table[1]["judge_success_beard"] == "-"
    assert "| mixed, gamma 2 | 3 | 0.75 | 0.9 |" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "mix_3")  # what is not run anew stays
    grid.collect(tmp_path)
    assert "| mixed, gamma 2 | 3 | 0.75 | 0.9 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "cell", "made"),
    [
        ("sde_table1.run", "sde_table1 / beard / contrastive / 0", ("table.md", "beard.png")),
        (
            "sde_table1_cifar10.own",
            "sde_table1_cifar10_own / airplane / contrastive",
            ("own.md", "airplane.png"),
        ),
    ],
)
def test_guided_samples_become_a_table_and_a_picture_that_only_grows(
    name, cell, made, tmp_path, monkeypatch
):
    grid = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr(grid, "HERE", tmp_path)
    finished_run(tmp_path / "runs" / "0", cell, count=16, kid_10=2.5)
    samples = tmp_path / "runs" / "0" / "samples"
    samples.mkdir(exist_ok=True)
    for i in range(2):
        Image.new("RGB", (8, 8), "red").save(samples / f"image_{i}.png")
    grid.collect(tmp_path)
    assert "| contrastive | 16 |" in (tmp_path / made[0]).read_text("utf-8")
    first = Image.open(tmp_path / made[1])
    assert first.height in (10, 18) and first.getpixel((0, 0)) == (255, 0, 0)
    Image.new("RGB", (8, 100)).save(tmp_path / made[1])  # of more methods, from an earlier run
    grid.collect(tmp_path)
    assert Image.open(tmp_path / made[1]).height == 100
