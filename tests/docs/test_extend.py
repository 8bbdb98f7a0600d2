"""docs/extend.md is what it says: its files are written, its commands are run."""

import re
import shlex
import sys

import pytest
from hydra.core.config_store import ConfigStore

from dclip.config import OPTIONS
from dclip.edits.header import read_edit_header
from dclip.files import read_json
from dclip.metrics import names
from dclip.models.header import read_header
from dclip.prepare import plugins
from dclip.record import identity
from helpers.runs import ROOT, command_here, words

PAGE = (ROOT / "docs" / "extend.md").read_text("utf-8")
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}

LONG = ("A guidance", "An objective")


def blocks(text, *languages):
    return [
        body
        for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if language in languages
    ]


def commands(text):
    return [shlex.split(line) for block in blocks(text, "sh") for line in block.splitlines()]


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    """Whatever a page's modules register is gone afterwards."""
    for group in OPTIONS:
        monkeypatch.setitem(OPTIONS, group, dict(OPTIONS[group]))
        monkeypatch.setitem(
            ConfigStore.instance().repo, group, dict(ConfigStore.instance().repo[group])
        )
    kept = [(registry, dict(registry)) for registry in (names.METRICS,)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def run(given, tiny, folder):
    """One command of a page, small; returns its run's folder."""
    assert given[:2] == ["python", "run.py"]
    small = {k: v for k, v in tiny.items() if k not in ("experiment", "sampler", "metric.kid")}
    small |= {
        "dataset.train": 2,
        "dataset.validation": 1,
        "dataset.test": 2,
        "metric.identity": "false",
        "degrees": "[0,1]",
    }
    sampling = ("task=", "experiment=toonfaces_contrastive", "experiment=toonfaces_latent")
    if any(word.startswith(sampling) for word in given):
        small = {k: v for k, v in small.items() if not k.startswith("method.")}
    if "plugins=margin" in given:
        small |= {"task.count": 2, "task.leak": 0, "sampler.t0": 500, "metric.clip": "false"}
    if "experiment=toonfaces_latent" in given:
        small |= {"method.steps": 1, "method.s_opt": 2, "task.leak": 4}
    if any(word in ("plugins=colour", "edit=red_hair") for word in given):
        small = {k: v for k, v in small.items() if k.split(".")[0] not in ("experiment", "edit")}
        small |= {"metric.clip": "true"}
    if "method=colour" in given:
        small = {k: v for k, v in small.items() if not k.startswith("method.")}
    told = {word.split("=")[0] for word in given}
    settings = words({k: v for k, v in small.items() if k not in told})
    if "plan=true" in given:
        with pytest.raises(SystemExit) as ended:
            command_here(*given[2:], *settings, cwd=folder)
        assert ended.value.code == 0
        return folder
    command_here(*given[2:], *settings, cwd=folder)
    return (folder / "outputs" / "latest").resolve()


def write_files(text, folder):
    for body in blocks(text, "python", "yaml"):
        path = folder / re.findall(r"^# ([\w/]+\.\w+)$", body, re.MULTILINE)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, "utf-8")


def test_the_page_has_an_example_of_everything():
    assert list(SECTIONS) == list(CHECKS)
    assert all(blocks(text, "python", "yaml") and commands(text) for text in SECTIONS.values())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in SECTIONS],
)
def test_an_example_runs_as_it_is_printed(name, tiny, tmp_path, untouched):
    write_files(SECTIONS[name], tmp_path)
    found = [run(given, tiny, tmp_path) for given in commands(SECTIONS[name])]
    done = [folder for folder in found if (folder / "status.json").is_file()]
    assert all(read_json(folder / "status.json")["status"] == "finished" for folder in done)
    CHECKS[name](found, tmp_path)


def check_metric(found, _):
    tuned, applied = (read_json(folder / "metrics.json")["warmth"] for folder in found)
    assert -2 <= tuned <= 2 and applied != tuned
    assert "warmth" in (found[0] / "rows.csv").read_text("utf-8").splitlines()[0]
    assert "warmth" in (found[0] / "report.html").read_text("utf-8")


def check_data_set(found, _):
    (folder,) = found
    assert "test_00001" in (folder / "rows.csv").read_text("utf-8")
    assert read_json(folder / "metrics.json")["images"] == 2


def check_edit(found, _):
    by_words, by_file = (plugins.OmegaConf.load(folder / "config.yaml") for folder in found)
    assert by_words.edit.name == by_file.edit.name == "green_eyes"
    assert by_words.edit.target == by_file.edit.target
    assert (by_file.sampler.t0, by_file.loss.l1) == (500, 3)


def drift(solver, steps, upward):
    """How far normal data move under their own optimal denoiser, which should leave them as they are."""
    import torch

    from dclip.diffusion.sampler import Prediction, sample
    from dclip.diffusion.schedule import Schedule
    from dclip.diffusion.timesteps import pairs_down, pairs_up

    schedule = Schedule()
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = pairs_up(500, steps) if upward else pairs_down(500, steps, "to_t0")

    def eps(x, t):
        return Prediction((1 - schedule.alpha_bar(int(t[0]))) ** 0.5 * x)

    return float((sample(eps, x, pairs, schedule, solver=solver) - x).abs().max())


def check_sampler(found, folder):
    """With half of DDIM's steps, which is as many network calls, it is more exact."""
    from dclip.diffusion.sampler import DDIM

    sys.path.insert(0, str(folder))
    from midpoint import MidpointRule

    sys.path.remove(str(folder))
    for upward in (True, False):
        ours, ddim = drift(MidpointRule(), 41, upward), drift(DDIM(), 81, upward)
        assert ours < ddim / 2, (ours, ddim)


def check_guidance(found, _):
    drawn, optimised = found
    assert (drawn / "samples" / "sheet.png").is_file()
    assert (optimised / "latents.safetensors").is_file()
    config = plugins.OmegaConf.load(optimised / "config.yaml")
    assert config.method.objective == "margin"


def check_objective(found, _):
    learned, applied = found
    config = plugins.OmegaConf.load(learned / "config.yaml")
    assert (config.method.objective, config.method.most) == ("random_k", 2)
    header = read_edit_header(str(learned))[1]
    assert header["method_name"] == "random_k"
    assert read_json(applied / "metrics.json")["images"] == 2


def check_method(found, folder):
    """Learned, half applied, and mixed with a fine-tuning; planned, and a row of a study."""
    from dclip.study.grid import read_study

    _, learned, half, _, mixed = found
    plans = list((folder / "outputs" / "plans").iterdir())
    assert [read_json(plan)["unet_calls"]["learn colours"] for plan in plans] == [36]
    header = read_header(learned / "adapter.safetensors")
    assert header["method_name"] == "colour"
    assert (learned / "adapter.safetensors").stat().st_size < 10_000
    whole, some, both = (read_json(of / "metrics.json")["mae"] for of in (learned, half, mixed))
    assert 0 < some < whole
    assert both != whole
    assert "loss_total" in (learned / "curves.jsonl").read_text("utf-8")
    assert (mixed / "report.html").is_file()
    study = read_study(str(folder / "colours.yaml"))
    assert len(study.jobs) == 2


CHECKS = {
    "A metric": check_metric,
    "A data set": check_data_set,
    "An edit": check_edit,
    "A sampler": check_sampler,
    "A guidance": check_guidance,
    "An objective": check_objective,
    "A method": check_method,
}


def test_a_plugin_that_fails_says_what_failed(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("raise RuntimeError('of its own')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(
        plugins.DclipError, match=r"plugins=breaks cannot be imported \(RuntimeError: of its own\)"
    ):
        plugins.load(["breaks"])


def test_without_plugins_a_configuration_keeps_its_old_hash(monkeypatch):
    """So that runs from before there were any are found again."""
    from dclip.record import record
    from helpers.runs import configure

    cfg, before = configure(), record.plain
    now = identity.config_hash(cfg)
    monkeypatch.setattr(
        identity, "plain", lambda c: {k: v for k, v in before(c).items() if k != "plugins"}
    )
    assert identity.config_hash(cfg) == now
    monkeypatch.undo()
    cfg.plugins = "mine"
    assert identity.config_hash(cfg) != now


def test_the_study_and_the_search_on_the_page_about_studies_are_possible(tmp_path):
    from dclip.study.grid import read_study
    from dclip.study.jobs import Folders
    from dclip.study.progress import Progress
    from dclip.study.search import check, read_search

    texts = blocks((ROOT / "docs" / "studies.md").read_text("utf-8"), "yaml")
    grid, search = (tmp_path / name for name in ("grid.yaml", "search.yaml"))
    for path, text in zip((grid, search), texts, strict=True):
        path.write_text(text, "utf-8")
    runs = Progress(read_study(str(grid)), Folders(tmp_path, tmp_path)).unique()
    assert len(runs) == 2 * (3 + 2 + 2)
    found = read_search(str(search))
    check(found)
    assert found.by_epoch and not found.maximize
