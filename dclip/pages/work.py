"""What a page shows of a run that it started: how far it is, and the pictures as they appear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dclip.errors import DclipError
from dclip.pages.queue import Job, JobQueue, State
from dclip.pages.render import render
from dclip.runtime.durations import duration
from dclip.runtime.typed import typed

Shown = tuple[Image.Image, str]  # a picture with its caption


@dataclass(frozen=True)
class Look:
    """One look at a job; two that are equal need not be shown again.

    Attributes:
        words: what it does, in one line.
        share: how much of it is done, 0 to 1.
        count: of the pictures that are there.
    """

    state: State
    words: str
    share: float
    folder: Path | None
    count: int

    def ends(self, seen: Look | None) -> bool:
        """Whether the job has ended since a look before."""
        return seen is not None and self.state.over and not seen.state.over


def look_at(queue: JobQueue, job: Job, pattern: str) -> Look:
    """How a job stands.

    Args:
        pattern: of the names of the pictures that are shown while it runs.
    """
    folder = job.find_folder()
    count = len(pictures_at(folder, pattern))
    share = 1.0 if job.state is State.finished else job.progress.share
    return Look(job.state, _words(queue, job), round(share, 3), folder, count)


def _words(queue: JobQueue, job: Job) -> str:
    if job.state is State.waiting:
        return f"waiting, {_before(queue.place(job))}"
    if job.state is State.running:
        return _at_work(job)
    if job.state is State.stopped and job.folder is None:
        return "stopped before it began"
    return {
        State.stopping: "stopping, and keeping what was learned",
        State.stopped: "stopped; it is kept, and Resume goes on with it",
        State.failed: f"failed: {job.reason}",
        State.finished: "finished",
    }[job.state]


def _before(count: int) -> str:
    """How many are before one that waits."""
    if count == 1:
        return "1 run is before yours"
    return f"{count} runs are before yours"


def _at_work(job: Job) -> str:
    progress = job.progress
    parts = [progress.words]
    epochs = getattr(job.cfg.method, "epochs", 0)
    epoch = progress.epoch(epochs) if epochs else 0
    if epoch:
        parts[0] += f", epoch {epoch} of {epochs}"
    if progress.total:
        parts.append(f"step {progress.done} of {progress.total}")
    if progress.seconds_left is not None:
        parts.append(f"about {duration(max(1.0, progress.seconds_left))} left")
    return ", ".join(parts)


def work_html(job: Job, look: Look) -> str:
    """A job as the page shows it."""
    folder = None
    if look.folder is not None:
        folder = _near(look.folder)
    return render(
        "work.html",
        title=job.title,
        words=look.words,
        percent=round(100 * look.share),
        folder=folder,
        command=typed(job.words),
        state=look.state.value,
    )


def _near(folder: Path) -> Path:
    """A folder as one types it where the page was started."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def pictures_at(folder: Path | None, pattern: str) -> list[Path]:
    """The pictures of a run whose names fit, the newest first."""
    if folder is None:
        return []
    return sorted((folder / "samples").glob(pattern), reverse=True)


def shown(paths: Sequence[Path]) -> list[Shown]:
    """Pictures with their names as captions."""
    pairs = []
    for path in paths:
        with Image.open(path) as opened:
            pairs.append((opened.convert("RGB"), caption(path)))
    return pairs


def caption(path: Path) -> str:
    """A picture's name in words: ``epoch_02`` is epoch 2."""
    words = path.stem.split("_")
    return " ".join(word.lstrip("0") or "0" for word in words)


def only_one(queue: JobQueue, key: str | None) -> None:
    """DclipError where a browser's last job is not over."""
    job = queue.get(key)
    if job is not None and not job.state.over:
        raise DclipError(f"{job.title} is not over yet; wait for it, or stop it")
