"""Jobs of a study: where they lie, how they run (each in a process of its own), why they failed."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NamedTuple

from filelock import FileLock

from dclip.prepare.paths import CONF
from dclip.prepare.quoting import quoted
from dclip.record.runs import Run, by_config, find_runs
from dclip.runtime.child import end, program
from dclip.study.document import Settings
from dclip.study.snapshot import frozen

POLL = 0.5  # seconds between two looks at a job


@dataclass(frozen=True)
class Folders:
    """Where a study's runs and its table are.

    ``published``: the table is that of experiments/NAME, which a part of the study must not empty.
    """

    runs: Path
    table: Path
    published: bool = False

    @classmethod
    def of(cls, name: str, output: str | None, changed: bool) -> Folders:
        """``output``; else outputs/studies/NAME, and the table in experiments/NAME.

        With settings of one's own (``changed``) the table lies beside the runs.
        """
        if output is not None:
            return cls(Path(output) / "runs", Path(output))
        runs = Path("outputs") / "studies" / name
        experiments = CONF.parent / "experiments"
        if changed or not experiments.is_dir():
            return cls(runs, runs / "table")
        return cls(runs, experiments / name, published=True)

    @property
    def shared(self) -> Path:
        """Where finished runs are looked for: in this study and in those beside it."""
        if self.runs.parent.name == "studies":
            return self.runs.parent
        return self.runs

    @property
    def states(self) -> Path:
        """The state of every job, also of those that never made a run's folder."""
        return self.runs / "jobs.json"

    def lock(self, digest: str) -> FileLock:
        """One lock a configuration: two commands never run one at the same time."""
        folder = self.runs / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{digest}.lock")

    def log(self, digest: str) -> Path:
        """Where the output of a job goes."""
        folder = self.runs / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{digest}.log"


# ------------------------------------------------------------------------------- running one


class End(NamedTuple):
    """How a job ended: finished, failed, stopped, killed or given up.

    ``running`` where another command has it.
    """

    state: str
    reason: str = ""


class JobRunner:
    """Runs jobs in processes of their own and finds those that were run before."""

    def __init__(self, folders: Folders, sweep: str, stop: Event) -> None:
        self.folders, self.sweep, self.stop = folders, sweep, stop
        self.program = program(frozen(folders.runs))

    def find(self, digest: str) -> Run | None:
        """The run of a configuration in this study's folder."""
        return by_config(find_runs([self.folders.runs])).get(digest)

    def run(
        self,
        settings: Settings,
        digest: str,
        hopeless: Callable[[Run], str] | None = None,
        follow: bool = False,
    ) -> End:
        """Run a job, or take what is there of it.

        Args:
            hopeless: looks at the run now and then; its answer, if any, ends the run as given up.
            follow: a run that is under way, started by a command that is gone, is watched to its
                end; otherwise it is left alone.
        """
        run = self.find(digest)
        if run and run.state == "finished":
            if hopeless:
                hopeless(run)
            return End("finished")
        if run and run.state == "running":
            return self._watch(None, digest, hopeless) if follow else End("running")
        command = [
            *self.program,
            *settings,
            f"output={quoted(self.folders.runs.resolve())}",
            f"sweep={self.sweep}",
        ]
        if run:
            command.append("resume=true")
        with self.folders.log(digest).open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
            try:
                return self._watch(process, digest, hopeless)
            except BaseException:  # nobody would watch it any more
                end(process)
                raise

    def _watch(
        self,
        process: subprocess.Popen[bytes] | None,
        digest: str,
        hopeless: Callable[[Run], str] | None,
    ) -> End:
        """Wait until a job ends, is hopeless, or the study is stopped.

        Without a process, the run is one that another command started.
        """
        run = None
        while True:
            ended = self._ended(process, digest)
            if hopeless:
                run = run or self.find(digest)
                reason = hopeless(run) if run else ""
                if reason and not ended:
                    end_run(process, run)
                    return End("given up", reason)
            if ended:
                return self._end(process, digest)
            if self.stop.is_set():
                end_run(process, run or self.find(digest))
                return End("stopped")

    def _ended(self, process: subprocess.Popen[bytes] | None, digest: str) -> bool:
        """Whether a job is over, after ``POLL`` seconds at most."""
        if process is None:
            self.stop.wait(POLL)
            run = self.find(digest)
            return run is None or run.state != "running"
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
            return True
        return False

    def _end(self, process: subprocess.Popen[bytes] | None, digest: str) -> End:
        """How a job ended, as its run says."""
        run = self.find(digest)
        if run and run.state == "finished":
            return End("finished")
        if self.stop.is_set():  # Ctrl-C reached the run before us
            return End("stopped")
        state = run.state if run else "gone"
        if process is None:
            return End("failed", f"its run is {state}")
        reason = why_failed(run, self.folders.log(digest), process.returncode)
        return End(state if state in ("stopped", "killed") else "failed", reason)


def why_failed(run: Run | None, log: Path, code: int) -> str:
    """Why a job failed: what its run says, else the last line of its output, else its exit code."""
    if run and run.status.get("reason"):
        return str(run.status["reason"])
    if code < 0:
        return f"its process was killed ({signal.Signals(-code).name})"
    last, error = f"exit code {code}", ""
    for line in log.read_text("utf-8", "replace").splitlines():
        last = line.strip() or last
        if line.startswith("error: "):
            error = line.removeprefix("error: ").strip()
    return (error or last)[:300]


def end_run(process: subprocess.Popen[bytes] | None, run: Run | None) -> None:
    """Stop a run; it leaves a checkpoint to resume from. A run of another machine is left alone."""
    if process is None:
        if run is not None and run.status.get("host") == platform.node():
            with suppress(OSError):
                os.kill(int(run.status["pid"]), signal.SIGTERM)
        return
    end(process)


# --------------------------------------------------------------------------- running several


def run_parallel(work: Sequence[Callable[[], None]], workers: int, stop: Event) -> None:
    """Call each, ``workers`` at a time.

    Ctrl-C and errors set ``stop``, and wait until all have stopped.
    """
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(one) for one in work]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
