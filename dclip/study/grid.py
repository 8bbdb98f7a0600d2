"""``python run.py study=NAME``: a grid of runs that makes one table. Each job is a process of its own.

A study (``conf/study/NAME.yaml``) says what every job has in common (``base``), what varies (``axes``, or several ``grids`` of one
table), what is averaged in a cell (``average``, ``seeds``), and what is printed (``columns``). Jobs are runs as any other; they are
found again by their configuration, so whatever is finished is not repeated, in this study or in another one. What failed, was
stopped or killed is run again by the same command.

Imports nothing heavy: the jobs do the work.
"""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from filelock import FileLock, Timeout

from dclip.config import Config, plain
from dclip.errors import DclipError
from dclip.files import write_json
from dclip.models import fetch
from dclip.prepare import plan
from dclip.prepare.compose import configured
from dclip.record.identity import config_hash
from dclip.record.runs import Run, by_config, find_runs
from dclip.study.jobs import (
    QUIET,
    Place,
    Words,
    blocked,
    columns_of,
    document,
    lacking,
    program,
    refuse,
    setting,
    why,
    words_of,
)

KEYS = {
    "title", "about", "paper", "ours", "base", "seeds", "columns", "grids", "key", "axes", "average", "adapter", "figure",
    "pictures",
}  # fmt: skip


GRID_KEYS = {"key", "base", "axes", "average", "adapter"}


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        row: names and labels of the table's row, in order.
        pooled: labels of what is averaged in the row's cells.
        words: its settings, as typed.
        needs: the words of the fine-tuning whose edit it applies; empty where it needs none.
    """

    row: tuple[tuple[str, str], ...]
    pooled: Words
    seed: int
    words: Words
    needs: Words = ()

    @property
    def label(self) -> str:
        """What it is called for people."""
        return " ".join([*(f"{k}={v}" for k, v in self.row), *self.pooled, f"seed={self.seed}"])


@dataclass(frozen=True)
class Study:
    """A table and the grid that makes it."""

    name: str
    title: str
    columns: dict[str, str]
    jobs: tuple[Job, ...]
    about: str = ""
    paper: str | None = None
    ours: dict[str, str] = field(default_factory=dict)
    figure: tuple[str, ...] = ()
    pictures: bool = False

    @property
    def rows(self) -> list[tuple[tuple[str, str], ...]]:
        """Rows of the table, in the grid's order."""
        return list(dict.fromkeys(job.row for job in self.jobs))


def read_study(name: str, more: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
    """A study by its name, or by the path of a file of one's own, with settings that are added to every job.

    DclipError for a file that cannot be one.
    """
    path, told = document(name)
    grids = told.get("grids", [{k: told[k] for k in GRID_KEYS - {"base"} if k in told}])
    for keys, known, where in (
        (told, KEYS, path.name),
        *((grid, GRID_KEYS, f"{path.name}: a grid") for grid in grids),
    ):
        unknown = sorted(set(keys) - known)
        if unknown:
            raise DclipError(
                f"{where} has {', '.join(unknown)}, which no study has; known: {', '.join(sorted(known))}"
            )
    common = (*QUIET, *words_of(told.get("base", [])))
    every = tuple(seeds or told.get("seeds", [0]))
    jobs = tuple(job for grid in grids for job in _jobs(grid, common, tuple(more), every))
    return Study(
        name=path.stem, title=told["title"], jobs=jobs, about=str(told.get("about", "")).strip(), paper=told.get("paper"),
        columns=columns_of(told["columns"]),
        ours={k: str(v) for k, v in told.get("ours", {}).items()}, figure=tuple(told.get("figure", ())),
        pictures=bool(told.get("pictures", False)),
    )  # fmt: skip


def _axis(name: str, told: Any) -> list[tuple[str, str, Words]]:
    """(name, label, words) of every value: a list holds values of the setting ``name``, a mapping labels with their settings."""
    if isinstance(told, dict):
        return [(name, str(label), words_of(words)) for label, words in told.items()]
    return [(name.rsplit(".", 1)[-1], str(value), (f"{name}={value}",)) for value in told]


def _jobs(grid: dict[str, Any], common: Words, more: Words, seeds: Sequence[int]) -> Iterator[Job]:
    key = tuple((k, str(v)) for k, v in grid.get("key", {}).items())
    axes = [_axis(name, told) for name, told in grid.get("axes", {}).items()]
    pooled = [_axis(name, told) for name, told in grid.get("average", {}).items()]
    base = (*common, *words_of(grid.get("base", [])))
    tuned = words_of(grid.get("adapter", []))
    for point in itertools.product(*axes):
        for group in itertools.product(*pooled):
            words = (*base, *(word for _, _, some in (*point, *group) for word in some))
            for seed in seeds:
                end = (f"seed={seed}", *more)
                yield Job(
                    row=(*key, *((name, label) for name, label, _ in point)), pooled=tuple(label for _, label, _ in group),
                    seed=seed, words=(*words, *end), needs=(*common, *tuned, *end) if tuned else (),
                )  # fmt: skip


@dataclass
class Task:
    """A process to run (a job, or the fine-tuning that jobs need) and what is known of it."""

    words: Words
    labels: list[str]
    needs: Words = ()
    cfg: Config | None = None  # None where its edit is not learned yet
    run: Run | None = None
    state: str = "new"
    reason: str = ""

    @property
    def digest(self) -> str:
        """Hash of its configuration."""
        return config_hash(self.cfg) if self.cfg else ""


class Board:
    """All tasks of a study: what is finished, what is missing, what failed.

    With ``collecting``, jobs are only composed if there is anything to find.
    """

    def __init__(self, study: Study, place: Place, collecting: bool = False) -> None:
        self.study, self.place, self.collecting = study, place, collecting
        self.tasks: dict[Words, Task] = {}
        for job in study.jobs:
            if job.needs:
                self.tasks.setdefault(job.needs, Task(job.needs, [])).labels.append(
                    f"for {job.label}"
                )
            self.tasks.setdefault(
                (*job.needs, *job.words), Task(job.words, [], job.needs)
            ).labels.append(job.label)
        self.said = {one["config"]: one for one in _read_list(place.record)}
        self.refresh()

    def refresh(self) -> None:
        """Look again at what lies on disk."""
        shared = (
            self.place.runs.parent if self.place.runs.parent.name == "studies" else self.place.runs
        )
        self.runs = by_config(find_runs([shared]))
        if self.runs or self.said or not self.collecting:
            for task in self.tasks.values():
                self._look(task)

    def _look(self, task: Task) -> None:
        words: Words | None = task.words
        if task.needs:
            edit = self.tasks[task.needs].run
            words = (
                (*task.words, setting("edit.adapter", edit.folder))
                if edit and edit.state == "finished"
                else None
            )
        if words is None:
            task.state = "waits"
            return
        if task.cfg is None or task.needs:
            task.cfg = configured(words)
        task.run = self.runs.get(task.digest)
        said = self.said.get(task.digest, {})
        task.state = task.run.state if task.run else said.get("state", "new")
        task.reason = task.run.reason if task.run else said.get("reason", "")

    def unique(self) -> list[Task]:
        """Tasks with different configurations, fine-tunings first; a configuration that several cells ask for is one task."""
        seen: dict[str, Task] = {}
        for task in sorted(self.tasks.values(), key=lambda one: bool(one.needs)):
            seen.setdefault(task.digest or " ".join((*task.needs, "->", *task.words)), task)
        return list(seen.values())

    def task_of(self, job: Job) -> Task:
        """The task behind a job."""
        return self.tasks[(*job.needs, *job.words)]

    def write(self) -> None:
        """Keep what is known: jobs.json."""
        lines = [
            {
                "jobs": task.labels, "config": task.digest, "state": task.state, "reason": task.reason,
                "run": str(task.run.folder) if task.run else None, "words": list(task.words),
            }
            for task in self.unique()
        ]  # fmt: skip
        write_json(self.place.record, {"study": self.study.name, "jobs": lines})


def _read_list(path: Path) -> list[dict[str, Any]]:
    with suppress(OSError, ValueError):
        return list(json.loads(path.read_text("utf-8"))["jobs"])
    return []


# ---------------------------------------------------------------------------------------------------- cost


def _plan_config(board: Board, task: Task) -> Config:
    """What to count the cost of: an edit that is not learned yet costs what a reconstruction costs."""
    if task.cfg is not None:
        return task.cfg
    tuned = board.tasks[task.needs].cfg
    edited = [word for word in task.words if not word.startswith(("task=", "gamma=", "variants="))]
    told = {word.split("=")[0] for word in edited}
    steps = (
        [f"sampler.{k}={getattr(tuned.sampler, k)}" for k in ("t0", "s_for", "s_gen")]
        if tuned
        else []
    )
    return configured(
        [*(s for s in steps if s.split("=")[0] not in told), *edited, "task=reconstruct"]
    )


def _inversion_key(cfg: Config) -> str:
    """Equal for jobs that invert the same images in the same way: the second finds the latents of the first."""
    settings = plain(cfg)
    down_only = {
        "eta",
        "variance",
        "noise_last",
        "final_step",
        *(() if cfg.sampler.solver.value == "fixed_point" else ("s_gen",)),
    }
    sampler = {k: v for k, v in settings["sampler"].items() if k not in down_only}
    return repr(
        [
            settings["checkpoint"],
            settings["dataset"],
            settings["input"],
            sampler,
            cfg.task.name.value == "finetune",
        ]
    )


def cost(board: Board, tasks: Sequence[Task]) -> list[tuple[float | None, float | None]]:
    """Seconds and memory (MB, at most) of every task; an inversion that several share is counted once. None: not known."""
    inverted: set[str] = set()
    found: list[tuple[float | None, float | None]] = []
    for task in tasks:
        cfg = _plan_config(board, task)
        planned = plan.plan(cfg)
        seconds, key = dict(planned["seconds"]), _inversion_key(cfg)
        if key in inverted and cfg.trainer.cache:
            seconds.pop("invert", None)
        inverted.add(key)
        memory = planned["memory_mb"]
        found.append(
            (
                sum(seconds.values()) if planned["seconds"] else None,
                memory and float(memory["at_most"]),
            )
        )
    return found


def dry_run(board: Board) -> str:
    """Every job, its state, its estimated cost, and what is missing, as text."""
    tasks = board.unique()
    costs = cost(board, tasks)
    lines = [f"{board.study.title}", ""]
    missing: dict[str, None] = {}
    total, open_jobs = 0.0, 0
    for task, (seconds, memory) in zip(tasks, costs, strict=True):
        absent = lacking(_plan_config(board, task))
        missing |= dict.fromkeys(absent)
        if task.state != "finished":
            open_jobs += 1
            total += seconds or 0
        cells = f" (and {len(task.labels) - 1} more)" if len(task.labels) > 1 else ""
        needed = plan.duration(seconds) if seconds is not None else "?"
        lines.append(
            f"  {task.state:9} {needed:>7} {f'{memory / 1e3:.1f} GB' if memory else '?':>8}  {task.labels[0]}{cells}"
            + (f"  [lacks {len(absent)}]" if absent else "")
            + (f"  ({task.reason})" if task.reason else "")
        )
        lines.append(f"{'':30}{shlex.join(['python', 'run.py', *task.words])}")
    device = plan.device_of(_plan_config(board, tasks[0]))
    lines += [
        "",
        f"  {len(tasks)} jobs, {len(tasks) - open_jobs} finished; the others about {plan.duration(total)} on {device.name} "
        f"(estimated from {device.basis}), one after the other",
    ]
    lines += [f"  missing   {line}" for line in missing] or ["  missing   nothing"]
    lines.append(f"  runs      {board.place.runs}\n  table     {board.place.table}")
    return "\n".join(lines)


def run_study(board: Board, workers: int = 1, say: Callable[[str], None] = print) -> None:
    """Run what is not finished, ``workers`` jobs at a time; fine-tunings before the jobs that need them."""
    reason = fetch.offline_reason()
    for stage in (False, True):
        tasks = [
            task
            for task in board.unique()
            if bool(task.needs) == stage and task.state != "finished"
        ]
        ready = []
        for task in tasks:
            absent = blocked(task.cfg, reason) if task.cfg else []
            if task.state == "waits":
                task.reason = f"the fine-tuning it needs is not there: {board.tasks[task.needs].reason or 'it failed'}"
            elif task.state == "running":
                say(f"running already: {task.labels[0]}")
            elif absent:
                task.state, task.reason = "lacks", f"not here: {'; '.join(absent)}"
            else:
                ready.append(task)
        if not stage and tasks and not ready and all(task.state == "lacks" for task in tasks):
            refuse([task.cfg for task in tasks if task.cfg], reason)
        _run_all(board, ready, workers, say)
        board.said |= {
            task.digest: {"state": task.state, "reason": task.reason}
            for task in board.unique()
            if task.digest
        }
        board.refresh()
    board.write()


def _run_all(board: Board, tasks: Sequence[Task], workers: int, say: Callable[[str], None]) -> None:
    processes: dict[int, subprocess.Popen[bytes]] = {}
    guard, stop = Lock(), Event()
    begun = time.monotonic()

    def work(item: tuple[int, Task]) -> None:
        number, task = item
        with suppress(Timeout), FileLock(_lock(board, task), timeout=0):
            if stop.is_set():
                return
            say(f"[{number}/{len(tasks)}] {task.labels[0]}")
            started = time.monotonic()
            task.state, task.reason = _run(board, task, processes, guard)
            why = f": {task.reason}" if task.reason else ""
            say(
                f"[{number}/{len(tasks)}] {task.state} after {plan.duration(time.monotonic() - started)}{why}"
            )

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(work, item) for item in enumerate(tasks, 1)]
        try:
            for one in waiting:
                one.result()
        except KeyboardInterrupt:
            stop.set()
            with guard:
                for process in processes.values():
                    process.send_signal(signal.SIGTERM)
            raise
        finally:
            if tasks:
                board.write()
    if tasks:
        say(f"{len(tasks)} jobs in {plan.duration(time.monotonic() - begun)}")


def _lock(board: Board, task: Task) -> Path:
    """One file a configuration: two commands of one study share its jobs and never run one twice."""
    folder = board.place.runs / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{task.digest}.lock"


def _run(
    board: Board, task: Task, processes: dict[int, subprocess.Popen[bytes]], guard: Lock
) -> tuple[str, str]:
    """Run one task to its end; (state, reason)."""
    known = by_config(find_runs([board.place.runs])).get(task.digest)
    if known and known.state == "finished":  # by another command, meanwhile
        return "finished", ""
    if known and known.state == "running":
        return "running", ""
    edit = board.tasks[task.needs].run if task.needs else None
    words = [
        *task.words, *([setting("edit.adapter", edit.folder)] if edit else []), setting("output", board.place.runs.resolve()),
        f"sweep={board.study.name}", *(["resume=true"] if known else []),
    ]  # fmt: skip
    log = board.place.runs / "logs" / f"{task.digest}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        with guard:
            process = subprocess.Popen(
                [*program(), *words], stdout=stream, stderr=subprocess.STDOUT
            )
            processes[process.pid] = process
        code = process.wait()
        with guard:
            del processes[process.pid]
    if code == 0:
        return "finished", ""
    found = by_config(find_runs([board.place.runs])).get(task.digest)
    state = found.state if found and found.state in ("stopped", "killed") else "failed"
    return state, why(found, log, code)
