"""``python run.py study=tune_NAME``: a search for good settings. Each trial is an ordinary run.

A search (``conf/study/tune_NAME.yaml``) says what all trials have in common (``base``), what is
tried (``space``), what is wanted (``goal``), how many ``trials`` there are, and what else is shown
(``columns``). The goal is a metric of the finished run, or a value that runs write after every
epoch (``val_...``); then a trial that is worse than half of the earlier ones were at its epoch is
stopped there (``prune``).

Optuna proposes the settings. What it knows is in one journal file that all workers, commands and
machines with the same folder share. A trial whose command was stopped or killed is taken up by the
next one, in its own folder and from its checkpoint; so one worker finds the same, interrupted or
not.

Imports nothing heavy but Optuna: the jobs do the work.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dclip.errors import DclipError
from dclip.metrics.names import higher_is_better
from dclip.models import fetch
from dclip.prepare.compose import configured
from dclip.record.runs import Run, read_curves
from dclip.runtime.typed import typed
from dclip.study.document import (
    QUIET,
    Settings,
    check_document,
    columns_of,
    merged,
    read_document,
    settings_of,
)
from dclip.study.progress import refuse, unobtainable
from dclip.study.sources import check_columns

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KEYS = {"title", "about", "base", "space", "goal", "direction", "trials", "prune", "columns"}


@dataclass(frozen=True)
class Range:
    """Numbers between two limits, both possible: whole ones if the limits (and the step) are."""

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        impossible = self.log and (self.low <= 0 or self.step is not None)
        if impossible or not self.low < self.high:
            raise DclipError(
                f"space: {self.name} needs low < high, and with log a low above 0 and no step"
            )

    def settings(self, value: Any) -> Settings:
        """A value as a setting."""
        return (f"{self.name}={self.label(value)}",)

    def label(self, value: Any) -> str:
        """A value in a table."""
        return str(value) if isinstance(value, int) else f"{value:.4g}"

    @property
    def ends(self) -> tuple[float, float]:
        """The values that must be possible for all between them to be."""
        return self.low, self.high

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        step = self.step or 1
        if isinstance(self.low, int) and isinstance(self.high, int) and isinstance(step, int):
            return IntDistribution(self.low, self.high, self.log, step)
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def __str__(self) -> str:
        text = f"{self.low:g} to {self.high:g}"
        if self.log:
            return f"{text}, logarithmic"
        return f"{text}, step {self.step:g}" if self.step else text


@dataclass(frozen=True)
class Choice:
    """One of several: labels with their settings."""

    name: str
    options: Mapping[str, Settings]
    log = False

    def settings(self, value: Any) -> Settings:
        """A label's settings."""
        return self.options[value]

    def label(self, value: Any) -> str:
        """A label in a table."""
        return str(value)

    @property
    def ends(self) -> tuple[str, ...]:
        """All labels: each must be possible."""
        return tuple(self.options)

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(self.options))

    def __str__(self) -> str:
        return ", ".join(self.options)


Axis = Range | Choice


@dataclass(frozen=True)
class Search:
    """What is searched, and for what; ``words``: of the command that runs it."""

    name: str
    title: str
    base: Settings
    space: Mapping[str, Axis]
    goal: str
    maximize: bool
    trials: int
    columns: dict[str, str]
    about: str = ""
    prune: bool = True
    words: tuple[str, ...] = ()

    @property
    def by_epoch(self) -> bool:
        """Whether runs report the goal while they run."""
        return self.goal.startswith("val_")

    @cached_property
    def digest(self) -> str:
        """Changes with all that makes other trials: one journal can hold several searches."""
        space: dict[str, Any] = {}
        for name, axis in self.space.items():
            space[name] = axis.options if isinstance(axis, Choice) else str(axis)
        parts = [self.base, space, self.goal, self.maximize, self.prune]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]

    @property
    def corner(self) -> dict[str, Any]:
        """The first possible value of everything that is tried."""
        return {name: axis.ends[0] for name, axis in self.space.items()}

    def chosen(self, params: Mapping[str, Any]) -> Settings:
        """What a trial tries, as settings."""
        settings: list[str] = []
        for name, axis in self.space.items():
            settings += axis.settings(params[name])
        return tuple(settings)

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """All settings of a trial."""
        return merged(self.base, self.chosen(params))

    def value(self, run: Run) -> float | None:
        """The goal of a finished run; None where it has none."""
        value: float | str | None = None
        if not self.by_epoch:
            value = run.value(self.goal)
        elif reports := self.reports(run):
            value = reports[-1]
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        return None

    def reports(self, run: Run) -> list[float]:
        """The goal after every epoch so far."""
        curve = read_curves(run.folder / "curves.jsonl").get(self.goal, [])
        return [value for _, value in curve]


# ----------------------------------------------------------------------------------- reading


def read_search(name: str, more: Sequence[str] = (), trials: int | None = None) -> Search:
    """A search from its file; ``more`` settings are added to every trial.

    DclipError for a file that cannot be a search.
    """
    path, content = read_document(name)
    check_document(content, KEYS, path.name, "search")
    space = content["space"]
    if "goal" not in content:
        raise DclipError(
            f"{path.name} has no goal: a metric of a run, or a val_ value that runs report "
            "after every epoch"
        )
    for setting in more:
        told = setting.split("=")[0]
        if told in space:
            raise DclipError(
                f"{told} is what {path.stem} searches; remove it, or take it from the space of a "
                "file of your own"
            )
    goal = str(content["goal"])
    return Search(
        name=path.stem,
        title=str(content["title"]),
        base=(*QUIET, *settings_of(content.get("base", [])), *more),
        space={name: _axis(name, axis) for name, axis in space.items()},
        goal=goal,
        maximize=_maximized(content.get("direction"), goal, path.name),
        trials=trials or int(content.get("trials", 40)),
        columns=columns_of(content["columns"]),
        about=str(content.get("about", "")).strip(),
        prune=bool(content.get("prune", True)),
        words=_words(name, more, trials),
    )


def _words(name: str, more: Sequence[str], trials: int | None) -> tuple[str, ...]:
    """The command line of a search, as it is typed."""
    words = [f"study={name}"]
    if trials:
        words.append(f"trials={trials}")
    return (*words, *more)


def _maximized(direction: str | None, goal: str, where: str) -> bool:
    known = higher_is_better(goal.removeprefix("val_"))
    if direction is None and known is not None:
        return known
    if direction not in ("maximize", "minimize"):
        raise DclipError(f"{where}: which way is {goal} better? direction: maximize or minimize")
    return direction == "maximize"


def _axis(name: str, entry: Any) -> Axis:
    if isinstance(entry, list):
        return Choice(name, {str(value): (f"{name}={value}",) for value in entry})
    if isinstance(entry, dict) and "low" not in entry:
        options = {str(label): settings_of(settings) for label, settings in entry.items()}
        return Choice(name, options)
    keys = {"low", "high", "step", "log"}
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= keys:
        raise DclipError(
            f"space: {name} needs low and high (with step, or log: true), a list of values, "
            "or labels with settings"
        )
    return Range(name, **entry)


def check(search: Search) -> None:
    """Refuse a search of which a corner is impossible, or for which something is missing."""
    corner = search.corner
    cfg = configured(search.settings(corner))
    for name, axis in search.space.items():
        for end in axis.ends[1:]:
            configured(search.settings({**corner, name: end}))
    reported = {} if search.by_epoch else {"goal": search.goal}
    check_columns({**search.columns, **reported}, [cfg])
    offline = fetch.offline_reason()
    if unobtainable(cfg, offline):
        refuse([cfg], offline)


# -------------------------------------------------------------------------------------- text


def command(search: Search, params: Mapping[str, Any]) -> str:
    """The settings of a trial as a command line."""
    words = []
    for setting in search.settings(params):
        if setting not in QUIET:
            words.append(setting)
    return typed(words)
