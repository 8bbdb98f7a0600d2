"""The jobs of a study or search while they run: lines, or a table that is redrawn in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, RLock, Thread
from typing import TextIO

from dclip.runtime.durations import duration

Say = Callable[[str], None]

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
ORDER = (RUNNING, "failed", "killed", "blocked", "stopped", "given up", FINISHED, WAITING)
EVERY = 1.0  # seconds between two drawings
MOST = 20  # lines of the table


@dataclass(frozen=True)
class Shown:
    """What a page shows of a job's run: its numbers, and the address of its report."""

    numbers: Mapping[str, str] = field(default_factory=dict)
    report: str = ""


@dataclass
class Line:
    """A job, and how it is doing.

    Attributes:
        began: on the clock of this command; None where it did not start here.
        seconds: that it took; None while it runs.
        detail: why it failed, or what came out.
    """

    label: str
    state: str = WAITING
    began: float | None = None
    seconds: float | None = None
    detail: str = ""
    shown: Shown = field(default_factory=Shown)

    @property
    def took(self) -> str:
        """How long it took, or has been running."""
        if self.seconds is not None:
            return duration(self.seconds)
        if self.began is None:
            return ""
        return duration(time.monotonic() - self.began)


class Watch:
    """Keeps the state of every job, and says what happens, a line an event.

    Args:
        say: takes a line.
        changed: called after every event.
    """

    def __init__(self, say: Say = print, changed: Callable[[Watch], None] | None = None) -> None:
        self.say, self.changed = say, changed
        self.lines: dict[str, Line] = {}
        self.lock = RLock()
        self.workers = 1
        self.done = False
        self.note = ""  # why jobs were left out

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Until the jobs have ended."""
        try:
            yield self
        finally:
            self.done = True
            self._tell()

    def plan(self, label: str, state: str = WAITING) -> None:
        """A job that is to run, or was run before."""
        with self.lock:
            self.lines.setdefault(label, Line(label, state))

    def start(self, label: str, title: str = "") -> None:
        """A job starts; ``title`` is its number."""
        with self.lock:
            self.lines[label] = Line(label, RUNNING, time.monotonic())
            self.tell(f"{title} {label}".strip())

    def end(
        self, label: str, title: str, state: str, detail: str = "", shown: Shown | None = None
    ) -> None:
        """A job has ended; ``detail`` says why it failed, or what came out."""
        with self.lock:
            line = self.lines[label]
            now = time.monotonic()
            line.state, line.seconds = state, now - (line.began or now)
            line.detail, line.shown = detail, shown or Shown()
            reason = f": {detail}" if detail else ""
            self.tell(f"{title} {state} after {duration(line.seconds)}{reason}")

    def tell(self, text: str) -> None:
        """Say a line of an event."""
        self.say(text)
        self._tell()

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed(self)

    def counts(self) -> dict[str, int]:
        """How many jobs are in which state."""
        with self.lock:
            states = [line.state for line in self.lines.values()]
        return {state: states.count(state) for state in ORDER if state in states}

    @property
    def started(self) -> int:
        """How many jobs this command has started."""
        with self.lock:
            return sum(line.began is not None for line in self.lines.values())

    @property
    def failures(self) -> int:
        """How many jobs failed, or whose process was killed."""
        counts = self.counts()
        return counts.get("failed", 0) + counts.get("killed", 0)

    def left(self) -> str:
        """How long the jobs that wait will take, as those took that have ended; empty if unknown."""
        with self.lock:
            lines = list(self.lines.values())
        took = [line.seconds for line in lines if line.seconds is not None]
        open_jobs = [line for line in lines if line.state in (WAITING, RUNNING)]
        if not took or not open_jobs:
            return ""
        return duration(sum(took) / len(took) * len(open_jobs) / self.workers)

    def summary(self) -> str:
        """All states in one line."""
        parts = [f"{count} {state}" for state, count in self.counts().items()]
        left = self.left()
        if left and not self.done:
            parts.append(f"about {left} left")
        return ", ".join(parts)


class LiveWatch(Watch):
    """Draws a table into a terminal, and draws it again every second."""

    def __init__(
        self, changed: Callable[[Watch], None] | None = None, stream: TextIO | None = None
    ) -> None:
        super().__init__(self._above, changed)
        self.stream = stream or sys.stdout
        self.drawn = 0  # lines of the last drawing

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Redraw until the jobs have ended; the last drawing stays."""
        stop = Event()
        clock = Thread(target=self._redraw, args=(stop,), daemon=True)
        clock.start()
        try:
            with super().watching():
                yield self
        finally:
            stop.set()
            clock.join()
            self.draw()

    def _redraw(self, stop: Event) -> None:
        while not stop.wait(EVERY):
            self.draw()

    def tell(self, text: str) -> None:
        """The table shows it."""
        self.draw()
        self._tell()

    def _above(self, text: str) -> None:
        """A line that is no event, above the table."""
        with self.lock:
            self._wipe()
            print(text, file=self.stream)
            self.draw()

    def _wipe(self) -> None:
        if self.drawn:
            self.stream.write(f"\x1b[{self.drawn}F\x1b[J")
        self.drawn = 0

    def draw(self) -> None:
        """Draw the table in place of the last one."""
        with self.lock:
            self._wipe()
            if self.lines:
                lines = self.table()
                self.stream.write("\n".join(lines) + "\n")
                self.drawn = len(lines)
            self.stream.flush()

    def table(self) -> list[str]:
        """The jobs, those that run first, as lines that fit into the terminal."""
        size = shutil.get_terminal_size()
        ranked = sorted(self.lines.values(), key=self._rank)
        shown = ranked[: max(1, min(MOST, size.lines - 3))]
        lines = []
        for line in shown:
            detail = f"  ({line.detail})" if line.detail else ""
            text = f"{line.state:9} {line.took:>8}  {line.label}{detail}"
            lines.append(text[: size.columns - 1])
        if len(shown) < len(ranked):
            lines.append(f"and {len(ranked) - len(shown)} more")
        lines.append(self.summary()[: size.columns - 1])
        return lines

    def _rank(self, line: Line) -> tuple[int, float]:
        """Running ones first, then those that failed, then the newest."""
        place = ORDER.index(line.state) if line.state in ORDER else len(ORDER)
        return place, -(line.began or 0.0)


def watch_for(changed: Callable[[Watch], None] | None = None) -> Watch:
    """A table in a terminal, else lines."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveWatch(changed)
    return Watch(_line, changed)


def _line(text: str) -> None:
    print(text, flush=True)
