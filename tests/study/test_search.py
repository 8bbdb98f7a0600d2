"""Searches: faked trials whose goal follows from their settings, epoch by epoch; and a real one from the command line."""

import csv
import platform
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from PIL import Image

from dclip import files
from dclip.config import plain
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.record import identity, record
from dclip.study import command as cli
from dclip.study import jobs, search_table
from dclip.study import search as searching
from dclip.study import trials as running
from dclip.study.jobs import Folders
from dclip.study.watch import Watch
from helpers.composed import configured
from helpers.processes import command_apart
from helpers.runs import ROOT, words

SEARCH = """
title: "A search"
base: [experiment=toonfaces_red_hair, trainer=cpu]
goal: val_counterfactual_ratio
trials: 8
space:
  sampler.t0: {low: 300, high: 600, step: 100}
  loss.id: [0, 1]
  speed: {slow: [method.lr=1e-5, method.batch=2], fast: [method.lr=1e-4, method.batch=4]}
columns: [mae]
"""
EPOCHS = 4


def goal(cfg, epoch):
    return (
        abs(cfg.sampler.t0 - 500) / 1000
        + 0.2 * cfg.loss.id
        + (0.1 if cfg.method.batch == 2 else 0)
        + 0.1 / epoch
    )


class FakeJob:
    """In place of a process: one epoch every time it is looked at."""

    begun: list[str] = []
    fails = kills = ""

    def __init__(self, given, stdout, stderr):
        self.words, self.returncode, self.pid = given[1:], None, 10**8
        said = dict(word.split("=", 1) for word in self.words)
        self.cfg = configured(self.words)
        self.cfg.output, self.cfg.sweep, self.cfg.resume = (
            said["output"],
            said["sweep"],
            said.get("resume") == "true",
        )
        self.begun.append(" ".join(self.words))
        if self.fails and self.fails in self.begun[-1]:
            stdout.write(b"error: the weights are not finite any more\n")
            self.returncode = 2
            return
        self.folder, _ = record.make_folder(self.cfg)
        OmegaConf.save(OmegaConf.create(plain(self.cfg)), self.folder / "config.yaml")
        self.status("running")

    def status(self, state):
        who = {
            "config": identity.config_hash(self.cfg),
            "sweep": self.cfg.sweep,
            "host": platform.node(),
            "pid": self.pid,
        }
        files.write_json(
            self.folder / "status.json",
            {"status": state, "seconds": 1.0, "environment": {"cpus": 2}, **who},
        )

    def wait(self, timeout=None):
        if self.returncode is not None:
            return self.returncode
        curves = self.folder / "curves.jsonl"
        epoch = len(curves.read_text().splitlines()) + 1 if curves.is_file() else 1
        with curves.open("a") as stream:
            stream.write(
                f'{{"step": {epoch}, "val_counterfactual_ratio": {goal(self.cfg, epoch)}}}\n'
            )
        if self.kills and epoch == 2 and self.kills in self.begun[-1]:
            raise KeyboardInterrupt
        if epoch == EPOCHS:
            files.write_json(self.folder / "metrics.json", {"mae": 0.1, "images": 4})
            self.status("finished")
            self.returncode = 0
            return 0
        raise subprocess.TimeoutExpired("job", timeout)

    def terminate(self):
        self.status("stopped")
        self.returncode = -signal.SIGTERM


class Undrawn:
    def savefig(self, path, **_):
        path.write_bytes(b"")


DRAWN = search_table.figure


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A function that runs a search with played trials in a folder of its own."""
    monkeypatch.setattr(FakeJob, "begun", [])
    monkeypatch.setattr(jobs, "frozen", lambda _: None)
    monkeypatch.setattr(jobs, "program", lambda _: ["job"])
    monkeypatch.setattr(cli, "has_changed", lambda _: False)
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)
    monkeypatch.setattr(jobs.subprocess, "Popen", FakeJob)
    monkeypatch.setattr(searching, "configured", configured)
    monkeypatch.setattr(running, "configured", configured)
    monkeypatch.setattr(jobs, "POLL", 0)
    monkeypatch.setattr(
        search_table, "figure", lambda *_: Undrawn()
    )  # drawing takes most of these tests' time
    monkeypatch.chdir(tmp_path)

    def run(*more, text=SEARCH, output="out"):
        (tmp_path / "mine.yaml").write_text(text, "utf-8")
        return cli.main([f"study={tmp_path / 'mine.yaml'}", f"output={output}", *more])

    run.table = lambda output="out": list(
        csv.DictReader((tmp_path / output / "table.csv").open(encoding="utf-8"))
    )
    return run


def finished(rows):
    return [float(row["val_counterfactual_ratio"]) for row in rows if row["n"] != "0"]


def test_a_search_finds_the_best_and_says_its_command(search, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search_table, "figure", DRAWN)
    assert search() == 0
    rows = search.table()
    assert len(rows) == 8
    values = finished(rows)
    assert values == sorted(values)
    best = rows[0]
    found = capsys.readouterr().out.strip().splitlines()[-1]
    assert found.startswith("python run.py experiment=toonfaces_red_hair trainer=cpu ")
    assert f"sampler.t0={best['t0']} loss.id={best['id']}" in found and "logger=" not in found
    cfg = configured(found.split()[2:])
    assert goal(cfg, EPOCHS) == pytest.approx(values[0], abs=1e-6)
    page = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert found in page and "on the validation images after the last epoch" in page
    assert Image.open(tmp_path / "out" / "figure.png").size[0] > 400


def test_trials_that_are_worse_than_half_of_the_others_end_early(search, tmp_path):
    assert search("trials=14") == 0
    rows = search.table()
    given_up = [row for row in rows if row["state"] == "given up"]
    assert 0 < len(given_up) < 9  # never the first five
    ends = [
        len(path.read_text().splitlines())
        for path in (tmp_path / "out" / "runs").glob("*/*/curves.jsonl")
    ]
    assert any(1 < end < EPOCHS for end in ends)
    assert min(float(row["val_counterfactual_ratio"]) for row in given_up) > min(finished(rows))


def test_without_pruning_every_trial_is_a_whole_run(search):
    assert search(text=SEARCH + "prune: false\n") == 0
    assert len(finished(search.table())) == 8


def test_the_same_command_has_nothing_left_to_do_and_more_trials_are_added(search):
    assert search("trials=4") == 0
    before = len(FakeJob.begun)
    assert search("trials=4") == 0
    assert len(FakeJob.begun) == before
    assert search("trials=6") == 0
    assert len(search.table()) == 6


def test_the_table_names_the_command_that_makes_it(search, tmp_path):
    assert search("trials=1", "loss.shift=3") == 0
    page = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert f"search: python run.py study={tmp_path / 'mine.yaml'} trials=1 loss.shift=3;" in page


def test_a_search_that_was_stopped_goes_on_and_finds_the_same(search, monkeypatch, tmp_path):
    search(output="whole")
    third = FakeJob.begun[2].split(" output=")[0]
    monkeypatch.setattr(FakeJob, "kills", third)
    with pytest.raises(KeyboardInterrupt):
        search()
    monkeypatch.setattr(FakeJob, "kills", "")
    assert search() == 0
    assert search.table() == search.table("whole")
    assert sum("resume=true" in line and third in line for line in FakeJob.begun) >= 1


def test_a_search_whose_process_was_killed_goes_on_and_finds_the_same(search, monkeypatch):
    search(output="whole")
    with monkeypatch.context() as patch:
        patch.setattr(FakeJob, "kills", FakeJob.begun[2].split(" output=")[0])
        nobody = {**running.this_process(), "pid": 10**8}
        patch.setattr(running, "this_process", lambda: nobody)
        patch.setattr(
            running.Trials, "leave", lambda *_: None
        )  # a killed process gives nothing back
        with pytest.raises(KeyboardInterrupt):
            search()
    assert search() == 0
    assert search.table() == search.table("whole")


def test_two_commands_and_several_workers_share_the_trials(search, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(SEARCH, "utf-8")
    found = searching.read_search(str(tmp_path / "mine.yaml"))
    both = [running.Trials(found, Folders.of("mine", "out", False)) for _ in range(2)]
    threads = [
        threading.Thread(target=running.run_search, args=(trials, 2, Watch(lambda _: None)))
        for trials in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(both[0].counted()) == 8
    assert all(
        t.state in (both[0].states.COMPLETE, both[0].states.PRUNED) for t in both[0].counted()
    )


def test_a_failed_trial_is_shown_with_its_reason_and_not_repeated(search, monkeypatch):
    monkeypatch.setattr(FakeJob, "fails", "method.batch=2")
    assert search() == 0
    failed = [row for row in search.table() if row["state"] == "failed"]
    assert failed and len(search.table()) == 8
    assert {row["speed"] for row in failed} == {"slow"}
    before = len(FakeJob.begun)
    search()
    assert len(FakeJob.begun) == before


def test_after_some_failed_trials_no_other_is_started_if_so_wished(search, monkeypatch, capsys):
    monkeypatch.setattr(FakeJob, "fails", "sampler")  # all of them
    search("fail_fast=2")
    assert len(FakeJob.begun) == 2
    assert "fail_fast=2: 6 trials were not started, because 2 failed" in capsys.readouterr().out


def test_settings_that_are_impossible_only_together_fail_once(search, monkeypatch):
    def never(given):
        if "method.batch=4" in given and "loss.id=1" in given:
            raise DclipError("not both")
        return configured(given)

    monkeypatch.setattr(running, "configured", never)
    assert search("trials=12") == 0
    assert len(search.table()) == 12
    assert any(row["state"] == "failed" for row in search.table())
    assert not any("method.batch=4" in words and "loss.id=1" in words for words in FakeJob.begun)


def test_a_setting_that_is_searched_cannot_be_told(search):
    with pytest.raises(DclipError, match=r"sampler.t0 is what mine searches"):
        search("sampler.t0=400")


def test_another_meaning_of_a_label_is_another_search(search, tmp_path):
    (tmp_path / "mine.yaml").write_text(SEARCH, "utf-8")
    one = searching.read_search(str(tmp_path / "mine.yaml")).digest
    (tmp_path / "mine.yaml").write_text(SEARCH.replace("method.lr=1e-5", "method.lr=2e-5"), "utf-8")
    assert searching.read_search(str(tmp_path / "mine.yaml")).digest != one


def test_a_label_may_stand_for_no_setting(search):
    assert search("trials=6", text=SEARCH.replace("[method.lr=1e-5, method.batch=2]", "[]")) == 0
    assert {row["speed"] for row in search.table()} <= {"slow", "fast"}


@pytest.mark.parametrize("run", [None, SimpleNamespace(status={"host": "elsewhere", "pid": 4321})])
def test_only_a_run_of_this_machine_is_stopped(run, monkeypatch):
    monkeypatch.setattr(jobs.os, "kill", lambda *_: pytest.fail("a signal was sent"))
    jobs.end_run(None, run)


def test_an_error_of_any_worker_stops_the_others_at_once():
    stop = threading.Event()

    def waits():
        assert stop.wait(5)

    def fails():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        jobs.run_parallel([waits, fails], 2, stop)


def test_a_job_that_nobody_can_watch_any_more_is_ended(tmp_path, monkeypatch):
    begun, start = [], subprocess.Popen
    monkeypatch.setattr(jobs, "frozen", lambda _: None)
    monkeypatch.setattr(
        jobs, "program", lambda _: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    monkeypatch.setattr(jobs, "POLL", 0)
    runner = jobs.JobRunner(Folders(tmp_path / "runs", tmp_path), "x", threading.Event())

    def started(*args, **options):
        begun.append(start(*args, **options))
        monkeypatch.setattr(runner, "find", lost)
        return begun[0]

    def lost(_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(jobs.subprocess, "Popen", started)
    with pytest.raises(OSError, match="the disk is gone"):
        runner.run((), "digest", hopeless=lambda _: "")
    assert begun[0].returncode == -signal.SIGTERM


def test_labels_are_named_on_the_drawing():
    axis = searching.Choice("loss.id", {"0": (), "0.3": (), "1": ()})
    search = SimpleNamespace(space={"loss.id": axis}, maximize=False, goal="mae", title="")
    done = [
        SimpleNamespace(value=float(k), params={"loss.id": label})
        for k, label in enumerate(("1", "0", "0.3"))
    ]
    panel = search_table.figure(search, done).axes[1]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["1", "0", "0.3"]


def test_the_goal_can_be_a_metric_of_the_finished_run(search):
    text = SEARCH.replace("val_counterfactual_ratio", "mae").replace("[mae]", "[ssim]")
    assert search("trials=2", text=text) == 0
    assert [row["mae"] for row in search.table()] == ["0.1", "0.1"]
    assert (
        search("trials=1", "seed=1", text=text.replace("goal: mae", "goal: psnr")) == 1
    )  # which no run has
    assert [row["state"] for row in search.table()] == ["failed"]


def test_a_dry_run_says_the_space_and_the_cost_and_runs_nothing(search, capsys):
    assert search("dry_run=true") == 0
    page = capsys.readouterr().out
    assert "300 to 600, step 100" in page and "slow, fast" in page and "8 trials, 0 done" in page
    assert FakeJob.begun == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("high: 600", "high: 1200", "sampler.t0=1200 is outside the schedule"),
        ("[0, 1]", "[0, -1]", "loss.id=-1"),
        ("high: 600, step", "step", "space: sampler.t0 needs low and high"),
        ("low: 300", "low: 700", "low < high"),
        ("goal: val_counterfactual_ratio", "", "has no goal"),
        ("goal: val_counterfactual_ratio", "goal: val_total", "which way is val_total better"),
        ("columns", "seeds: [1]\ncolumns", "seeds, which no search has"),
    ],
)
def test_a_search_that_cannot_be_one_is_refused_before_anything_runs(search, old, new, said):
    with pytest.raises(DclipError, match=re.escape(said)):
        search(text=SEARCH.replace(old, new))
    assert FakeJob.begun == []


def test_words_that_are_for_the_other_kind_of_study_are_refused(search):
    with pytest.raises(DclipError, match="seeds=0,1 is for a grid"):
        search("seeds=0,1")
    with pytest.raises(DclipError, match=r"trials=3 is for a search"):
        cli.main(["study=toonfaces_table1", "trials=3"])


def test_without_optuna_one_line_says_what_to_install(search, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda _: None)
    with pytest.raises(DclipError, match=r"pip install 'dclip\[sweep\]'"):
        search()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf" / "study").glob("tune_*.yaml")), ids=lambda p: p.stem
)
def test_every_search_that_comes_with_dclip_is_possible(path, monkeypatch):
    monkeypatch.setattr(searching, "configured", configured)
    assert path.read_text("utf-8").startswith(f"# python run.py study={path.stem} ")
    found = searching.read_search(path.stem)
    searching.check(found)
    assert len(found.space) > 2 and found.by_epoch


@pytest.mark.slow
def test_a_search_runs_for_real_from_the_command_line(tiny, tmp_path):
    """One trial: the runs report the goal after every epoch, and the table has the last."""
    keep = {
        k: v
        for k, v in tiny.items()
        if k not in ("experiment", "method.lr", "logger", "trainer.progress")
    }
    (tmp_path / "mine.yaml").write_text(
        SEARCH.replace(
            "[experiment=toonfaces_red_hair, trainer=cpu]", "[experiment=toonfaces_red_hair]"
        )
    )
    few = {"dataset.train": 2, "dataset.test": 2, "method.epochs": 2, "degrees": "[]"}
    given = words({**keep, **few, "metric.identity": "false"})
    own = [f"study={tmp_path / 'mine.yaml'}", "output=out", "trials=1"]
    process = command_apart([*own, *given], tmp_path, tmp_path / "log")
    process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text("utf-8")
    (row,) = list(csv.DictReader((tmp_path / "out" / "table.csv").open(encoding="utf-8")))
    (status,) = (tmp_path / "out" / "runs").glob("*/*/status.json")
    reports = searching.read_curves(status.parent / "curves.jsonl")["val_counterfactual_ratio"]
    assert len(reports) == 2
    assert float(row["val_counterfactual_ratio"]) == reports[-1][1]
    assert float(row["mae"]) == read_json(status.parent / "metrics.json")["mae"]
