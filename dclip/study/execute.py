"""Run what is not finished of a study: first the runs that others build on, several at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event

from filelock import Timeout

from dclip.models import fetch
from dclip.runtime.durations import duration
from dclip.study.grid import Key
from dclip.study.jobs import JobRunner, run_parallel
from dclip.study.progress import PlannedRun, Progress, refuse, unobtainable

Say = Callable[[str], None]


def run_study(
    progress: Progress, workers: int = 1, say: Say = print, rows: set[Key] | None = None
) -> None:
    """Run what is not finished, ``workers`` jobs at a time; of some rows, or of all."""
    offline = fetch.offline_reason()
    for builds_on_others in (False, True):
        unfinished, startable = [], []
        for planned in progress.unique(rows):
            if planned.done or bool(planned.first) != builds_on_others:
                continue
            unfinished.append(planned)
            if _can_start(planned, offline, say):
                startable.append(planned)
        if not builds_on_others and unfinished and not startable:
            _refuse_blocked(unfinished, offline)
        _run_all(progress, startable, workers, say)
        for planned in progress.unique(rows):
            if planned.digest:
                state = {"state": planned.state, "reason": planned.reason}
                progress.kept[planned.digest] = state
        progress.refresh()
    progress.write()


def _can_start(planned: PlannedRun, offline: str | None, say: Say) -> bool:
    """Whether a run can start now; else its reason says why not."""
    if planned.state == "waiting":
        return False
    if planned.state == "running":
        say(f"running already: {planned.labels[0]}")
        return False
    absent = unobtainable(planned.cfg, offline) if planned.cfg else []
    if absent:
        planned.state, planned.reason = "blocked", f"not here: {'; '.join(absent)}"
        return False
    return True


def _refuse_blocked(runs: Sequence[PlannedRun], offline: str | None) -> None:
    """Where nothing at all can run for want of files, say once what is needed."""
    cfgs = [planned.cfg for planned in runs if planned.cfg and planned.state == "blocked"]
    if len(cfgs) == len(runs):
        refuse(cfgs, offline)


def _run_all(progress: Progress, runs: Sequence[PlannedRun], workers: int, say: Say) -> None:
    if not runs:
        return
    started = time.monotonic()
    runner = JobRunner(progress.folders, progress.study.name, Event())
    work = []
    for number, planned in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}]"
        work.append(partial(_run_one, progress, planned, runner, title, say))
    try:
        run_parallel(work, workers, runner.stop)
    finally:
        progress.write()
    say(f"{len(runs)} jobs in {duration(time.monotonic() - started)}")


def _run_one(
    progress: Progress, planned: PlannedRun, runner: JobRunner, title: str, say: Say
) -> None:
    """Run one job, unless another command has it."""
    lock = progress.folders.lock(planned.digest)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    try:
        if runner.stop.is_set():
            return
        say(f"{title} {planned.labels[0]}")
        started = time.monotonic()
        settings = progress.resolved(planned)
        assert settings is not None
        planned.state, planned.reason = runner.run(settings, planned.digest)
        reason = f": {planned.reason}" if planned.reason else ""
        say(f"{title} {planned.state} after {duration(time.monotonic() - started)}{reason}")
    finally:
        lock.release()
