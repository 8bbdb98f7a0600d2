"""Finished and unfinished runs, found by what their own files say, never by names.

Imports nothing heavy.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import OmegaConf

from dclip.config import OPTIONS, Task
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.record.identity import canonical
from dclip.record.processes import alive

DEPTH = 4  # folders below which runs are looked for
SOURCES = "sources"  # the folder of a run's pictures before the edit
TRUTHS = "truth"  # the folder of what they truly look like edited
NOT_MEASURED = "not measured"  # why a metric is absent where a run gives no reason


@lru_cache(maxsize=256)
def _settings(path: Path, _: tuple[int, ...]) -> dict[str, Any]:
    """A file of settings as it is, read once for as long as it is the same file."""
    settings = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}


@dataclass(frozen=True)
class Run:
    """One run's folder, read on demand."""

    folder: Path

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return read_json(self.folder / "status.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml, as a run of any version has it (``identity.canonical``)."""
        path = self.folder / "config.yaml"
        about = path.stat()
        return canonical(_settings(path, (about.st_mtime_ns, about.st_size, about.st_ino)))

    @property
    def command(self) -> list[str]:
        """The words of the command that made it; empty where they were not kept."""
        return [str(word) for word in self.status.get("command") or []]

    @property
    def variant(self) -> str:
        """How a preset or experiment made it depart from what its edit's name means."""
        return str(self.status.get("variant", ""))

    @property
    def digest(self) -> str:
        """Hash of all settings that can change the result."""
        return str(self.status.get("config", ""))

    @property
    def sweep(self) -> str:
        """The study or sweep it was made for."""
        return str(self.status.get("sweep", ""))

    @property
    def state(self) -> str:
        """finished, failed, stopped, running; ``killed`` if it says running, but is gone."""
        state = str(self.status.get("status", "killed"))
        if state == "running" and not alive(self.status):
            return "killed"
        return state

    @property
    def reason(self) -> str:
        """Why it did not finish."""
        if self.state == "killed":
            return "its process was killed"
        return str(self.status.get("reason", ""))

    @cached_property
    def rows(self) -> dict[str, list[float]]:
        """rows.csv: one value an image, by metric."""
        columns = {}
        for name, values in self._table.items():
            if name != "image":
                columns[name] = list(map(float, values))
        return columns

    @property
    def image_ids(self) -> list[str]:
        """The names of the images of ``rows``; variants of one end in ``_v1``, ``_v2``."""
        return self._table.get("image", [])

    @cached_property
    def _table(self) -> dict[str, list[str]]:
        """rows.csv as it is, by column."""
        path = self.folder / "rows.csv"
        if not path.is_file():
            return {}
        with path.open(newline="", encoding="utf-8") as stream:
            head, *lines = list(csv.reader(stream))
        return {name: [line[k] for line in lines] for k, name in enumerate(head)}

    def setting(self, path: str) -> float | str | None:
        """A setting by its dotted name; None where there is none."""
        node: Any = self.config
        for key in path.split("."):
            if not isinstance(node, dict) or key not in node:
                return None
            node = node[key]
        if node is None or isinstance(node, int | float | str):
            return node
        return str(node)

    @property
    def target(self) -> str:
        """What its pictures should show, in words; empty where its task follows none."""
        option = OPTIONS["task"].get(str(self.setting("task.name")))
        if option is not None and issubclass(option, Task) and option.named_by_edit:
            return str(self.setting("edit.target") or "")
        if self.setting("guidance.kind") in (None, "none"):
            return ""
        return str(self.setting("guidance.targets") or self.setting("edit.target") or "")

    def value(self, source: str) -> float | str | None:
        """A number of the run, or None if it is absent.

        ``source`` is a metric, a setting (``config.PATH``), a file's megabytes (``file.NAME``), or
        such numbers, divided: ``seconds_invert / images``.
        """
        parts = [self._single(part.strip()) for part in source.split("/")]
        if len(parts) == 1:
            return parts[0]
        numbers = [part for part in parts if isinstance(part, int | float)]
        if len(numbers) < len(parts) or 0 in numbers[1:]:
            return None
        result = float(numbers[0])
        for number in numbers[1:]:
            result /= number
        return result

    def _single(self, name: str) -> float | str | None:
        if name.startswith("config."):
            return self.setting(name.removeprefix("config."))
        if name.startswith("file."):
            path = self.folder / name.removeprefix("file.")
            return path.stat().st_size / 1e6 if path.is_file() else None
        if name.replace(".", "", 1).isdigit():
            return float(name)
        value = self.metrics.get(name)
        return value if isinstance(value, int | float) else None

    def why_absent(self, source: str) -> str:
        """Why a metric was not measured, as the run says."""
        return str(self.metrics.get(f"{source}_absent", NOT_MEASURED))

    @property
    def images(self) -> int:
        """How many images its numbers are means of."""
        return int(self.metrics.get("images", self.metrics.get("count", 0)))


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """curves.jsonl by name. After a resume a step may appear twice: the later line counts."""
    if not path.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            values: dict[str, Any] = json.loads(line)
        except ValueError:  # a line that was cut short when the run was killed
            continue
        step = int(values.pop("step", 0))
        for name, value in values.items():
            curves.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def find_runs(roots: Iterable[Path]) -> list[Run]:
    """All runs in or below these folders, oldest first."""
    runs: dict[Path, Run] = {}
    for root in roots:
        for folder in _folders(root, DEPTH):
            runs[folder.resolve()] = Run(folder.resolve())
    return sorted(runs.values(), key=lambda run: (run.folder.name, str(run.folder)))


def _folders(folder: Path, depth: int) -> Iterable[Path]:
    if (folder / "status.json").is_file():
        yield folder
    elif depth and folder.is_dir():
        for child in sorted(folder.iterdir()):
            hidden = child.name.startswith(".")
            if child.is_dir() and not child.is_symlink() and not hidden:
                yield from _folders(child, depth - 1)


def by_config(runs: Iterable[Run]) -> dict[str, Run]:
    """The run of every configuration: the newest that is finished, else the newest."""
    best: dict[str, Run] = {}
    for run in runs:
        if not run.digest:
            continue
        earlier = best.get(run.digest)
        if earlier is None or run.state == "finished" or earlier.state != "finished":
            best[run.digest] = run
    return best


def runs_at(folders: Sequence[str]) -> list[Run]:
    """Runs in or below the given folders. DclipError where one is missing, or there are none."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise DclipError(
                f"runs={folder} is no folder; give run folders, or folders that hold runs (outputs)"
            )
    runs = find_runs(map(Path, folders))
    if not runs:
        raise DclipError(
            f"runs={','.join(folders)} holds no runs; a run's folder has a status.json"
        )
    return runs


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more."""
    if len(values) > 1:
        return mean(values), stdev(values)
    return mean(values), None
