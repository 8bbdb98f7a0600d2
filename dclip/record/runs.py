"""Finished and unfinished runs, found by what their own files say: study or sweep, configuration, state. Never by names.

Imports nothing heavy.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import OmegaConf

from dclip.errors import DclipError
from dclip.files import read_json
from dclip.record.processes import alive

DEPTH = 4  # folders below which runs are looked for


@dataclass(frozen=True)
class Run:
    """One run's folder, read when it is asked for."""

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
    def config(self) -> Any:
        """config.yaml."""
        return OmegaConf.load(self.folder / "config.yaml")

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
        """finished, failed, stopped, running, or ``killed``: said to be running, by a process that is no more."""
        state = str(self.status.get("status", "killed"))
        return "killed" if state == "running" and not alive(self.status) else state

    @property
    def reason(self) -> str:
        """Why it did not finish."""
        return (
            "its process was killed"
            if self.state == "killed"
            else str(self.status.get("reason", ""))
        )

    @cached_property
    def rows(self) -> dict[str, list[float]]:
        """rows.csv: values of an image, by metric."""
        path = self.folder / "rows.csv"
        if not path.is_file():
            return {}
        with path.open(newline="", encoding="utf-8") as stream:
            head, *lines = list(csv.reader(stream))
        return {
            name: [float(line[k]) for line in lines]
            for k, name in enumerate(head)
            if name != "image"
        }

    def value(self, source: str) -> float | str | None:
        """A number of the run: a metric, ``config.PATH``, or such divided: ``seconds_invert / images``. None if it is absent."""
        numbers = [self._single(part.strip()) for part in source.split("/")]
        if len(numbers) == 1:
            return numbers[0]
        result: float | None = None
        for number in numbers:
            if not isinstance(number, int | float) or (result is not None and number == 0):
                return None
            result = float(number) if result is None else result / number
        return result

    def _single(self, name: str) -> float | str | None:
        if name.startswith("config."):
            found = OmegaConf.select(self.config, name.removeprefix("config."))
            return (
                found
                if isinstance(found, int | float | str)
                else None
                if found is None
                else str(found)
            )
        if name.replace(".", "", 1).isdigit():
            return float(name)
        value = self.metrics.get(name)
        return value if isinstance(value, int | float) else None

    def why_absent(self, source: str) -> str:
        """Why a metric was not measured, as the run says."""
        return str(self.metrics.get(f"{source}_absent", "not measured"))

    @property
    def images(self) -> int:
        """How many images its numbers are of."""
        return int(self.metrics.get("images", self.metrics.get("count", 0)))


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """curves.jsonl by name. After a resume a step may appear twice: the later line counts."""
    curves: dict[str, dict[int, float]] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                values: dict[str, Any] = json.loads(line)
            except ValueError:  # the line that a kill cut short
                continue
            step = int(values.pop("step", 0))
            for name, value in values.items():
                curves.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def find_runs(roots: Iterable[Path]) -> list[Run]:
    """All runs in or below these folders, oldest first."""
    found: dict[Path, Run] = {}
    for root in roots:
        for folder in _folders(root, DEPTH):
            found[folder.resolve()] = Run(folder.resolve())
    return sorted(found.values(), key=lambda run: (run.folder.name, str(run.folder)))


def _folders(folder: Path, depth: int) -> Iterable[Path]:
    if (folder / "status.json").is_file():
        yield folder
    elif depth and folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink():
                yield from _folders(child, depth - 1)


def by_config(runs: Iterable[Run]) -> dict[str, Run]:
    """The run of every configuration: the newest that is finished, else the newest."""
    best: dict[str, Run] = {}
    for run in runs:
        if run.digest and (
            run.state == "finished" or best.get(run.digest, run).state != "finished"
        ):
            best[run.digest] = run
    return best


def runs_at(where: Iterable[str]) -> list[Run]:
    """Runs in or below the given folders. DclipError for a folder that is not there, or holds none."""
    for place in where:
        if not Path(place).is_dir():
            raise DclipError(
                f"runs={place} is no folder; give run folders, or folders that hold runs (outputs)"
            )
    runs = find_runs(map(Path, where))
    if not runs:
        raise DclipError(f"runs={','.join(where)} holds no runs; a run's folder has a status.json")
    return runs


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation where there are two or more."""
    return mean(values), stdev(values) if len(values) > 1 else None
