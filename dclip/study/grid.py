"""``python run.py study=NAME``: a grid of runs that makes one table. Each job is a process of its own.

A study (``conf/study/NAME.yaml``) has these keys:

* ``title``, ``about``: what it asks;
* ``base``: settings of every job;
* ``axes``: what varies, one row a combination: a list of values of a setting, or labels with settings;
* ``grids``: several such grids of one table, each with its own ``base``, ``axes`` and a ``key`` (fixed labels);
* ``average``: what is averaged in a cell; ``seeds``: seeds of every job, averaged too;
* ``first``: runs that others build on, by name: ``{NAME}`` in a setting is that run's folder, and ``{NAME}/FILE`` a
  file in it. ``adapter: SETTINGS`` is short for one fine-tuning whose edit every row applies;
* ``columns``: what is printed: a metric of the runs, ``config.PATH``, ``file.NAME`` (megabytes), or such, divided.
  ``COLUMN / baseline``: a column's value over that of the row that ``baseline`` names (labels of the row);
* ``paper``, ``ours``: a table of ``experiments/paper.yaml`` beside which ours stands, and our labels in it;
* ``split_by``: one table a value of this label;
* ``figure``: columns to draw, ``false``, or ``{x: COLUMN, y: COLUMN, panels: LABEL, lines: [...]}``;
* ``pictures``: ``true``, or ``{of: before_after or samples, each: LABEL}`` for one picture a value of a label.

Jobs are runs as any other. They are found again by their configuration, so what is finished is not repeated, in this
study or in another one. Imports nothing heavy: the jobs do the work.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dclip.errors import DclipError
from dclip.study.document import (
    QUIET,
    Settings,
    check_keys,
    columns_of,
    merged,
    read_document,
    settings_of,
)

GRID_KEYS = {"key", "base", "axes", "average", "adapter", "first"}

TEXT_KEYS = {"title", "about", "paper", "ours", "seeds", "columns", "baseline"}

KEYS = GRID_KEYS | TEXT_KEYS | {"grids", "split_by", "figure", "pictures"}

ADAPTER = "adapter"  # name of the run that ``adapter:`` means

Key = tuple[tuple[str, str], ...]  # names and labels of a row, in order


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        row: the table's row that it belongs to.
        averaged: labels of what is averaged in the row's cells.
        settings: as typed; ``{NAME}`` stands for the folder of a run in ``first``.
        first: settings of the runs that it builds on, by name.
    """

    row: Key
    averaged: tuple[str, ...]
    seed: int
    settings: Settings
    first: tuple[tuple[str, Settings], ...] = ()

    @property
    def label(self) -> str:
        """Its name for people."""
        labels = [f"{name}={label}" for name, label in self.row]
        return " ".join([*labels, *self.averaged, f"seed={self.seed}"])


@dataclass(frozen=True)
class Pictures:
    """Pictures that are put together: of every row, or one sheet for each value of the label ``each``."""

    of: str = "before_after"
    each: str = ""


@dataclass(frozen=True)
class Scatter:
    """A figure of one column against another: a panel a value of the label ``panels``, a line a value of ``lines``.

    ``lines`` are labels, or columns with texts.
    """

    x: str
    y: str
    panels: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A table and the grid that makes it."""

    name: str
    title: str
    columns: dict[str, str]
    jobs: tuple[Job, ...]
    about: str = ""
    paper: str | None = None
    ours: dict[str, str] = field(default_factory=dict)
    baseline: dict[str, str] = field(default_factory=dict)
    split_by: str = ""
    figure: tuple[str, ...] | Scatter | None = ()
    pictures: Pictures | None = None

    @property
    def rows(self) -> list[Key]:
        """Rows of the table, in the grid's order."""
        return list(dict.fromkeys(job.row for job in self.jobs))


# ----------------------------------------------------------------------------------- reading


def read_study(name: str, more: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
    """A study by its name, or by the path of a file of one's own, with settings that are added to every job.

    DclipError for a file that cannot be one.
    """
    path, content = read_document(name)
    check_keys(content, KEYS, path.name, "study")
    grids = content.get("grids")
    if grids is None:
        own = GRID_KEYS - {"base", "first"}  # these two are of every grid
        grids = [{key: value for key, value in content.items() if key in own}]
    for grid in grids:
        check_keys(grid, GRID_KEYS, f"{path.name}: a grid", "grid of a study")
    base = (*QUIET, *settings_of(content.get("base", [])))
    first = dict(content.get("first", {}))
    every = tuple(seeds or content.get("seeds", [0]))
    jobs: list[Job] = []
    for grid in grids:
        jobs += _jobs(
            {**grid, "first": {**first, **grid.get("first", {})}}, base, tuple(more), every
        )
    return Study(
        name=path.stem,
        title=content["title"],
        jobs=tuple(jobs),
        columns=columns_of(content["columns"]),
        about=str(content.get("about", "")).strip(),
        paper=content.get("paper"),
        ours=_labels(content.get("ours", {})),
        baseline=_labels(content.get("baseline", {})),
        split_by=content.get("split_by", ""),
        figure=_figure(content.get("figure", ()), path.name),
        pictures=_pictures(content.get("pictures", False), path.name),
    )


def _labels(entry: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(label) for name, label in entry.items()}


def _figure(entry: Any, where: str) -> tuple[str, ...] | Scatter | None:
    if entry is False:
        return None
    if not isinstance(entry, dict):
        return tuple(entry)
    keys = {"x", "y", "panels", "lines"}
    if set(entry) != keys:
        raise DclipError(f"{where}: figure needs {', '.join(sorted(keys))}, or a list of columns")
    return Scatter(entry["x"], entry["y"], entry["panels"], tuple(entry["lines"]))


def _pictures(entry: Any, where: str) -> Pictures | None:
    if isinstance(entry, bool):
        return Pictures() if entry else None
    check_keys(entry, {"of", "each"}, f"{where}: pictures", "study")
    pictures = Pictures(**entry)
    if pictures.of not in ("before_after", "samples"):
        raise DclipError(f"{where}: pictures of {pictures.of}; choose before_after or samples")
    return pictures


Value = tuple[str, str, Settings]  # of an axis: its name, label and settings


def _axis(name: str, entry: Any) -> list[Value]:
    """Every value of an axis: a list holds values of the setting ``name``, a mapping labels with settings."""
    if isinstance(entry, dict):
        return [(name, str(label), settings_of(settings)) for label, settings in entry.items()]
    short = name.rsplit(".", 1)[-1]
    return [(short, str(value), (f"{name}={value}",)) for value in entry]


def _jobs(
    grid: Mapping[str, Any], common: Settings, more: Settings, seeds: Sequence[int]
) -> Iterator[Job]:
    key = tuple(_labels(grid.get("key", {})).items())
    axes = [_axis(name, entry) for name, entry in grid.get("axes", {}).items()]
    averaged = [_axis(name, entry) for name, entry in grid.get("average", {}).items()]
    base = (*common, *settings_of(grid.get("base", [])))
    first = {name: settings_of(entry) for name, entry in grid["first"].items()}
    last: Settings = ()
    if "adapter" in grid:
        first[ADAPTER] = settings_of(grid["adapter"])
        last = (f"edit.adapter={{{ADAPTER}}}",)
    for point, members in itertools.product(itertools.product(*axes), itertools.product(*averaged)):
        row = (*key, *((name, label) for name, label, _ in point))
        labels = tuple(label for _, label, _ in members)
        chosen = _chosen([*point, *members])
        for seed in seeds:
            with_seed = (f"seed={seed}",)
            own = merged(base, chosen, with_seed, more, last)
            runs: list[tuple[str, Settings]] = []
            for name, settings in first.items():
                if _names(name, own):
                    runs.append((name, merged(common, with_seed, settings, more)))
            yield Job(row, labels, seed, own, tuple(runs))


def _chosen(values: Sequence[Value]) -> Settings:
    return tuple(itertools.chain.from_iterable(settings for _, _, settings in values))


def _names(name: str, settings: Settings) -> bool:
    """Whether some setting stands on the run of this name."""
    return any(f"{{{name}}}" in setting for setting in settings)


# ------------------------------------------------------------------------------- a part of it


def choose_rows(study: Study, text: str) -> set[Key]:
    """The rows that ``rows=LABEL,LABEL`` means. DclipError for a label that no row has.

    Of every part of the rows' keys of which some labels are named, only these are chosen.
    Labels with a comma are written in double quotes.
    """
    labels = {label.strip() for label in next(csv.reader([text], skipinitialspace=True))}
    known: dict[str, set[str]] = {}
    for row in study.rows:
        for name, label in row:
            known.setdefault(name, set()).add(label)
    unknown = labels - set().union(*known.values())
    if unknown or not labels:
        choices = "; ".join(f"{name}: {', '.join(sorted(of))}" for name, of in known.items())
        raise DclipError(f"rows={text}: no row is called {', '.join(sorted(unknown))}; {choices}")
    wanted = {name: of & labels for name, of in known.items() if of & labels}
    return {row for row in study.rows if _matches(dict(row), wanted)}


def _matches(row: Mapping[str, str], wanted: Mapping[str, set[str]]) -> bool:
    return all(row.get(name) in labels for name, labels in wanted.items())
