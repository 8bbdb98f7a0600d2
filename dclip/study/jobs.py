"""Jobs of a study: what they are called, how they run, why they failed."""

from __future__ import annotations

import difflib
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dclip.config import Config
from dclip.data.missing import missing_data
from dclip.errors import DclipError
from dclip.prepare import compose, needs
from dclip.record.runs import Run

Words = tuple[str, ...]


QUIET = (
    "logger=csv",
    "trainer.progress=false",
)  # of every job, unless told otherwise; they change no result


# ---------------------------------------------------------------------------------------------------- reading


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in (compose.CONF / "study").glob("*.yaml"))


def document(name: str) -> tuple[Path, dict[str, Any]]:
    """A study's file and what it says. DclipError where there is none, or it lacks what every study has."""
    path = Path(name) if name.endswith(".yaml") else compose.CONF / "study" / f"{name}.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(name, studies(), 1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise DclipError(
            f"study={name} does not exist{hint} Choose from {', '.join(studies())}, or give a file of your own"
        )
    told: Any = OmegaConf.to_container(OmegaConf.load(path))
    absent = [key for key in ("title", "columns") if not isinstance(told, dict) or key not in told]
    if absent:
        raise DclipError(
            f"{path.name} has no {' and no '.join(absent)}; see conf/study for examples"
        )
    return path, {str(key): value for key, value in told.items()}


def columns_of(told: Any) -> dict[str, str]:
    """Names of a table's columns and their sources: a list of sources, or a mapping."""
    return dict(told) if isinstance(told, dict) else {column: column for column in told}


def words_of(told: Any) -> Words:
    """Settings from a file: one, or a list."""
    return (told,) if isinstance(told, str) else tuple(str(word) for word in told)


# ---------------------------------------------------------------------------------------------------- state


@dataclass(frozen=True)
class Place:
    """Where a study's runs, its record and its table are."""

    runs: Path
    table: Path

    @classmethod
    def of(cls, name: str, output: str | None, changed: bool) -> Place:
        """As told; else outputs/studies/NAME, and the table in experiments/NAME, unless settings were added to the study."""
        if output is not None:
            return cls(Path(output) / "runs", Path(output))
        runs = Path("outputs") / "studies" / name
        experiments = compose.CONF.parent / "experiments"
        return cls(
            runs, experiments / name if experiments.is_dir() and not changed else runs / "table"
        )

    @property
    def record(self) -> Path:
        """What became of every job, also of those that never made a run's folder."""
        return self.runs / "jobs.json"


def setting(name: str, path: Path) -> str:
    """A path as a setting, in quotes where its name would puzzle Hydra."""
    plain_text = re.fullmatch(r"[\w./@+-]+", str(path))
    return (
        f"{name}={path}"
        if plain_text
        else f"{name}='{str(path).replace(chr(39), chr(92) + chr(39))}'"
    )


def lacking(cfg: Config) -> list[str]:
    """What a job needs and is not here."""
    absent = [need.name for need in needs.needed(cfg) if need.path is None and not need.optional]
    return [*absent, *("data: " + line for line in missing_data(cfg))]


# ---------------------------------------------------------------------------------------------------- running


class Stopped(KeyboardInterrupt):
    """SIGTERM: the same as Ctrl-C."""


def refuse(cfgs: Sequence[Config], reason: str | None) -> None:
    """Nothing at all can run: say what is needed, once."""
    wanted = {
        n.name: n for cfg in cfgs for n in needs.needed(cfg) if n.path is None and not n.optional
    }
    data = list(dict.fromkeys(line for cfg in cfgs for line in missing_data(cfg)))
    raise needs.MissingFilesError(needs.message(list(wanted.values()), data, reason))


def blocked(cfg: Config, reason: str | None) -> list[str]:
    """What keeps a job from running: data, and weights if none can be fetched (for ``reason``)."""
    absent = lacking(cfg)
    return [line for line in absent if line.startswith("data: ")] or (absent if reason else [])


def program() -> list[str]:
    """What starts a job: this checkout's run.py, or the installed package."""
    script = compose.HERE.parent / "run.py"
    return [sys.executable, *([str(script)] if script.is_file() else ["-m", "dclip.cli"])]


def why(run: Run | None, log: Path, code: int) -> str:
    """Why a job failed: as its run says, else as its process ended."""
    if run and run.status.get("reason"):
        return str(run.status["reason"])
    if code < 0:
        return f"its process was killed ({signal.Signals(-code).name})"
    lines = [
        line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()
    ]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines or [f"exit code {code}"])[-1][:300]


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises ``Stopped`` in here; afterwards it is what it was."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: Any) -> None:
    raise Stopped


def yes(name: str, told: Mapping[str, str]) -> bool:
    """A word that is true or false; false where it is not there."""
    value = told.get(name, "false").lower()
    if value not in ("true", "false"):
        raise DclipError(f"{name}={told[name]} must be true or false")
    return value == "true"


def number(name: str, value: str, least: int) -> int:
    """A word that is a whole number. DclipError where it is none."""
    if not value.strip().isdigit() or int(value) < least:
        raise DclipError(f"{name}={value} must be a whole number of {least} or more")
    return int(value)
