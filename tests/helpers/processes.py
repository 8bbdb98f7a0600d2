"""Runs and commands in processes of their own that have everything imported: kills hit the work,
not the imports.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dclip.encode import invert
from dclip.models import fetch
from helpers.runs import run

IMPORTED = [
    "dclip.pipeline",
    "dclip.cli.command",
    "dclip.methods.diffusionclip.fit",
    "dclip.study.command",
    "diffusers.models.unets.unet_2d",
    "open_clip",
    "torch._dynamo",
]


def start_apart(work, *args):
    """A started process that calls ``work``."""
    if multiprocessing.parent_process() is None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
    else:  # such a process has it all; a server of its own would import it again
        context = multiprocessing.get_context("fork")
    process = context.Process(target=work, args=args)
    process.start()
    return process


def run_apart(settings, cache):
    """A started process with a run of these settings, whose cache is ``cache``."""
    return start_apart(_run, settings, str(cache))


def _run(settings, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIP_CACHE", cache)
        run(*settings)


def command_apart(words, folder, log, fault=None):
    """A started process with a command line in ``folder``; what it prints goes to the file ``log``.

    Args:
        fault: called in the process before anything else.
    """
    cache = os.environ["DCLIP_CACHE"]
    return start_apart(_command, list(map(str, words)), str(folder), str(log), cache, fault)


def _command(words, folder, log, cache, fault):
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(folder)
    os.environ["DCLIP_CACHE"] = cache
    sys.argv = ["run.py", *words]
    if fault is not None:
        fault()
    if words[0].startswith("study="):
        jobs_apart(pytest.MonkeyPatch())
    from hydra.core.global_hydra import GlobalHydra

    from dclip.cli import main

    GlobalHydra.instance().clear()
    main()


def write_often(path, value, times):
    """Write latents that are ``value`` everywhere, again and again, as the cache does."""
    latent = torch.full((3, 256, 256), value)
    for _ in range(times):
        invert._write(Path(path), latent)


def fetch_to(entry, folder):
    """Fetch a file, through no proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "DCLIP_MIRROR"):
        os.environ.pop(name, None)
    fetch.fetch(entry, Path(folder), progress=False)


class JobApart:
    """In place of ``subprocess.Popen`` of a study's job: a process that has everything imported.

    ``fault``: from a job's words, what is called in its process first, or None.
    """

    fault = None

    def __init__(self, command, stdout, stderr):
        words = [word for word in command if "=" in word]
        fault = self.fault and self.fault(words)
        self.process = command_apart(words, Path.cwd(), stdout.name, fault)
        self.pid = self.process.pid

    @property
    def returncode(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("job", timeout)
        return self.returncode

    def terminate(self):
        self.process.terminate()

    def kill(self):
        self.process.kill()


class _Subprocess:
    """What ``dclip.study.jobs`` uses of ``subprocess``."""

    Popen = JobApart
    STDOUT = subprocess.STDOUT
    TimeoutExpired = subprocess.TimeoutExpired


def jobs_apart(patch, fault=None):
    """From now on studies and searches of this process start their jobs as ``JobApart``."""
    from dclip.study import jobs

    patch.setattr(JobApart, "fault", staticmethod(fault) if fault else None)
    patch.setattr(jobs, "subprocess", _Subprocess)
