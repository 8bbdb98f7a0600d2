"""Command lines of small runs, checked or carried out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dclip.errors import DclipError
from dclip.prepare import compose, needs
from dclip.prepare.paths import CONF

ROOT = Path(__file__).resolve().parents[2]
SMALL = {  # overrides that keep a run in seconds
    "dataset.train": 4,
    "dataset.validation": 2,
    "dataset.test": 4,
    "method.epochs": 1,
    "method.s_train": 2,
    "sampler.s_for": 4,
    "sampler.s_gen": 2,
    "trainer.progress": "false",
    "trainer": "cpu",
    "logger": "csv",
}


def words(settings, **more):
    """Settings as command-line words; ``__`` stands for a dot."""
    merged = {**settings, **{k.replace("__", "."): v for k, v in more.items()}}
    return [f"{k}={v}" for k, v in merged.items()]


def configure(*overrides):
    """The checked configuration of one command line, made as ``cli.precheck`` makes it."""
    from hydra import initialize_config_dir

    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose.check_overrides([str(o) for o in overrides])


def command(*overrides, cwd, **options):
    """``python run.py ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *map(str, overrides)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        **options,
    )


def command_here(*overrides, cwd):
    """``run.py ...`` in this process, ten seconds faster than in one of its own."""
    import logging

    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from dclip.cli import command

    logger = logging.getLogger("dclip")
    before = logger.handlers[:], logger.propagate, logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), *map(str, overrides)])
        patch.setattr(sys, "path", sys.path[:])
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        try:
            command.main()
        finally:
            logger.handlers[:], logger.propagate, level = before
            logger.setLevel(level)
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None


def run(*overrides):
    from dclip.pipeline import run as run_pipeline

    return run_pipeline(configure(*overrides))


def refusal(*overrides):
    with pytest.raises(DclipError) as caught:
        needs.obtain([configure(*overrides)])
    message = str(caught.value)
    assert "\n" not in message or isinstance(
        caught.value, needs.MissingFilesError
    )  # a list, one line a file
    assert len(message) > 10
    return message
