"""Kills at random moments, several processes on the same files, disks that are full or read-only:
what was written is whole, what was asked for is said in one line, and a re-run ends as one that
nobody disturbed.
"""

import csv
import errno
import hashlib
import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from dclip.encode import invert
from dclip.files import read_json, write_json
from dclip.models.registry import File, KnownWeights, Source
from dclip.record.processes import alive
from dclip.record.runs import find_runs
from dclip.study import command as studies
from dclip.study import jobs
from helpers.faults import FullDisk, ReadOnly
from helpers.processes import (
    command_apart,
    fetch_to,
    jobs_apart,
    run_apart,
    start_apart,
    write_often,
)
from helpers.runs import run, words
from helpers.server import BODY, serving

KILLS = 20


def settings_of(tiny):
    """What a reconstruction of two faces needs of the tiny settings."""
    groups = ("checkpoint", "clip", "trainer", "metric")
    few = {name: value for name, value in tiny.items() if name.split(".")[0] in groups}
    return {**few, "dataset.test": 2, "metric.identity": "false"}


def contents(folder):
    """All files below a folder by name, without folders and links."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def pictures(run_folder):
    return {path.name: path.read_bytes() for path in (run_folder / "samples").glob("*.png")}


# ------------------------------------------------------------ several processes on one cache


def test_what_two_write_at_once_is_whole_whenever_it_is_read(tmp_path):
    path = tmp_path / "latent.npy"
    writers = [start_apart(write_often, str(path), value, 60) for value in (1.0, 2.0)]
    read = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            latent = invert._read(path)
            assert latent is not None  # not one that is half written
            assert latent.shape == (3, 256, 256) and latent.min() == latent.max()
            read.add(latent.max().item())
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert read and [file.name for file in tmp_path.iterdir()] == ["latent.npy"]


@pytest.mark.slow
def test_two_runs_on_one_cache_end_as_one_alone(tiny, tmp_path, monkeypatch):
    settings = words({**settings_of(tiny), "dataset.test": 6}, task="reconstruct")
    both = [
        run_apart([*settings, f"output={tmp_path / name}"], tmp_path / "shared") for name in "ab"
    ]
    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path / "own"))
    alone = run(*settings, f"output={tmp_path / 'alone'}")
    for process in both:
        process.join()
        assert process.exitcode == 0
    latents = contents(tmp_path / "own" / "latents")
    assert len(latents) == 6
    assert contents(tmp_path / "shared" / "latents") == latents
    for name in "ab":
        [folder] = (tmp_path / name).glob("*/*_*")
        assert pictures(folder) == pictures(alone)
        assert (folder / "rows.csv").read_bytes() == (alone / "rows.csv").read_bytes()


# ------------------------------------------------------------ a full disk, a read-only one


STUDY = """
title: "Reconstructions"
base: [task=reconstruct, sampler.s_for=4, sampler.s_gen=2]
axes: {sampler.t0: [300, 400]}
columns: [mae, ssim]
"""


def table_of(folder):
    """The rows of a table, without the numbers of trials: those that were taken up again have new ones."""
    with (folder / "table.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: value for name, value in row.items() if name != "trial"} for row in rows]


@pytest.fixture
def study(tiny, tmp_path, monkeypatch):
    """A function that runs a study of two real jobs: its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "frozen", lambda _: None)
    (tmp_path / "mine.yaml").write_text(STUDY, "utf-8")

    def start(output, *more, fault=None):
        jobs_apart(monkeypatch, fault)
        command = [f"study={tmp_path / 'mine.yaml'}", f"output={output}", *more]
        return studies.main([*command, *words(settings_of(tiny))])

    return start


@pytest.mark.slow
def test_a_disk_that_is_full_costs_a_study_one_job(study, tmp_path, capsys):
    def fault(settings):
        return FullDisk("metrics.json") if "sampler.t0=400" in settings else None

    assert study("out", fault=fault) == 1
    [said, advice] = capsys.readouterr().err.splitlines()
    assert said.startswith("failed: t0=400 seed=0: ")
    assert ": No space left on device; check the disk's space and rights (output=" in said
    assert advice == "the same command runs what is missing or failed"
    before = table_of(tmp_path / "out")
    assert [row["state"] for row in before] == ["", "failed"] and before[0]["mae"]
    assert study("out") == 0  # now there is space
    assert "\n1 job in " in capsys.readouterr().out
    after = table_of(tmp_path / "out")
    assert after[0] == before[0]
    assert study("whole", "rows=400") == 0
    assert after[1] == table_of(tmp_path / "whole")[1]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_what_may_not_be_written_is_said_in_one_line(code, tiny, tmp_path):
    """A folder for outputs, one of a run that is to be resumed, and one of a study."""
    settings = words(settings_of(tiny), task="reconstruct")
    reason = os.strerror(code)
    (tmp_path / "fresh").mkdir()
    folder = run(*settings, f"output={tmp_path / 'stopped'}")
    write_json(folder / "status.json", {**read_json(folder / "status.json"), "status": "stopped"})
    before = contents(tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDY, "utf-8")

    def said(place, *command):
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        process = command_apart([*command, *settings], tmp_path, log, ReadOnly(place, code))
        process.join()
        assert process.exitcode == 2
        return [line for line in log.read_text("utf-8").splitlines() if not line.startswith("[")]

    assert said(tmp_path / "fresh", "output=fresh") == [
        f"error: output=fresh cannot be written ({reason}); choose another folder with output=..."
    ]
    [line] = said(folder, f"output={tmp_path / 'stopped'}", "resume=true")
    assert line.startswith(f"error: {folder}"[:90]) and f": {reason}; check the disk's" in line
    assert f"(output={tmp_path / 'stopped'})" in line
    settings = words(settings_of(tiny))
    [line] = said(tmp_path / "fresh", f"study={tmp_path / 'mine.yaml'}", "output=fresh")
    assert line.startswith("error: fresh/") and f": {reason}; check the disk's space" in line
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"mine.yaml", "log"}


# ------------------------------------------------------------ kills at random moments


@pytest.mark.parametrize("kills", [6, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_fetch_that_is_killed_leaves_a_file_that_is_whole_or_not_there(tmp_path, kills):
    draw, body = random.Random(0), BODY * 16
    with serving(body=body, pause=0.01) as site:  # 32 pieces
        source = Source(f"{site.url}/a", sha256=hashlib.sha256(body).hexdigest())
        entry = KnownWeights(
            "some", "ddpm", (File("net.ckpt", (source,)),), "ddim", 0.5, "MIT", "a test"
        )
        for number in range(kills):
            folder, asked = tmp_path / str(number), len(site.asked)
            process = start_apart(fetch_to, entry, str(folder))
            while process.is_alive() and len(site.asked) == asked:
                time.sleep(0.001)
            process.join(draw.uniform(0, 0.3))  # of the 0.3 s and more that it takes
            process.kill()
            process.join()
            target = folder / "net.ckpt"
            assert not target.exists() or target.read_bytes() == body
            again = start_apart(fetch_to, entry, str(folder))
            again.join()
            assert again.exitcode == 0 and target.read_bytes() == body
            assert [path for path in folder.iterdir() if path.suffix in (".part", ".tag")] == []
        resumed = [wanted for _, wanted in site.asked if wanted]
    assert resumed  # at least one was killed while the file came


def kill_jobs(output):
    """Kill what is at work below ``output``, whoever started it."""
    for one in find_runs([output]):
        if one.status.get("status") == "running" and alive(one.status):
            os.kill(int(one.status["pid"]), signal.SIGKILL)


def kill_often(start, tmp_path, kills, whom, seconds):
    """Kill a command, its jobs, or both, at random moments, again and again until it has ended.

    Args:
        start: starts the command with the folder of its results.
        whom: what a kill may hit. A job whose command is gone works on, and the next one meets it.
        seconds: that the command takes.

    Returns the folders, the last of which was finished after all kills.
    """
    draw, hit, folders, limit = random.Random(1), 0, [tmp_path / "0"], time.monotonic() + 1800
    while True:
        assert time.monotonic() < limit, (folders[-1] / "log").read_text("utf-8")
        process = start(folders[-1])
        process.join(draw.uniform(0, 0.7 * seconds) if hit < kills else None)
        if process.is_alive():
            hit += 1
            chosen = draw.choice(whom)
            if "command" in chosen:
                process.kill()
            if "jobs" in chosen:
                kill_jobs(folders[-1])
        process.join()
        if process.exitcode == 0:
            if hit >= kills:
                return folders
            folders.append(tmp_path / str(len(folders)))
        time.sleep(0.5)


def undisturbed_then_killed(command, tmp_path, kills, whom):
    """The folder of a command that nobody disturbed, and those of one that was killed often."""

    def start(folder):
        folder.mkdir(exist_ok=True)
        return command_apart([*command, f"output={folder}"], tmp_path, folder / "log")

    for name in ("warm", "whole"):  # the first one waits for the imports
        began, process = time.monotonic(), start(tmp_path / name)
        process.join()
        assert process.exitcode == 0, (tmp_path / name / "log").read_text("utf-8")
    seconds = time.monotonic() - began
    return tmp_path / "whole", kill_often(start, tmp_path, kills, whom, seconds)


def results_of(output):
    """By configuration: the rows and pictures of every finished run."""
    results = {}
    for one in find_runs([output]):
        if one.state == "finished":
            rows = (one.folder / "rows.csv").read_bytes()
            results[one.digest] = rows, pictures(one.folder)
    return results


@pytest.mark.slow
def test_a_study_that_is_killed_often_ends_with_the_same_table(tiny, tmp_path):
    (tmp_path / "mine.yaml").write_text(STUDY.replace("[300, 400]", "[300, 400, 500]"), "utf-8")
    command = [f"study={tmp_path / 'mine.yaml'}", *words(settings_of(tiny))]
    whom = ["command", "jobs", "command and jobs"]
    whole, killed = undisturbed_then_killed(command, tmp_path, KILLS, whom)
    assert len(results_of(whole)) == 3
    for folder in killed:
        assert table_of(folder) == table_of(whole)
        assert results_of(folder) == results_of(whole)
        states = read_json(folder / "runs" / "jobs.json")["jobs"]
        assert [state["state"] for state in states] == ["finished"] * 3


SEARCH = """
title: "A search"
base: [experiment=toonfaces_red_hair]
goal: val_counterfactual_ratio
space: {method.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}
trials: 3
columns: [mae]
"""


@pytest.mark.slow
def test_a_search_that_is_killed_often_finds_the_same(tiny, tmp_path):
    (tmp_path / "tune_mine.yaml").write_text(SEARCH, "utf-8")
    few = {name: value for name, value in tiny.items() if name not in ("experiment", "method.lr")}
    command = [f"study={tmp_path / 'tune_mine.yaml'}", *words(few)]
    whom = ["command", "command and jobs"]  # a trial whose job alone is killed has failed
    whole, killed = undisturbed_then_killed(command, tmp_path, KILLS, whom)
    assert len(results_of(whole)) == 3
    for folder in killed:
        assert table_of(folder) == table_of(whole)
        assert results_of(folder) == results_of(whole)


@pytest.mark.slow
def test_two_commands_on_one_study_share_its_jobs(tiny, tmp_path):
    (tmp_path / "mine.yaml").write_text(STUDY.replace("[300, 400]", "[300, 400, 500]"), "utf-8")
    command = [f"study={tmp_path / 'mine.yaml'}", *words(settings_of(tiny)), "output=out"]
    logs = [tmp_path / "one", tmp_path / "two"]
    both = [command_apart(command, tmp_path, log) for log in logs]
    for process, log in zip(both, logs, strict=True):
        process.join()
        assert process.exitcode == 0, log.read_text("utf-8")
    runs = find_runs([tmp_path / "out"])
    assert [run.state for run in runs] == ["finished"] * 3
    assert len({run.digest for run in runs}) == 3
    table = table_of(tmp_path / "out")
    assert len(table) == 3 and all(row["mae"] for row in table)


# ------------------------------------------------------------ one fine-tuning


def status_of(output):
    """The status of the only run below ``output``; None before there is one."""
    found = list(output.glob("*/*/status.json"))
    assert len(found) <= 1
    return read_json(found[0])["status"] if found else None


def edit_of(output):
    """The weights that the only run below ``output`` has learned."""
    [path] = output.glob("*/*/adapter.safetensors")
    return load_file(str(path))


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_weight(tiny, tmp_path):
    """They hit inversion, the writing of the cache, learning, checkpoints, scores and the report."""
    few = {"method.epochs": 6, "method.batch": 2, "dataset.train": 6, "trainer.threads": 1}
    settings = words({**tiny, **few}, resume="true")
    draw, killed, finished = random.Random(0), 0, []

    def start(name):
        return run_apart([*settings, f"output={tmp_path / name}"], tmp_path / f"{name}_cache")

    first = start("whole")
    first.join()  # with the imports
    began = time.monotonic()
    again = start("timed")
    again.join()
    seconds = time.monotonic() - began
    assert first.exitcode == again.exitcode == 0
    while killed < KILLS or status_of(tmp_path / str(len(finished))) is not None:
        name = str(len(finished))
        process = start(name)
        process.join(draw.uniform(0, seconds) if killed < KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        else:
            assert process.exitcode == 0
        if status_of(tmp_path / name) == "finished":
            finished.append(name)
    weights = edit_of(tmp_path / "whole")
    for name in ["timed", *finished]:
        edit = edit_of(tmp_path / name)
        assert all(torch.equal(edit[key], value) for key, value in weights.items())
