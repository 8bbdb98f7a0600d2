"""A sweep (``-m``) on the console: which job is running, and a table of all at the end.

Every job leaves a line in the sweep's folder, from whatever process a launcher gives it, so that
the table also names those that failed or never began.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dclip.errors import counted
from dclip.files import read_json, write_json
from dclip.metrics.names import arrow, ordered
from dclip.runtime.typed import typed

log = logging.getLogger("dclip")

TITLES = "jobs.json"  # in the sweep's folder: what its jobs are called
STATE = "job.json"  # in each job's folder of the sweep
# numbers that come before all others, where they are known: what can hardly be gamed
FIRST = ("counterfactual_ratio", "judge_success", "judge_preservation")


class NoteSweep(Callback):
    """Tells this process where the sweep's folder is (``conf/config.yaml``)."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra has made up the folder's name; jobs elsewhere read there what they are called."""
        folder = Path(str(config.hydra.sweep.dir))
        _folders.append(folder)
        write_json(folder / TITLES, {"jobs": _titles})


_folders: list[Path] = []
_titles: list[str] = []


def titles(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What every job of a sweep sets otherwise than another."""
    found = []
    for job in jobs:
        own = [word for word in job if not all(word in other for other in jobs)]
        found.append(" ".join(own) or " ".join(job) or "the defaults")
    return found


def begin(jobs: Sequence[Sequence[str]]) -> None:
    """Keep what the jobs of this sweep are called."""
    _folders.clear()
    _titles[:] = titles(jobs)


# ------------------------------------------------------------------------------------- one job


def begin_job() -> str:
    """Say which job begins; what it is called."""
    hydra = HydraConfig.get()
    number = int(hydra.job.num)
    names = read_json(Path(str(hydra.sweep.dir)) / TITLES).get("jobs", [])
    title = " ".join(hydra.overrides.task)
    if number < len(names):
        title = names[number]
    log.info("[%d/%d] %s", number + 1, max(len(names), number + 1), title)
    note_job(title, "running")
    return title


def note_job(title: str, state: str, reason: str = "", run: Path | None = None) -> None:
    """Keep how far a job is."""
    folder = Path(str(HydraConfig.get().runtime.output_dir))
    content = {"job": title, "state": state, "reason": reason, "run": run and str(run)}
    write_json(folder / STATE, content)


# ------------------------------------------------------------------------------------- all jobs


@dataclass(frozen=True)
class Job:
    """How a job of a sweep ended, and its numbers."""

    title: str
    state: str
    reason: str
    metrics: Mapping[str, Any]


def finish() -> str:
    """Print the table of the sweep; says how many of its jobs have no result, if any."""
    if not _folders:
        return f"none of {counted(len(_titles), 'job')} began"
    folder = _folders[-1]
    jobs = [_read(folder / str(number), title) for number, title in enumerate(_titles)]
    print(f"\n{table(jobs)}", flush=True)
    unfinished = [job for job in jobs if job.state != "finished"]
    for job in unfinished:
        log.warning("%s", ": ".join(filter(None, (job.title, job.state, job.reason))))
    report = typed(["report", f"runs={folder.parent.parent}", f"sweep={folder.name}"])
    log.info("all numbers: %s", report)
    if not unfinished:
        return ""
    have = "has" if len(unfinished) == 1 else "have"
    return (
        f"{len(unfinished)} of {counted(len(jobs), 'job')} {have} no result; "
        "the same command with resume=true runs what is missing"
    )


def _read(folder: Path, title: str) -> Job:
    noted = read_json(folder / STATE)
    state = noted.get("state", "not begun")
    if state == "running":
        state = "ended without a word"  # its process is gone
    metrics: dict[str, Any] = {}
    if state == "finished" and noted.get("run"):
        metrics = read_json(Path(noted["run"]) / "metrics.json")
    return Job(title, state, str(noted.get("reason", "")), metrics)


def table(jobs: Sequence[Job]) -> str:
    """A line for every job with its most important numbers, as many as the terminal has room for."""
    columns = shutil.get_terminal_size((120, 24)).columns
    rows = [["", "job", "state"]]
    for number, job in enumerate(jobs, 1):
        title = _short(job.title, max(20, columns // 3))
        rows.append([f"[{number}/{len(jobs)}]", title, job.state])
    room = columns - _width(rows)
    for name in _columns(jobs):
        cells = [f"{name} {arrow(name)}".strip()]
        cells += [_number(job.metrics.get(name)) for job in jobs]
        room -= max(map(len, cells)) + 2
        if room < 0:
            break
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    return "\n".join(_lines(rows))


def _columns(jobs: Sequence[Job]) -> list[str]:
    """The metrics that any job has, the most important first."""
    names: dict[str, None] = {}
    for job in jobs:
        for name, value in job.metrics.items():
            if isinstance(value, float):
                names[name] = None
    first = [name for name in FIRST if name in names]
    return [*first, *(name for name in ordered(names) if name not in first)]


def _short(title: str, most: int) -> str:
    if len(title) <= most:
        return title
    return f"{title[: most - 3]}..."


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-"


def _width(rows: Sequence[Sequence[str]]) -> int:
    return max(map(len, _lines(rows)))


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
