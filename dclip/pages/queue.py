"""Runs that a page starts: one at a time, each an ordinary run in a process of its own.

Whoever comes later waits, and is told how many are before. Imports nothing heavy.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from dclip.config import Config
from dclip.edits.named import FILE
from dclip.errors import need, one_line
from dclip.files import read_json
from dclip.pages.progress import Progress, pace_of, stages_of
from dclip.record.identity import run_name
from dclip.record.runs import Run
from dclip.runtime import child

log = logging.getLogger("dclip")

LONGEST = 20  # jobs that wait or run
PACE = "0.5"  # seconds between two lines of a progress bar
TAIL = 40  # lines of a job's output that are kept, to say why it failed


class State(StrEnum):
    """Where a job stands."""

    waiting = "waiting"
    running = "running"
    stopping = "stopping"
    stopped = "stopped"
    failed = "failed"
    finished = "finished"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.stopped, State.failed, State.finished)


@dataclass
class Job:
    """One run that somebody asked for.

    Attributes:
        title: what it does, in words.
        words: its command line, without the program.
        cfg: what these words mean.
        key: known only to the browser that asked for it.
        reason: why it failed.
        folder: the run's, once there is one.
    """

    title: str
    words: Sequence[str]
    cfg: Config
    key: str = field(default_factory=lambda: uuid4().hex)
    state: State = State.waiting
    reason: str = ""
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    def __post_init__(self) -> None:
        self.progress = Progress(stages_of(self.cfg), pace_of(self.cfg))

    @property
    def parent(self) -> Path:
        """The folder in which the run makes its own."""
        return Path(self.cfg.output) / run_name(self.cfg)

    def find_folder(self) -> Path | None:
        """The run's folder: the one that the job's process writes into; None before it does."""
        if self.folder is None and self.process is not None:
            for status in sorted(self.parent.glob("*/status.json"), reverse=True):
                if read_json(status).get("pid") == self.process.pid:
                    self.folder = status.parent
                    break
        return self.folder

    @property
    def edit(self) -> Path | None:
        """The file of the edit that it has learned."""
        if self.state is not State.finished or self.folder is None:
            return None
        file = self.folder / FILE
        return file if file.is_file() else None

    def say_why(self) -> str:
        """Why it failed: its own message, else what its run says, else the last line."""
        errors = [line for line in self.tail if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        reason = Run(self.folder).reason if self.folder else ""
        return reason or (self.tail[-1] if self.tail else "it printed nothing")


class JobQueue:
    """Jobs in the order in which they were asked for. A thread carries them out, one at a time."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._line: deque[Job] = deque()  # the first is at work, or about to be
        self._changed = threading.Condition()
        self._learned: list[Path] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dclip-queue", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Put a job at the end of the line. DclipError where that is too long."""
        with self._changed:
            need(
                len(self._line) < LONGEST,
                f"{LONGEST} others are waiting, which is the most; try again later",
            )
            self._jobs[job.key] = job
            self._line.append(job)
            self._changed.notify_all()

    def get(self, key: str | None) -> Job | None:
        """The job of a key; None for any other text."""
        return self._jobs.get(key or "")

    def place(self, job: Job) -> int:
        """How many are before it."""
        with self._changed:
            return self._line.index(job) if job in self._line else 0

    def parents(self) -> set[Path]:
        """The folders of the runs that wait or are at work."""
        with self._changed:
            return {job.parent for job in self._line}

    def learned(self) -> list[Path]:
        """The files of the edits that were learned, the last one last."""
        with self._changed:
            return list(self._learned)

    def stop(self, job: Job) -> None:
        """Take a job out of the line, or ask its run to stop; what it learned is kept."""
        with self._changed:
            if job.state is State.waiting:
                self._line.remove(job)
                job.state = State.stopped
            elif job.state is State.running and job.process is not None:
                job.state = State.stopping
                job.process.terminate()

    def close(self) -> None:
        """End everything. A run that is at work leaves what it needs to be resumed."""
        with self._changed:
            self._closed = True
            for job in list(self._line):
                self.stop(job)
            self._changed.notify_all()
        self._thread.join(child.PATIENCE)

    # ------------------------------------------------------------ the thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._line)
                if self._closed:
                    return
                job = self._line[0]
                _attempt(_start, job)
            if not job.state.over:
                _attempt(_follow, job)
            with self._changed:
                self._line.remove(job)
                if job.edit is not None:
                    self._learned.append(job.edit)


def _attempt(step: Callable[[Job], None], job: Job) -> None:
    """Do one step of a job. An error of ours is the job's end, and says why; the others go on."""
    try:
        step(job)
    except Exception as error:
        log.exception("%s", job.title)
        job.reason = one_line(error) or type(error).__name__
        job.state = State.failed
        if job.process is not None:
            child.end(job.process)


def _start(job: Job) -> None:
    """Start a job's process. Ctrl-C in the page's terminal does not reach it; closing does."""
    job.process = subprocess.Popen(
        [*child.program(), *job.words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DCLIP_PROGRESS": PACE},
        start_new_session=True,
    )
    job.state = State.running


def _follow(job: Job) -> None:
    """Read what a job prints until it ends, and say how it ended."""
    assert job.process is not None
    for line in _lines(job.process):
        job.progress.read(line)
        job.tail.append(line)
    code = job.process.wait()
    job.find_folder()
    if code == 0:
        job.state = State.finished
    elif job.state is State.stopping:
        job.state = State.stopped
    else:
        job.reason = job.say_why()
        job.state = State.failed


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of a process; those of a bar end with a carriage return."""
    assert process.stdout is not None
    rest = b""
    while chunk := os.read(process.stdout.fileno(), 4096):
        *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
        for line in whole:
            if line.strip():
                yield line.decode("utf-8", "replace").strip()
    if rest.strip():
        yield rest.decode("utf-8", "replace").strip()
