"""Studies: their files, their jobs (mostly faked: a run's files, with numbers that follow from its settings), their tables."""

import csv
import itertools
import json
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from dclip import files
from dclip.config import plain
from dclip.data.toonfaces.drawing import render
from dclip.data.toonfaces.faces import sample_face
from dclip.data.toonfaces.truths import TRUTHS, counterfactual
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.metrics.names import find
from dclip.record import identity, record
from dclip.study import command as cli
from dclip.study import cost, document, execute, jobs, paper, progress, sheets, study_table
from dclip.study.grid import Pictures, choose_rows, read_study
from dclip.study.jobs import Folders
from dclip.study.progress import Progress
from dclip.study.sources import BASELINE, check_columns
from dclip.study.watch import Watch
from helpers.composed import configured
from helpers.runs import ROOT, command, words

PAPER = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments" / "paper.yaml"))
GRID = """
title: "A grid"
base: [task=reconstruct, trainer=cpu, sampler.encode=stochastic]
axes:
  sampler.t0: [300, 400]
  steps: {"(4, 2)": [sampler.s_for=4, sampler.s_gen=2], "(4, 4)": [sampler.s_for=4, sampler.s_gen=4]}
columns: [mae, ssim, lpips]
"""


GRIDS = [
    name for name in document.studies() if not name.startswith("tune_")
]  # the others: test_search.py
LARGE = ("benchmark", "dclip_table5")


class FakeJob:
    """In place of a process: writes a run's files, fails, or is killed, as the control folder says.

    ``started`` gets a line a job; ``fail`` and ``die`` hold words: a job that has one fails, or is killed half-way.
    """

    control = Path()
    seconds = 0.0
    pids = itertools.count(10**8)  # no process has these

    def __init__(self, command, stdout, stderr):
        self.words, self.log, self.pid = command[1:], stdout, next(self.pids)

    def is_in(self, name):
        path = self.control / name
        wanted = path.read_text().split("\n") if path.is_file() else []
        return any(word and word in " ".join(self.words) for word in wanted)

    def wait(self, timeout=None):
        self.returncode = self.work()
        return self.returncode

    def work(self):
        with (self.control / "started").open("a") as stream:
            stream.write(" ".join(self.words) + "\n")
        if self.is_in("fail"):
            self.log.write(b"Some noise\nerror: there is no such thing; choose another\n")
            self.log.flush()  # as a process of its own does
            return 2
        settings = dict(word.split("=", 1) for word in self.words)
        cfg = replace(
            configured(self.words),
            output=settings["output"],
            sweep=settings["sweep"],
            resume=settings.get("resume") == "true",
        )
        folder, resumed = record.make_folder(cfg)
        who = {
            "config": identity.config_hash(cfg),
            "sweep": cfg.sweep,
            "host": platform.node(),
            "pid": self.pid,
        }
        files.write_json(folder / "status.json", {"status": "running", **who})
        if self.is_in("die"):
            return -signal.SIGKILL
        time.sleep(self.seconds)
        OmegaConf.save(OmegaConf.create(plain(cfg)), folder / "config.yaml")
        mae = round(cfg.sampler.t0 / 1000 + cfg.seed / 100 - cfg.sampler.s_gen / 10000, 6)
        scores = {
            "mae": mae,
            "ssim": 1 - mae,
            "images": 4,
            "lpips_absent": "no trunk",
            "seconds_edit": 8,
        }
        files.write_json(folder / "metrics.json", scores)
        files.write_rows(
            folder / "rows.csv",
            {"image": list("abcd"), "mae": [mae + k / 100 for k in range(4)], "id": [0.5] * 4},
        )
        if cfg.task.learns:
            self.write_edit(folder / "adapter.safetensors", plain(cfg))
        samples = folder / "samples"
        samples.mkdir(exist_ok=True)
        for picture in ("before_after", "image_0", "image_1"):
            Image.new("RGB", (8, 8), "red").save(samples / f"{picture}.png")
        environment = {"cpus": 2, "threads": 1, "git": "abc"}
        done = {
            "status": "finished",
            "seconds": 1.5,
            "resumed": resumed,
            **who,
            "environment": environment,
        }
        files.write_json(folder / "status.json", done)
        return 0

    def write_edit(self, path, settings):
        """An edit's header, and one number in place of weights."""
        document = {
            "kind": "edit",
            **{key: settings[key] for key in ("edit", "sampler", "method", "loss", "clip", "seed")},
        }
        tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        head = json.dumps({"__metadata__": {"dclip": json.dumps(document)}, "x": tensor}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that runs a study file in a folder of its own, with played jobs."""
    monkeypatch.setattr(FakeJob, "control", tmp_path)
    monkeypatch.setattr(jobs, "frozen", lambda _: None)
    monkeypatch.setattr(jobs, "program", lambda _: ["job"])
    monkeypatch.setattr(cli, "has_changed", lambda _: False)
    monkeypatch.setattr(jobs.subprocess, "Popen", FakeJob)
    monkeypatch.setattr(progress, "configured", configured)
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cost.plan, "gpu", lambda: None)
    monkeypatch.chdir(tmp_path)

    def run(text, *more):
        (tmp_path / "mine.yaml").write_text(text, "utf-8")
        return cli.main([f"study={tmp_path / 'mine.yaml'}", "output=out", *more])

    run.control = tmp_path
    run.started = lambda: (
        (tmp_path / "started").read_text().splitlines() if (tmp_path / "started").exists() else []
    )
    run.table = lambda: list(
        csv.DictReader((tmp_path / "out" / "table.csv").open(encoding="utf-8"))
    )
    return run


# ------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in GRIDS],
)
def test_every_row_of_a_study_is_possible_and_its_columns_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # inputs are named from there
    first = (ROOT / "conf" / "study" / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first.split()[:4] == ["#", "python", "run.py", f"study={name}"]
    study = read_study(name, seeds=[0])
    assert len({job.label for job in study.jobs}) == len(study.jobs) > 1
    assert len(study.title) > 10
    made = Progress(study, Folders(tmp_path, tmp_path))  # composes and checks each
    planned = made.unique()
    others = {run for job in study.jobs for run in job.first}
    if not name.endswith(("ablations", "benchmark", "claims")):  # whose parts share runs
        assert len(planned) == len(study.jobs) + len(others)
    check_columns(study.columns, [made.of(job).cfg for job in study.jobs])
    assert study.baseline or not any(one.endswith(BASELINE) for one in study.columns.values())


def test_every_table_of_the_papers_has_its_study_and_both_kinds_of_images():
    names = set(document.studies())
    assert {
        f"dclip_{t}" for t in ("table1", "table3", "table4", "table5", "ablations", "timing")
    } | {"sde_table1", "sde_table1_cifar10"} <= names
    assert {f"toonfaces_{t}" for t in ("table1", "table4", "table5", "ablations")} <= names


@pytest.mark.parametrize("name", [n for n in GRIDS if read_study(n).paper])
def test_rows_of_a_study_are_rows_of_its_paper_table(name):
    found = read_study(name)
    ours = [{**found.ours, **dict(row)} for row in found.rows]
    matched = [
        printed for printed in paper.paper_rows(found.paper) if any(map(printed.is_of, ours))
    ]
    expected = {
        "dclip_table1": 4,
        "dclip_table3": 2,
        "dclip_table4": 36,
        "dclip_table5": 43,
        "dclip_timing": 4,
        "sde_table1_cifar10": 3,
        "sde_table1_cifar10_own": 3,
        "cifar10_table4": 36,
    }
    assert len(matched) == expected[name]


def test_the_papers_numbers_have_one_form():
    for name, table in PAPER.items():
        width = len(table["key"]) + len(table["columns"])
        assert all(
            isinstance(table[k], str) and len(table[k]) > 5 for k in ("paper", "table", "note")
        ), name
        assert all(len(row) == width for row in table["rows"]), name
        keys = [tuple(map(str, row[: len(table["key"])])) for row in table["rows"]]
        assert len(set(keys)) == len(keys), name
        assert all(
            x is None or isinstance(x, (int, float))
            for row in table["rows"]
            for x in row[len(table["key"]) :]
        ), name
        assert {c for c in table["columns"] if find(c) is None} <= set(table.get("units", {})), name


def test_the_papers_numbers_agree_where_they_are_printed_twice():
    """And where they do not, the note says so."""
    first = {
        (row[1]): row[2:] for row in PAPER["dclip_table1"]["rows"] if row[0] == "DiffusionCLIP"
    }
    fourth = {row[0]: row[2:] for row in PAPER["dclip_table4"]["rows"] if row[1] == "(200, 40)"}
    assert {t0 for t0 in first if first[t0] != fourth[t0]} == {400}
    assert first[400][1:] == fourth[400][1:]
    assert (
        "t0 = 400" in PAPER["dclip_table1"]["note"] and "t0 = 400" in PAPER["dclip_table4"]["note"]
    )
    steps = {row[1] for row in PAPER["dclip_table4"]["rows"]}
    assert len(PAPER["dclip_table4"]["rows"]) == 4 * len(steps) == 36
    timing, totals = (
        {row[0]: row[1:] for row in PAPER[name]["rows"]}
        for name in ("dclip_timing", "dclip_timing_totals")
    )
    for steps in ("(40, 6)", "(200, 40)"):
        assert sum(timing[f"edit, (S_for, S_gen) = {steps}"][:2]) == pytest.approx(
            totals[f"an edit, {steps}"][0], abs=1e-6
        )
    assert 50 * timing["fine-tune, S_gen = 6"][2] == pytest.approx(
        totals["an epoch of 50 images"][0]
    )


def test_the_settings_of_table_five_are_those_of_the_edits():
    rows = PAPER["dclip_table5"]["rows"]
    assert len(rows) == 43
    for images, name, t0, l1, weight in rows:
        edit = OmegaConf.load(ROOT / "conf" / "edit" / f"{name}.yaml")
        assert (edit.sampler.t0, edit.loss.l1, edit.loss.id) == (t0, l1, weight or 0), name
        assert (weight is None) == (images != "faces")


# ------------------------------------------------------------------------------------------- running


def test_a_grid_becomes_a_table_and_nothing_is_run_twice(fake, capsys):
    assert fake(GRID, "seeds=0,1") == 0
    rows = fake.table()
    assert [(r["t0"], r["steps"], r["n"], r["seeds"]) for r in rows] == [
        (t0, steps, "4", "2") for t0 in ("300", "400") for steps in ("(4, 2)", "(4, 4)")
    ]
    for row in rows:
        expected = [
            int(row["t0"]) / 1000 + seed / 100 - int(row["steps"][4]) / 10000 for seed in (0, 1)
        ]
        assert float(row["mae"]) == pytest.approx(sum(expected) / 2)
        assert float(row["mae_std"]) == pytest.approx(0.01 / 2**0.5, rel=1e-4)
        assert row["lpips"] == row["state"] == ""
    assert len(fake.started()) == 8
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "| t0 | steps | n | seeds | mae ↓ | ssim ↑ | lpips ↓ |" in page
    assert (
        "0.3048 ±0.0071" in page
        and "lpips: no trunk" in page
        and "standard deviation over seeds" in page
    )
    tex = (fake.control / "out" / "table.tex").read_text("utf-8")
    assert (
        tex.count(r"\\") == 5
        and r"\begin{tabular}{llrrrrr}" in tex
        and "±" not in tex.split(r"\toprule")[1]
    )
    assert Image.open(fake.control / "out" / "figure.png").size[0] > 200
    capsys.readouterr()
    assert fake(GRID, "seeds=0,1") == 0
    assert len(fake.started()) == 8
    assert fake(GRID, "seeds=0,1,2") == 0  # what is new is run, and only that
    assert len(fake.started()) == 12
    assert {r["seeds"] for r in fake.table()} == {"3"}


ONCE = """
title: "One row in which nothing is random"
base: [task=reconstruct, trainer=cpu]
axes: {sampler.t0: [300]}
columns: [mae]
"""


def test_where_nothing_is_random_one_seed_is_run_and_shown_without_a_spread(fake):
    assert fake(ONCE, "seeds=3,4") == 0
    [started] = fake.started()
    assert "seed=3" in started
    [row] = fake.table()
    assert (row["seeds"], row["n"]) == ("1", "4")
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "±0 " not in page and "over images" in page
    drawn = read(fake, ONCE.replace("trainer=cpu", "trainer=cpu, dataset=sampled"), [3, 4])
    assert len(Progress(drawn, Folders.of("x", "y", True)).unique()) == 2


def read(fake, text, seeds):
    (fake.control / "other.yaml").write_text(text, "utf-8")
    return read_study(str(fake.control / "other.yaml"), seeds=seeds)


def test_the_footer_names_the_command_that_makes_the_table(fake):
    fake(GRID, "seeds=0,1", "dataset.test=4")
    file = fake.control / "mine.yaml"
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert f"command: python run.py study={file} seeds=0,1 dataset.test=4; first job" in page


def test_seeds_of_ones_own_are_said_to_leave_the_published_table(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study=toonfaces_table4", "seeds=0,1", "collect=true"]) == 0
    out = capsys.readouterr().out
    place = Path("outputs/studies/toonfaces_table4/table")
    assert f"with seeds=0,1 the table goes to {place}, not into experiments/" in out
    assert "command: python run.py study=toonfaces_table4 seeds=0,1; first job" in out


def test_one_seed_has_the_spread_of_its_images(fake):
    assert fake(GRID) == 0
    row = fake.table()[0]
    assert float(row["mae_std"]) == pytest.approx((5 / 3) ** 0.5 / 100, rel=1e-4)
    assert "standard deviation over images" in (fake.control / "out" / "table.md").read_text(
        "utf-8"
    )


def test_failed_jobs_are_shown_with_their_reason_and_run_again(fake, capsys):
    (fake.control / "fail").write_text("sampler.t0=400 sampler.s_for=4 sampler.s_gen=2")
    assert fake(GRID) == 1
    told = capsys.readouterr()
    assert "failed: t0=400 steps=(4, 2) seed=0: there is no such thing; choose another" in told.err
    assert "the same command" in told.err
    states = {(r["t0"], r["steps"]): (r["state"], r["mae"]) for r in fake.table()}
    assert states["400", "(4, 2)"] == ("failed", "")
    assert [k for k, (state, mae) in states.items() if state or not mae] == [("400", "(4, 2)")]
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "| 400 | (4, 2) | - | - | failed | failed | failed |" in page
    assert "t0=400 steps=(4, 2): failed: there is no such thing" in page
    assert fake(GRID, "collect=true") == 0  # the table can be made again, and still says it
    assert "there is no such thing" in (fake.control / "out" / "table.md").read_text("utf-8")
    (fake.control / "fail").unlink()
    before = len(fake.started())
    assert fake(GRID) == 0
    assert len(fake.started()) == before + 1
    assert not any(r["state"] for r in fake.table())


def test_after_some_failed_jobs_no_other_is_started_if_so_wished(fake, capsys):
    (fake.control / "fail").write_text("sampler.t0=300")
    assert fake(GRID, "fail_fast=1") == 1
    assert len(fake.started()) == 1
    said = "fail_fast=1: 3 jobs were not started, because 1 failed"
    out = capsys.readouterr().out
    assert said in out and "\n1 job in " in out
    page = (fake.control / "out" / "runs" / "study.html").read_text("utf-8")
    assert said in page and 'http-equiv="refresh"' not in page
    assert fake(GRID, "fail_fast=3") == 1
    out = capsys.readouterr().out
    assert "not started" not in out and "\n4 jobs in " in out  # only two can fail


@pytest.mark.parametrize(
    "times", [range(300, 700, 100), pytest.param(range(300, 800, 10), marks=pytest.mark.slow)]
)  # times two
def test_five_killed_jobs_are_finished_by_the_same_command(times, fake, tmp_path):
    grid, jobs = GRID.replace("[300, 400]", str(list(times))), 2 * len(times)
    (fake.control / "die").write_text(
        "sampler.t0=300\nsampler.t0=400\nsampler.t0=500 sampler.s_for=4 sampler.s_gen=2"
    )
    assert fake(grid) == 1
    rows = fake.table()
    assert [r["state"] for r in rows].count("killed") == 5
    assert sum(bool(r["mae"]) for r in rows) == jobs - 5
    assert "its process was killed" in (tmp_path / "out" / "table.md").read_text("utf-8")
    (fake.control / "die").unlink()
    assert fake(grid) == 0
    assert len(fake.started()) == jobs + 5
    assert sum("resume=true" in line for line in fake.started()) == 5
    folders = list((tmp_path / "out" / "runs").glob("*/*/status.json"))
    assert len(folders) == jobs  # the killed ones went on in their folders
    interrupted = fake.table()
    (tmp_path / "out").rename(tmp_path / "before")
    assert fake(grid) == 0
    assert fake.table() == interrupted  # as if nothing had happened


def test_two_commands_at_once_share_the_jobs(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeJob, "seconds", 0.5)
    (tmp_path / "mine.yaml").write_text(GRID, "utf-8")
    both = [
        Progress(read_study(str(tmp_path / "mine.yaml")), Folders.of("mine", "out", False))
        for _ in range(2)
    ]
    threads = [
        threading.Thread(target=execute.run_study, args=(one, 2, Watch(lambda _: None)))
        for one in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.started()) == 4
    assert len(list((tmp_path / "out" / "runs").glob("*/*/metrics.json"))) == 4


def test_workers_run_side_by_side(fake, monkeypatch):
    monkeypatch.setattr(FakeJob, "seconds", 0.1)
    assert fake(GRID, "workers=4") == 0
    assert len(fake.started()) == 4


TUNED = """
title: "Two edits of one fine-tuning"
base: [experiment=toonfaces_zombie, trainer=cpu]
grids:
  - key: {ablation: eta}
    base: [task=edit]
    adapter: [method.epochs=2]
    axes:
      setting: {"0": sampler.eta=0, "1": sampler.eta=1}
  - key: {ablation: epochs}
    axes:
      setting: {"2": method.epochs=2, "3": method.epochs=3}
columns: {mae: mae, "per image": seconds_edit / images, epochs: config.method.epochs}
"""


def test_one_fine_tuning_serves_all_cells_that_need_it(fake, tmp_path):
    assert fake(TUNED) == 0
    started = fake.started()
    assert len(started) == 4  # two fine-tunings, of which one is a cell too, and two edits
    assert [("task=edit" in line) for line in started] == [False, False, True, True]
    edits = [line for line in started if "task=edit" in line]
    assert all("edit.adapter=" in line for line in edits)
    rows = fake.table()
    assert [r["setting"] for r in rows] == ["0", "1", "2", "3"]
    assert all(float(r["per image"]) == 2 for r in rows)
    assert [r["epochs"] for r in rows][2:] == ["2.0", "3.0"]


def test_edits_wait_for_a_fine_tuning_that_failed(fake):
    (fake.control / "fail").write_text("method.epochs=2")
    assert fake(TUNED) == 1
    assert [r["state"] for r in fake.table()] == ["waiting", "waiting", "failed", ""]
    assert len(fake.started()) == 2
    (fake.control / "fail").unlink()
    assert fake(TUNED) == 0
    assert len(fake.started()) == 2 + 3


def test_a_row_that_waits_for_others_is_checked_before_anything_runs(fake):
    with pytest.raises(DclipError, match=r"there is no setting sampler\.etta"):
        fake(TUNED.replace('"1": sampler.eta=1', '"1": sampler.etta=1'))
    assert fake.started() == []


BUILT = """
title: "Rows that build on runs by name"
base: [trainer=cpu]
first:
  zombie: [experiment=toonfaces_zombie, method.epochs=2]
  tanned: [experiment=toonfaces_tanned, method.epochs=2]
  unused: [experiment=toonfaces_beard]
axes:
  row:
    one: [task=edit, "edit.adapter={zombie}"]
    both: [task=edit, "edit.adapter=[{zombie},{tanned}]", gamma=2]
    file: [task=edit, "edit.adapter={tanned}/adapter.safetensors"]
    none: task=reconstruct
columns: {mae: mae, mb: file.adapter.safetensors}
"""


def test_rows_build_on_any_number_of_runs_by_name(fake):
    assert fake(BUILT) == 0
    started = fake.started()
    assert len(started) == 2 + 4 and not any("beard" in line for line in started)
    zombie, tanned = (
        next(path.parent for path in fake.control.glob(f"out/runs/finetune_{name}/*/config.yaml"))
        for name in ("zombie", "tanned")
    )
    edits = [line for line in started if "task=edit" in line]
    assert f"edit.adapter={zombie} " in edits[0]
    assert f"edit.adapter=[{zombie},{tanned}]" in edits[1]
    assert f"edit.adapter={tanned}/adapter.safetensors" in edits[2]
    assert [row["mb"] for row in fake.table()] == [""] * 4  # only fine-tunings have the file


def test_edits_in_which_nothing_is_random_have_the_seeds_of_the_runs_they_build_on(fake):
    assert fake(BUILT, "rows=one", "seeds=3,4") == 0
    edits = [line for line in fake.started() if "task=edit" in line]
    assert len(edits) == 2 and all("seed=3" in line for line in edits)
    assert fake.table()[0]["seeds"] == "2"


def test_rows_that_wait_for_runs_that_nobody_wanted_have_not_failed(fake, capsys):
    assert fake(BUILT, "rows=none") == 0
    assert [row["state"] for row in fake.table()] == [""] * 4
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "waiting" not in page
    (fake.control / "fail").write_text("toonfaces_tanned")
    assert fake(BUILT) == 1
    assert [row["state"] for row in fake.table()] == ["", "waiting", "waiting", ""]
    said = "waiting: row=both seed=0: tanned, which it builds on, is not finished: there is no"
    assert said in capsys.readouterr().err
    assert fake(BUILT, "collect=true") == 0  # the table can be made again, and still says it
    assert [row["state"] for row in fake.table()] == ["", "waiting", "waiting", ""]


def test_a_setting_given_in_place_of_a_run_makes_the_run_needless(fake, tmp_path):
    assert fake(BUILT, "task=reconstruct", "edit.adapter=null", "gamma=1") == 0
    assert not any("toonfaces_" in line for line in fake.started())


WIDE = """
title: "Parts, ratios and pictures"
base: [task=reconstruct, trainer=cpu]
grids:
  - key: {part: coarse}
    axes: {sampler.t0: [300, 400], steps: {few: sampler.s_gen=2, more: sampler.s_gen=4}}
  - key: {part: fine}
    axes: {sampler.t0: [300], steps: {few: [sampler.s_gen=8, sampler.s_for=8]}}
baseline: {steps: few}
split_by: part
columns: {t: config.sampler.s_for, mae: mae, share: mae / baseline}
figure: {x: t, y: mae, panels: part, lines: [steps]}
pictures: {each: part}
"""


def test_a_table_has_parts_ratios_and_a_picture_for_each(fake):
    assert fake(WIDE) == 0
    rows = {(row["part"], row["t0"], row["steps"]): row for row in fake.table()}
    few, more = (float(rows["coarse", "400", steps]["mae"]) for steps in ("few", "more"))
    assert float(rows["coarse", "400", "more"]["share"]) == pytest.approx(more / few)
    assert float(rows["fine", "300", "few"]["share"]) == 1
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "## coarse\n\n| t0 | steps | n |" in page and "## fine\n\n| t0 | steps | n |" in page
    tall, low = (Image.open(fake.control / "out" / f"{part}.png") for part in ("coarse", "fine"))
    assert tall.height == 4 * low.height > 4 * 8
    assert Image.open(fake.control / "out" / "figure.png").size[0] > 800


def test_samples_of_all_rows_stand_below_each_other(fake):
    text = WIDE.replace("pictures: {each: part}", "pictures: {of: samples, each: t0}")
    assert (
        fake(text.replace("figure: {x: t, y: mae, panels: part, lines: [steps]}", "figure: false"))
        == 0
    )
    assert not (fake.control / "out" / "figure.png").exists()
    sheet = Image.open(fake.control / "out" / "400.png")
    assert sheet.width == 2 * (8 + 2)
    assert [sheet.getpixel((12, y)) for y in (24, 26 + 34)] == [(255, 0, 0)] * 2


def test_only_some_rows_can_be_run(fake, capsys):
    assert fake(WIDE, "rows=400,few") == 0
    assert len(fake.started()) == 1 and "sampler.t0=400 sampler.s_gen=2" in fake.started()[0]
    assert sum(bool(row["mae"]) for row in fake.table()) == 1
    assert fake(WIDE, 'rows="fine"') == 0
    assert len(fake.started()) == 2
    with pytest.raises(
        DclipError, match="rows=500: no row is called 500; there are: coarse, 300, few, more, 400"
    ):
        fake(WIDE, "rows=500")


def test_names_of_rows_are_told_as_they_are_typed():
    with pytest.raises(DclipError, match=r'there are: dclip, .*, "DiffusionCLIP, faithful", Asyrp'):
        choose_rows(read_study("benchmark"), "nobody")


def test_a_label_of_several_names_means_the_rows_that_have_the_others_too():
    study = read_study("applications")
    for text, expected in (
        ("sketch,1", [("translate", "sketch", "1")]),
        ("strokes,1,3", [("translate", "strokes", "1"), ("translate", "strokes", "3")]),
        ("degrees,0,1", [("degrees", "0"), ("degrees", "1")]),
        ('"soup, gamma 2",single', []),
    ):
        if not expected:
            with pytest.raises(DclipError, match="no row has labels of all these kinds"):
                choose_rows(study, text)
            continue
        chosen = choose_rows(study, text)
        assert sorted(tuple(dict(row).values()) for row in chosen) == expected


def test_rows_of_the_published_table_stay_until_they_are_run_again(fake, tmp_path):
    """With more seeds they stay, too; where they come from is said."""
    (tmp_path / "mine.yaml").write_text(GRID, "utf-8")
    study = read_study(str(tmp_path / "mine.yaml"))
    folders = Folders(tmp_path / "runs", tmp_path / "published", published=True)
    folders.table.mkdir()
    (folders.table / "table.csv").write_text(
        "t0,steps,n,seeds,mae,mae_std,ssim,origin\n"
        '300,"(4, 2)",9,1,0.5,0.1,0.25,old machine\n'
        '400,"(4, 2)",9,3,0.75,-,0.5,old machine\n'
        '400,"(4, 4)",9,1,0.875,,0.5,\n'
    )
    Image.new("RGB", (8, 500)).save(folders.table / "pictures.png")
    planned = Progress(study, folders)
    rows = {row for row in study.rows if row[1][1] == "(4, 2)"}
    execute.run_study(planned, 1, Watch(lambda _: None), rows)
    table = study_table.study_table(planned)
    cells = {tuple(row.key.values()): (row.cells["mae"].value, row.seeds) for row in table.rows}
    assert cells["300", "(4, 2)"] == (pytest.approx(0.2998), 1)  # made anew
    assert cells["400", "(4, 2)"] == (0.75, 3)  # anew, but of fewer seeds
    assert cells["400", "(4, 4)"] == (0.875, 1)
    assert cells["300", "(4, 4)"] == (None, 0)
    assert "1 rows kept from an earlier table: old machine" in table.notes
    assert "1 rows kept from an earlier table: origin not recorded" in table.notes
    sheets.write_sheets(planned, Pictures())  # a sheet of more rows is left alone
    assert Image.open(folders.table / "pictures.png").height == 500


def test_objectives_are_compared_at_equal_budgets():
    """A forward call of the network counts 1, a backward call 2; to half an epoch."""
    usual = {"red_hair": 6, "zombie": 8}  # epochs of six steps
    for job in read_study("finetuning", seeds=[0]).jobs:
        row = dict(job.row)
        method = configured(job.settings).method
        steps = method.s_train
        costs = {
            "chain_checkpointed": 4 * steps,
            "last_k": steps + 2,
            "annealed": steps + 2 * (steps + 1) / 2,
            "onestep": 3,
            "onestep_invert": 3,
            "onestep_invert_lora": 3,
        }
        epoch = costs.get(row["objective"], 3 * steps)
        budget = usual[row["edit"]] * 3 * 6 * float(row["budget"])
        assert abs(method.epochs * epoch - budget) <= epoch / 2, row


def test_the_pictures_that_applications_read_are_those_of_the_domain():
    truth = TRUTHS["red_hair"]
    inputs = ROOT / "experiments" / "applications" / "inputs"
    training = [
        face for face in (sample_face("train", 5000 + i) for i in range(64)) if truth.applies(face)
    ]
    face = training[0]
    for name, expected in (("before", face), ("red_hair", counterfactual(face, truth))):
        assert len(list((inputs / name).glob("*.png"))) == 16
        assert (np.asarray(Image.open(inputs / name / "0.png")) == render(expected)).all()


POOLED = """
title: "Means over edits"
paper: dclip_table3
ours: {method: DiffusionCLIP}
base: [trainer=cpu]
grids:
  - key: {images: CelebA-HQ}
    average: {experiment: [toonfaces_zombie, toonfaces_tanned]}
columns: {mae: mae, s_dir: s_dir, id: ssim}
"""


def test_a_cell_can_be_a_mean_over_edits_beside_the_papers_rows(fake):
    (fake.control / "fail").write_text("toonfaces_tanned")
    fake(POOLED)
    page = (fake.control / "out" / "table.md").read_text("utf-8")
    assert "only 1 of the 2 runs that are averaged are finished" in page
    assert fake.table()[0]["mae"] == ""
    (fake.control / "fail").unlink()
    assert fake(POOLED) == 0
    rows = fake.table()
    assert (rows[0]["method"], rows[0]["n"], rows[0]["id_paper"]) == ("DiffusionCLIP", "8", "0.7")
    others = [r for r in rows if r["method"] != "DiffusionCLIP" or r["images"] != "CelebA-HQ"]
    assert len(others) == 5 and all(r["mae"] == "" and r["s_dir_paper"] for r in others)
    assert "paper: DiffusionCLIP" in (fake.control / "out" / "table.md").read_text("utf-8")


def test_a_dry_run_lists_jobs_costs_and_what_is_missing_and_runs_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    assert cli.main(["study=dclip_table1", "dry_run=true"]) == 0
    page = capsys.readouterr().out
    assert page.count("task=reconstruct") == 4 and page.count(" new ") == 4
    assert "missing   celeba_hq" in page and "data:" in page
    assert "4 jobs, 0 finished" in page
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_which_data_would_be_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study=cifar10_table4", "dry_run=true", "rows=300"]) == 0
    page = capsys.readouterr().out
    assert page.count("fetch     CIFAR-10, 170 MB") == 1 and "into dataset.root=" in page
    assert cli.main(["study=cifar10_table4", "dry_run=true", "rows=300", "offline=true"]) == 0
    assert "missing   data: Cifar10: dataset.root=" in capsys.readouterr().out


def test_an_inversion_that_jobs_share_is_counted_once(fake, tmp_path):
    inverting = GRID.replace(", sampler.encode=stochastic", "")
    (tmp_path / "mine.yaml").write_text(inverting, "utf-8")
    planned = Progress(
        read_study(str(tmp_path / "mine.yaml"), ["dataset.test=1000"]),
        Folders.of("mine", "out", False),
    )
    seconds = [one.seconds for one in cost.costs(planned.unique())]
    assert seconds[1] == pytest.approx(
        seconds[0] * 1000 * 4 / (1000 * (3 + 2)), rel=0.05
    )  # four steps down against three up, two down
    assert seconds[2:] == seconds[:2]


def test_without_weights_nothing_starts_and_one_message_says_why(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    with pytest.raises(DclipError, match="celeba_hq"):
        fake(
            'title: "t: u"\nbase: [experiment=celeba, task=reconstruct]\naxes: {sampler.t0: [300, 400]}\ncolumns: [mae]\n'
        )
    assert fake.started() == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["study=toonfaces_tabel1"], "did you mean toonfaces_table1"),
        (["study=toonfaces_table1", "workers=0", "dry_run=true"], "workers=0"),
        (["study=toonfaces_table1", "fail_fast=0", "dry_run=true"], "fail_fast=0"),
        (["study=toonfaces_table1", "rows=", "dry_run=true"], "rows=: no row is called nothing"),
        (["study=toonfaces_table1", "study=a"], "study=toonfaces_table1 study=a: run one study"),
        (["study=toonfaces_table1", "seed=3"], "seed=3 sets one job; a study takes seeds=3"),
        (["study=toonfaces_table1", "seeds=a"], "seeds=a"),
        (["study=toonfaces_table1", "dry_run=yes"], "dry_run=yes"),
        (["study=toonfaces_table1", "plan=true"], "plan=true is for one run"),
        (["study=toonfaces_table1", "+a=1"], "+a=1"),
        (
            ["study=toonfaces_table1", "dataset.tset=1", "dry_run=true"],
            "there is no setting dataset.tset",
        ),
        (["study=toonfaces_table1", "sampler.s_gen=500", "dry_run=true"], "sampler.s_gen=500"),
    ],
)
def test_a_bad_word_is_refused_before_anything_runs(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DclipError) as caught:
        cli.main(args)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_study_file_that_cannot_be_one_is_refused(tmp_path):
    for text, said in (
        ("title: x", "no columns"),
        ("title: [x", "bad.yaml cannot be read as YAML: while parsing"),
        ("", "bad.yaml is empty, not a mapping"),
        ("[title]", "bad.yaml is a list, not a mapping"),
        ("title: x\ncolums: [mae]", "has colums, which no study has; did you mean columns?"),
        (GRID + "axis: {}\n", "axis"),
        (GRID + "grids: [{bases: []}]\n", "bases"),
        (GRID + "grids: []\n", "grids is empty, not a list"),
        (GRID + "grids: [a]\n", "a grid is a text, not a mapping"),
        (GRID + "seeds: []\n", "seeds is empty, not a list"),
        (GRID + "average: [a, b]\n", "average is a list, not a mapping"),
        (GRID + "average: {gamma: 1}\n", "gamma needs a list of values"),
        (GRID + "average: {gamma: {a: }}\n", "give settings as name=value"),
    ):
        (tmp_path / "bad.yaml").write_text(text, "utf-8")
        with pytest.raises(DclipError, match=said):
            read_study(str(tmp_path / "bad.yaml"))
    (tmp_path / "a.png").touch()
    with pytest.raises(DclipError, match="is no YAML file"):
        read_study(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("{a: closr}", "no run of this study reports closr; did you mean closer?"),
        ("[seconds_edit / image]", "reports image; did you mean images?"),
        ("[config.sampler.t9]", "reports config.sampler.t9; docs/metrics.md"),
        ("{mae: mae, a: mse / baseline}", "reports mse; did you mean mae?"),
    ],
)
def test_a_column_that_no_run_can_have_is_refused_before_anything_runs(columns, said, fake):
    with pytest.raises(DclipError, match=re.escape(said)):
        fake(GRID.replace("[mae, ssim, lpips]", columns))
    assert fake.started() == []


def test_settings_of_ones_own_never_touch_the_committed_table():
    assert (
        Folders.of("toonfaces_table1", None, False).table
        == ROOT / "experiments" / "toonfaces_table1"
    )
    assert Folders.of("toonfaces_table1", None, True).table == Path(
        "outputs/studies/toonfaces_table1/table"
    )


def test_a_study_runs_for_real_from_the_command_line(tiny, tmp_path):
    """A reconstruction of the tiny network, in a process that another one starts: the table is
    what the run says. Of several jobs: test_endurance.py.
    """
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("checkpoint", "clip", "trainer", "metric")
    }
    second = ', "(4, 4)": [sampler.s_for=4, sampler.s_gen=4]'
    text = GRID.replace("[300, 400]", "[300]").replace(second, "")
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    done = command(
        f"study={tmp_path / 'mine.yaml'}",
        "output=out",
        *words(keep, dataset__test=2, metric__identity="false"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open(encoding="utf-8")))
    runs = {
        read_json(p.parent / "metrics.json")["mae"]
        for p in (tmp_path / "out" / "runs").glob("*/*/status.json")
    }
    assert {round(float(r["mae"]), 6) for r in rows} == runs
    assert "revision" in (tmp_path / "out" / "table.md").read_text("utf-8")
    record = json.loads((tmp_path / "out" / "runs" / "jobs.json").read_text("utf-8"))
    assert [job["state"] for job in record["jobs"]] == ["finished"]


def test_reading_a_study_needs_no_torch():
    code = "import sys\nfrom dclip.study.grid import read_study\nread_study('dclip_table4')\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
