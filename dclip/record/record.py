"""The record of a run: its folder, log, curves, pictures, numbers and status.

outputs/<name>/<date>_<time>_<hash>/
    config.yaml      the whole configuration
    status.json      running, finished or failed (and why), times, machine, versions, git revision
    metrics.json     flat, final; a metric that could not be computed is NAME_absent: reason
    rows.csv         one line an image, one column a metric
    curves.jsonl     one line a logged step
    samples/*.png    pictures; image_NAME.png is one that was edited, sources/ has it before,
                     and truth/ as it truly looks edited, where that is known
    checkpoints/     last.ckpt (to resume from) and best.ckpt
    report.html      one self-contained page, also of a run that failed or was stopped
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from omegaconf import OmegaConf

from dclip.config import Config, plain
from dclip.errors import DclipError, need, one_line, output_trouble, unwritable
from dclip.files import atomic_save, read_json, write_json, write_rows
from dclip.record.identity import config_hash, run_name
from dclip.record.machine import environment
from dclip.record.online import card_of, finish_wandb, send_picture, send_rows, start_wandb
from dclip.record.processes import alive, this_process
from dclip.runtime import parallel
from dclip.runtime.signals import stop_reason

if TYPE_CHECKING:
    from PIL.Image import Image
    from wandb import Run

log = logging.getLogger("dclip")
warned = logging.getLogger("py.warnings")  # where Python's warnings go while a run is recorded

# kept while a run goes on, so that its end can be written where the disk is full
RESERVE = ".reserve"

# ---------------------------------------------------------------------------------- the folder


def _unfinished(folders: Sequence[Path], sweep: str) -> Path | None:
    """The newest of these folders that did not finish and that nobody works in.

    One of the same sweep comes before all others. A run of another machine is never waited for.
    """
    candidates = []
    for folder in folders:
        status = read_json(folder / "status.json")
        if status.get("status") != "finished" and not _at_work(status):
            candidates.append((status.get("sweep") != sweep, folder))
    if not candidates:
        return None
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _at_work(status: Mapping[str, Any]) -> bool:
    """Whether another process of this machine writes into the folder of this status."""
    me = this_process()
    if status.get("status") != "running" or status.get("host") != me["host"]:
        return False
    return status.get("pid") != me["pid"] and alive(status)


def _refuse(folders: Sequence[Path]) -> None:
    """DclipError that says why none of these folders can be resumed."""
    for folder in folders:
        status = read_json(folder / "status.json")
        need(
            not _at_work(status),
            f"resume=true: the run of this configuration is running as process {status.get('pid')} "
            f"({folder}); wait for it, or stop it",
        )
    if folders:
        raise DclipError(
            f"resume=true: the run of this configuration is finished ({folders[0]}); "
            "remove resume=true to run it again"
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process that asks for the same is at work in this folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    with suppress(NotImplementedError):  # a file system without locks
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _new_folder(parent: Path, digest: str) -> Path:
    """A folder that nobody else has, even if two jobs start in the same second."""
    stem = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{digest}"
    for attempt in range(1000):
        suffix = f"-{attempt}" if attempt else ""
        folder = parent / f"{stem}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.parent.is_dir():
                continue
            raise
        return folder
    raise DclipError(f"output={parent} has a thousand runs of this second; wait one second")


def make_folder(cfg: Config) -> tuple[Path, bool]:
    """The run's folder, and whether a run is resumed in it. DclipError if there can be none.

    From then on it is this process's: of two with ``resume=true``, one is refused.
    """
    parent = Path(cfg.output) / run_name(cfg)
    with ExitStack() as meanwhile:
        try:
            meanwhile.enter_context(alone(parent))
            folder, resumed = _choose(cfg, parent)
        except OSError as error:
            raise unwritable(cfg.output, error) from error
        _claim(folder, cfg)
    return folder, resumed


def _choose(cfg: Config, parent: Path) -> tuple[Path, bool]:
    """A new folder, or one to resume."""
    digest = config_hash(cfg)
    if cfg.resume:
        folders = sorted(parent.glob(f"*_{digest}*"), reverse=True)
        unfinished = _unfinished(folders, cfg.sweep)
        if unfinished is not None:
            return unfinished, True
        _refuse(folders)
        log.warning(
            "resume=true: no unfinished run of this configuration under %s; starting a new one",
            parent,
        )
    return _new_folder(parent, digest), False


def _claim(folder: Path, cfg: Config) -> None:
    """Write that this process is at work here, before anyone else looks."""
    settings = OmegaConf.create(plain(cfg))
    atomic_save(folder / "config.yaml", lambda temporary: OmegaConf.save(settings, temporary))
    status = folder / "status.json"
    write_json(status, {**read_json(status), **_facts(cfg, "running")})


def _facts(cfg: Config, state: str) -> dict[str, Any]:
    """What every status.json has: how the run stands, what it is, and whose it is."""
    return {
        "status": state,
        "command": cfg.command,
        "variant": cfg.variant,
        "config": config_hash(cfg),
        "sweep": cfg.sweep,
        **this_process(),
    }


def _point_latest(folder: Path, root: Path) -> None:
    """``outputs/latest`` -> the newest run; replaced in one step."""
    link, temporary = root / "latest", root / f".latest.{os.getpid()}"
    with suppress(OSError):  # file systems without links still get their run
        temporary.symlink_to(os.path.relpath(folder, root))
        temporary.replace(link)


# ---------------------------------------------------------------------------------- its content


class Record:
    """One run's folder and what is written into it. Only the first process writes."""

    def __init__(self, folder: Path, cfg: Config, resumed: bool) -> None:
        self.folder, self.cfg, self.resumed = folder, cfg, resumed
        self.writes = parallel.rank() == 0
        self.wandb: Run | None = None
        self.stage = ""  # the verb that it is at; "after VERB" between two of them
        self.silent = False  # whether W&B's trouble was said
        self.started = time.monotonic()  # clocks are set back
        self.seconds: dict[str, float] = {}
        self.speed: dict[str, float] = {}  # of learning, where something was learned
        self.edits: list[Mapping[str, Any]] = []

    @classmethod
    def quiet(cls, cfg: Config) -> Record:
        """A record that writes nothing, for work that is no run: a page's edit, a notebook's."""
        record = cls(Path(cfg.output), cfg, resumed=False)
        record.writes = False
        return record

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Measure the wall time of a verb: ``seconds_NAME``."""
        start, self.stage = time.perf_counter(), name
        yield
        self.stage = f"after {name}"
        self.seconds[f"seconds_{name}"] = round(time.perf_counter() - start, 3)

    def applies(self, edits: Sequence[Mapping[str, Any]]) -> None:
        """Keep what is known of the edits that the run applies: the report shows it."""
        self.edits = list(edits)

    def status(self, state: str, **more: Any) -> None:
        """Write status.json."""
        if not self.writes:
            return
        content: dict[str, Any] = {
            **_facts(self.cfg, state),
            "seconds": round(time.monotonic() - self.started, 2),
            **more,
            "edits": self.edits,
            "environment": environment(),
        }
        if self.wandb is not None:
            content["wandb"] = card_of(self.wandb)
        write_json(self.folder / "status.json", content)

    def curve(self, values: Mapping[str, float], step: int) -> None:
        """Append one line to curves.jsonl."""
        if not self.writes:
            return
        line = {"step": step, **{name: float(value) for name, value in values.items()}}
        with (self.folder / "curves.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def picture(self, name: str, picture: Image, slider: str = "") -> Path:
        """Save a picture as samples/NAME.png, and show it in W&B.

        Args:
            slider: W&B shows pictures of one slider in one place, to be moved through.
        """
        path = self.folder / "samples" / f"{name}.png"
        if self.writes:
            atomic_save(path, picture.save)
            self.send(lambda online: send_picture(online, slider or name, picture, name))
        return path

    def animation(self, name: str, frames: Sequence[Image], seconds: float = 0.25) -> None:
        """Save pictures as samples/NAME.gif, played forwards and backwards."""
        if not self.writes or not frames:
            return
        first, *others = [*frames, *frames[-2:0:-1]]

        def write(path: Path) -> None:
            first.save(
                path, save_all=True, append_images=others, duration=round(1000 * seconds), loop=0
            )

        atomic_save(self.folder / "samples" / f"{name}.gif", write)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Write metrics.json: flat and final."""
        if not self.writes:
            return
        rounded = dict(values)
        for name, value in values.items():
            if isinstance(value, float):
                rounded[name] = round(value, 6)
        write_json(self.folder / "metrics.json", rounded)
        self.send(lambda online: online.summary.update(rounded))

    def rows(self, ids: tuple[str, ...], columns: Mapping[str, list[float]]) -> None:
        """Write rows.csv: one line an image."""
        if not self.writes or not columns:
            return
        table: dict[str, Sequence[float | str]] = {"image": ids, **columns}
        write_rows(self.folder / "rows.csv", table)
        self.send(lambda online: send_rows(online, table))

    def send(self, what: Callable[[Run], object]) -> None:
        """Give W&B something, if it listens. Where it fails, that is said once, and the run goes on."""
        if self.wandb is None:
            return
        try:
            what(self.wandb)
        except Exception as error:  # whatever W&B's trouble is, the run is worth more
            if not self.silent:
                log.warning(
                    "W&B refused something (%s); the run's folder has it", one_line(error, 120)
                )
            self.silent = True


# ---------------------------------------------------------------------------- beginning and end


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Write everything that is logged to run.log: what the console shows, and more.

    Warnings of other libraries go there too, and to the console as before.
    """
    handler = logging.FileHandler(folder / "run.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    handlers = list(log.handlers)
    for each in handlers:
        warned.addHandler(each)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for each in handlers:
            warned.removeHandler(each)
        log.removeHandler(handler)
        handler.close()


@contextmanager
def recording(cfg: Config, report: Callable[[Record], object] | None = None) -> Iterator[Record]:
    """Open a run's record; close it as finished, or as failed with the reason.

    Args:
        report: called once the run has ended in whatever way, before its log and W&B's run are
            closed.
    """
    place = make_folder(cfg) if parallel.rank() == 0 else (Path(), False)
    folder, resumed = parallel.all_gather_objects(place)[0]
    record = Record(folder, cfg, resumed)
    with ExitStack() as log_file:
        if record.writes:
            log_file.enter_context(logging_to(folder))
            _begin(record)
        try:
            yield record
        except BaseException as error:
            try:
                _fail(record, error)
                if report is not None and record.writes:
                    report(record)
            except Exception as trouble:  # a full disk, for one, must not hide the first error
                log.debug("%s: %s", type(trouble).__name__, trouble)
            finally:
                _close(record, 1)
            raise
        _free(record)
        record.status("finished")
        code = 1
        try:
            if report is not None and record.writes:
                report(record)
            code = 0
        finally:
            _close(record, code)


def _begin(record: Record) -> None:
    """Write what is known before the work."""
    cfg, folder = record.cfg, record.folder
    _point_latest(folder, Path(cfg.output))
    record.wandb = start_wandb(cfg, folder)
    (folder / RESERVE).write_bytes(bytes(2**16))
    record.status("running")
    log.debug("%s %s", "resuming in" if record.resumed else "run folder:", folder)
    log.debug("settings:\n%s", (folder / "config.yaml").read_text("utf-8").rstrip())


def _fail(record: Record, error: BaseException) -> None:
    """Write that the run failed or was stopped, and why."""
    _free(record)
    state, reason = "failed", f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        state, reason = "stopped", stop_reason(error)
    elif isinstance(error, OSError) and error.filename:
        reason = str(output_trouble(error, record.cfg.output))
    record.status(state, reason=reason, stage=record.stage)
    log.debug("%s: %s", state, reason)


def _free(record: Record) -> None:
    """Give back the space that was kept for writing how a run ended."""
    if record.writes:
        (record.folder / RESERVE).unlink(missing_ok=True)


def _close(record: Record, code: int) -> None:
    """End W&B's run with the exit code."""
    if record.wandb is not None:
        finish_wandb(record.wandb, record.folder, code)
