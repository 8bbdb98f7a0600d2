"""Sweeps with every launcher: the same numbers, a folder for every job, and jobs that were stopped go on."""

import csv
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from conftest import ROOT, command, configure, words
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dclip import cli, launchers
from dclip.config import DclipError
from dclip.tracking import read_json

EQUAL = ("mae", "ssim", "s_dir", "s_dir_heldout")
FOUR = list(product((300, 400), "ab"))  # t0 and note; a note changes no number, and no configuration


def small(tiny, output):
    """Settings of a fine-tuning that takes a second."""
    few = {"dataset.train": 2, "dataset.validation": 0, "dataset.test": 2, "degrees": "[]", "trainer.threads": 1}
    return words({**tiny, **few}, output=output, method__epochs=6, metric__identity="false", loss__id=0)


def sweep(tiny, output, *more):
    return ["-m", *small(tiny, output), "sampler.t0=300,400", *more]


def numbers(output, jobs):
    """{(t0, note): numbers} of one sweep, every job of which is finished and has a folder of its own."""
    found, sweeps = {}, set()
    for path in output.glob("*/*/status.json"):
        told, settings = read_json(path), OmegaConf.load(path.parent / "config.yaml")
        assert told["status"] == "finished", told
        sweeps.add(told["sweep"])
        metrics = read_json(path.parent / "metrics.json")
        found[settings.sampler.t0, settings.note] = {name: metrics[name] for name in EQUAL}
    assert len(sweeps) == 1
    assert len(list(output.glob("*/*/status.json"))) == len(jobs)
    return found


@pytest.fixture(scope="module")
def basic(tiny, tmp_path_factory):
    """The numbers of a sweep whose jobs run one after the other in this process."""
    output = tmp_path_factory.mktemp("basic")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(output)
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), *sweep(tiny, output, "note=a,b")])
        cli.main()
    GlobalHydra.instance().clear()
    return numbers(output, FOUR)


def test_every_job_of_a_sweep_has_a_folder_and_only_settings_make_a_difference(basic):
    assert set(basic) == set(FOUR)
    assert basic[300, "a"] == basic[300, "b"] != basic[400, "a"] == basic[400, "b"]


def test_joblib_gives_the_same_numbers(basic, tiny, tmp_path):
    """Two workers start two jobs of one configuration in one second: they get two folders."""
    done = command(*sweep(tiny, tmp_path, "note=a,b", "hydra/launcher=joblib"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, FOUR) == basic


def until(found, process, seconds=120):
    """What ``found()`` finds while a process works."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if hit := found():
            return hit
        time.sleep(0.01)
    raise AssertionError(f"nothing found; exit code {process.poll()}")


def test_submitit_gives_the_same_numbers_although_a_job_is_preempted(basic, tiny, tmp_path):
    """The scheduler's signal comes in the middle of a fine-tuning, which goes on from its checkpoint, in its folder."""
    given = sweep(tiny, tmp_path, "note=a", "hydra/launcher=submitit_local")
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *given], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    saved = until(lambda: list(tmp_path.glob("*/*/checkpoints/last.ckpt")), process)
    os.kill(read_json(saved[0].parent.parent / "status.json")["pid"], signal.SIGUSR2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert numbers(tmp_path, FOUR[::2]) == {key: basic[key] for key in FOUR[::2]}
    assert "preempted" in "".join(path.read_text() for path in tmp_path.glob("sweeps/*/.submitit/*/*_log.out"))
    assert "resuming from" in (saved[0].parent.parent / "run.log").read_text("utf-8")


@pytest.mark.skipif(not launchers.installed("ray"), reason="Ray is not installed (dclip[ray])")
def test_ray_gives_the_same_numbers(basic, tiny, tmp_path):
    given = sweep(tiny, tmp_path, "note=a,b", "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")
    done = command(*given, "hydra.launcher.ray.remote.num_cpus=1", cwd=tmp_path, env={**os.environ, "RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, FOUR) == basic
