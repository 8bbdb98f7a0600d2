"""The page of a study or search: its jobs, their state, their numbers. While they run it refreshes itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

from dclip.files import write_text
from dclip.pages.render import render
from dclip.record.runs import Run
from dclip.study.tables import number, titled
from dclip.study.watch import RUNNING, WAITING, Shown, Watch

NAME = "study.html"
EVERY = 10  # seconds after which an open page looks again
MOODS = {"finished": "good", RUNNING: "open", WAITING: ""}


def page_of(runs: Path, title: str, columns: Iterable[str]) -> Callable[[Watch], None]:
    """What writes the page after every event, for ``Watch``.

    Args:
        runs: the folder of the study's runs.
        columns: the numbers of a job that the page shows.
    """
    names = list(columns)

    def write(watch: Watch) -> None:
        with watch.lock:
            page = render(
                "jobs.html",
                title=title,
                refresh=0 if watch.done else EVERY,
                summary=watch.summary(),
                note=watch.note,
                when=time.strftime("%Y-%m-%d %H:%M:%S"),
                columns=[(name, titled(name)) for name in names],
                lines=list(watch.lines.values()),
                moods=MOODS,
            )
        write_text(runs / NAME, page)

    return write


def shown_of(run: Run | None, columns: Iterable[str], runs: Path) -> Shown:
    """What the page shows of a job's run: its numbers, and where its report lies."""
    if run is None:
        return Shown()
    numbers = {}
    for name in columns:
        value = run.value(name)
        if value is not None:
            numbers[name] = number(value)
    report = run.folder / "report.html"
    address = ""
    if report.is_file():
        address = quote(os.path.relpath(report, runs.resolve()))
    return Shown(numbers, address)
