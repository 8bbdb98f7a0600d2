"""Run what is not finished of a study: first the runs that others build on, several at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event

from filelock import Timeout

from dclip.models import fetch
from dclip.runtime.durations import duration
from dclip.study.grid import Key
from dclip.study.jobs import JobRunner, run_parallel
from dclip.study.jobs_page import shown_of
from dclip.study.progress import PlannedRun, Progress, refuse, unobtainable
from dclip.study.watch import FINISHED, WAITING, Say, Watch


def run_study(
    progress: Progress,
    workers: int = 1,
    watch: Watch | None = None,
    rows: set[Key] | None = None,
    fail_fast: int = 0,
) -> None:
    """Run what is not finished, ``workers`` jobs at a time; of some rows, or of all.

    Args:
        watch: is told what happens.
        fail_fast: after so many failed jobs no other is started; 0: all are.
    """
    offline = fetch.offline_reason()
    watch = watch or Watch()
    watch.workers = workers
    for planned in progress.unique(rows):
        watch.plan(planned.labels[0], FINISHED if planned.done else WAITING)
    with watch.watching():
        for builds_on_others in (False, True):
            unfinished, startable = [], []
            for planned in progress.unique(rows):
                if planned.done or bool(planned.first) != builds_on_others:
                    continue
                unfinished.append(planned)
                if _can_start(planned, offline, watch.say):
                    startable.append(planned)
            if not builds_on_others and unfinished and not startable:
                _refuse_blocked(unfinished, offline)
            _run_all(progress, startable, workers, watch, Limit(fail_fast, watch))
            for planned in progress.unique(rows):
                if planned.digest:
                    state = {"state": planned.state, "reason": planned.reason}
                    progress.kept[planned.digest] = state
            progress.refresh()
    progress.write()


@dataclass(frozen=True)
class Limit:
    """How many jobs may fail; 0: any number."""

    most: int
    watch: Watch

    @property
    def reached(self) -> bool:
        """Whether no other job is to start."""
        return 0 < self.most <= self.watch.failures

    def note(self) -> str:
        """What must be said at the end; empty where no job was left out."""
        left = self.watch.counts().get(WAITING, 0)
        if not self.reached or not left:
            return ""
        return f"fail_fast={self.most}: {left} jobs were not started, because {self.most} failed"


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


def _run_all(
    progress: Progress, runs: Sequence[PlannedRun], workers: int, watch: Watch, limit: Limit
) -> None:
    if not runs or limit.reached:
        return
    began, started_before = time.monotonic(), watch.started
    runner = JobRunner(progress.folders, progress.study.name, Event())
    work = []
    for number, planned in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}]"
        work.append(partial(_run_one, progress, planned, runner, title, watch, limit))
    try:
        run_parallel(work, workers, runner.stop)
    finally:
        progress.write()
    started = watch.started - started_before
    watch.say(
        f"{started} {'job' if started == 1 else 'jobs'} in {duration(time.monotonic() - began)}"
    )
    watch.note = limit.note()
    if watch.note:
        watch.say(watch.note)


def _run_one(
    progress: Progress,
    planned: PlannedRun,
    runner: JobRunner,
    title: str,
    watch: Watch,
    limit: Limit,
) -> None:
    """Run one job, unless another command has it."""
    lock, label = progress.folders.lock(planned.digest), planned.labels[0]
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    try:
        if runner.stop.is_set() or limit.reached:
            return
        watch.start(label, title)
        planned.state, planned.reason = runner.run(progress.words(planned), planned.digest)
        shown = shown_of(
            runner.find(planned.digest), progress.study.columns.values(), progress.folders.runs
        )
        watch.end(label, title, planned.state, planned.reason, shown)
    finally:
        lock.release()
