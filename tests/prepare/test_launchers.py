"""Sweeps with every launcher: the same numbers, a folder for every job, and jobs that were stopped go on."""

import os
import signal
import subprocess
import sys
import time
from itertools import product

import pytest
from omegaconf import OmegaConf

from dclip import files
from dclip.cli import command as cli
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.prepare import launchers
from dclip.prepare.paths import CONF
from dclip.record import identity, record
from dclip.record.processes import this_process
from helpers.runs import ROOT, command, command_here, configure, words

MEASURED = ("mae", "ssim")
EQUAL = (*MEASURED, "s_dir", "s_dir_heldout")
FOUR = list(
    product((300, 400), "ab")
)  # t0 and note; a note changes no number, and no configuration


def small(tiny, output):
    """Settings of a fine-tuning that takes a second."""
    few = {
        "dataset.train": 2,
        "dataset.validation": 0,
        "dataset.test": 2,
        "degrees": "[]",
        "trainer.threads": 1,
    }
    return words(
        {**tiny, **few}, output=output, method__epochs=6, metric__identity="false", loss__id=0
    )


def smallest(tiny, output):
    """Settings of a reconstruction of two faces."""
    groups = ("checkpoint", "clip", "trainer", "metric", "logger")
    few = {name: value for name, value in tiny.items() if name.split(".")[0] in groups}
    few |= {"dataset.test": 2, "metric.identity": "false", "trainer.threads": 1}
    return words({**few, "sampler.s_gen": 2}, task="reconstruct", output=output)


def sweep(tiny, output, *more):
    return ["-m", *small(tiny, output), "sampler.t0=300,400", *more]


def numbers(output, jobs, names=EQUAL):
    """{(t0, note): numbers} of one sweep, every job of which is finished and has a folder of its own."""
    found, sweeps = {}, set()
    for path in output.glob("*/*/status.json"):
        told, settings = read_json(path), OmegaConf.load(path.parent / "config.yaml")
        assert told["status"] == "finished", told
        sweeps.add(told["sweep"])
        metrics = read_json(path.parent / "metrics.json")
        found[settings.sampler.t0, settings.note] = {name: metrics[name] for name in names}
    assert len(sweeps) == 1
    assert len(list(output.glob("*/*/status.json"))) == len(jobs)
    return found


@pytest.fixture(scope="module")
def basic(tiny, tmp_path_factory):
    """The numbers of a sweep whose jobs, fine-tunings, run one after the other in this process."""
    output = tmp_path_factory.mktemp("basic")
    command_here(*sweep(tiny, output, "note=a,b"), cwd=output)
    return numbers(output, FOUR)


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """The same of reconstructions, which take less time."""
    output = tmp_path_factory.mktemp("measured")
    command_here("-m", *smallest(tiny, output), "sampler.t0=300,400", "note=a,b", cwd=output)
    return numbers(output, FOUR, MEASURED)


def test_every_job_of_a_sweep_has_a_folder_and_only_settings_make_a_difference(measured):
    assert set(measured) == set(FOUR)
    assert measured[300, "a"] == measured[300, "b"] != measured[400, "a"] == measured[400, "b"]


def test_joblib_starts_two_jobs_of_one_configuration_in_two_folders(measured, tiny, tmp_path):
    """Two workers start them in one second; what they find is what one finds alone."""
    given = [*smallest(tiny, tmp_path), "sampler.t0=300", "note=a,b", "hydra/launcher=joblib"]
    done = command("-m", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, FOUR[:2], MEASURED) == {key: measured[key] for key in FOUR[:2]}


@pytest.mark.slow
def test_joblib_gives_the_same_numbers(basic, tiny, tmp_path):
    """Fine-tunings, side by side."""
    given = ["-m", *small(tiny, tmp_path), "sampler.t0=300", "note=a,b", "hydra/launcher=joblib"]
    done = command(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, FOUR[:2]) == {key: basic[key] for key in FOUR[:2]}


def until(found, process, seconds=120):
    """What ``found()`` finds while a process works."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if hit := found():
            return hit
        time.sleep(0.01)
    raise AssertionError(f"nothing found; exit code {process.poll()}")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_submitit_gives_the_same_numbers_although_a_job_is_preempted(jobs, basic, tiny, tmp_path):
    """The scheduler's signal comes in the middle of a fine-tuning, which goes on from its checkpoint, in its folder."""
    done = [(300, "a"), (400, "a")][:jobs]
    t0 = f"sampler.t0={','.join(str(number) for number, _ in done)}"
    given = ["-m", *small(tiny, tmp_path), t0, "note=a", "hydra/launcher=submitit_local"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *given],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = until(lambda: list(tmp_path.glob("*/*/checkpoints/last.ckpt")), process)
    os.kill(read_json(saved[0].parent.parent / "status.json")["pid"], signal.SIGUSR2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert numbers(tmp_path, done) == {key: basic[key] for key in done}
    assert "preempted" in "".join(
        path.read_text() for path in tmp_path.glob("sweeps/*/.submitit/*/*_log.out")
    )
    assert "resuming from" in (saved[0].parent.parent / "run.log").read_text("utf-8")


@pytest.mark.skipif(not launchers.installed("ray"), reason="Ray is not installed (dclip[ray])")
def test_ray_gives_the_same_numbers(basic, tiny, tmp_path):
    given = sweep(
        tiny, tmp_path, "note=a,b", "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2"
    )
    done = command(
        *given,
        "hydra.launcher.ray.remote.num_cpus=1",
        cwd=tmp_path,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, FOUR) == basic


# ------------------------------------------------------------------------------------------- what is refused, what goes on


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["hydra/launcher=jobib"], "hydra/launcher=jobib does not exist; did you mean joblib?"),
        (
            ["hydra/launcher=joblib", "hydra.launcher.njobs=2"],
            "did you mean hydra.launcher.n_jobs?",
        ),
        (
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=two"],
            "hydra.launcher.n_jobs=two is not a whole number",
        ),
        (
            ["hydra/launcher=submitit_slurm", "hydra.launcher.partitoin=x"],
            "did you mean hydra.launcher.partition?",
        ),
        (["hydra/launcher=joblib", "trainer.devices=2", "method.batch=2"], "set trainer.devices=1"),
        (["-cd", "nowhere"], "-cd nowhere is no folder"),
        (["plugins=nowhere"], "plugins=nowhere cannot be imported (ModuleNotFoundError"),
        (["plugins=mine.py/x"], "plugins=mine.py/x is no module's name"),
    ],
)
def test_a_sweep_that_cannot_start_is_refused_in_one_line(more, said, monkeypatch):
    launchers.register()
    with pytest.raises(DclipError) as caught:
        cli.precheck(["-m", "gamma=0.5,1", *more])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(launchers.PLUGINS))
def test_a_launcher_that_is_not_installed_names_its_extra(name, monkeypatch):
    monkeypatch.setattr(launchers, "installed", lambda _: False)
    with pytest.raises(
        DclipError, match=rf"pip install 'dclip\[{launchers.PLUGINS[name].extra}\]'"
    ):
        cli.precheck(["-m", "gamma=0.5,1", f"hydra/launcher={name}"])


def test_slurm_jobs_may_reach_their_time_and_go_on():
    import hydra

    launchers.register()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        told = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]
        options = hydra.compose("config", overrides=told, return_hydra_config=True).hydra.launcher
    assert (options.partition, options.gpus_per_node, options.max_num_timeout > 0) == (
        "gpu",
        1,
        True,
    )
    assert options.signal_delay_s < 60 * options.timeout_min


def test_a_job_that_slurm_started_again_goes_on(monkeypatch, tmp_path):
    cfg = configure(f"output={tmp_path}", "sweep=mine")
    assert not launchers.was_stopped(cfg)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert launchers.was_stopped(cfg)


@pytest.mark.parametrize(
    ("state", "mine", "pid", "goes_on"),
    [("stopped", True, 1, True), ("running", True, 10**8, True), ("running", True, None, False), ("failed", True, 1, False),
     ("finished", True, 1, False), ("stopped", False, 1, False)],
)  # fmt: skip
def test_only_what_was_stopped_in_this_very_sweep_goes_on(state, mine, pid, goes_on, tmp_path):
    """A pid of None is this process's, which is alive."""
    cfg = configure(f"output={tmp_path}", "sweep=mine")
    folder, _ = record.make_folder(cfg)
    who = {
        "config": identity.config_hash(cfg),
        "sweep": "mine" if mine else "another",
        **this_process(),
    }
    if pid is not None:
        who["pid"] = pid
    files.write_json(folder / "status.json", {"status": state, **who})
    assert launchers.was_stopped(cfg) is goes_on


def test_a_job_goes_on_in_the_folder_of_its_own_sweep(tmp_path):
    cfg = configure(f"output={tmp_path}", "sweep=mine")
    mine, another = (record.make_folder(cfg)[0] for _ in range(2))
    for folder, sweep in ((mine, "mine"), (another, "another")):
        files.write_json(folder / "status.json", {"status": "stopped", "sweep": sweep})
    cfg.resume = True
    assert record.make_folder(cfg) == (mine, True)
    cfg.sweep = "third"
    assert record.make_folder(cfg) == (another, True)


def test_on_slurm_lightning_leaves_the_queue_to_the_launcher(monkeypatch):
    from dclip.runtime.trainer import make_trainer

    for name, value in {
        "NTASKS": "1",
        "JOB_NAME": "dclip",
        "JOB_ID": "7",
        "PROCID": "0",
        "LOCALID": "0",
        "NODEID": "0",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    environment = make_trainer(
        configure("trainer=cpu").trainer
    )._accelerator_connector.cluster_environment
    assert type(environment).__name__ == "SLURMEnvironment"
    assert not environment.auto_requeue
