"""``python run.py study=NAME``: a grid of runs that makes one table. Each job is its own process.

A study (``conf/study/NAME.yaml``) has these keys:

* ``title``, ``about``: what it asks;
* ``base``: settings of every job;
* ``axes``: what varies, one row a combination: a list of values of a setting, or labels with
  settings;
* ``grids``: several such grids of one table, each with its own ``base``, ``axes`` and ``key``
  (fixed labels);
* ``average``: what is averaged in a cell; ``seeds``: seeds of every job, averaged too;
* ``first``: runs that others build on, by name: ``{NAME}`` in a setting is that run's folder, and
  ``{NAME}/FILE`` a file in it. ``adapter: SETTINGS`` is short for one fine-tuning whose edit every
  row applies;
* ``columns``: what is printed: a metric of the runs, ``config.PATH``, ``file.NAME`` (megabytes), or
  such, divided. ``COLUMN / baseline``: a column's value over that of the row that ``baseline``
  names by its labels;
* ``paper``, ``ours``: a table of ``experiments/paper.yaml``, and our labels in it;
* ``split_by``: one table a value of this label;
* ``figure``: columns to draw, ``false``, or ``{x: COLUMN, y: COLUMN, panels: LABEL, lines: [..]}``;
* ``pictures``: ``true``, or ``{of: before_after or samples, each: LABEL}``;
* ``leaderboard``: ``true`` scores all rows as results of ToonFaces-CF, one line a ``method``;
* ``claims``: sentences of a paper that rows confirm or refute. Each has a ``claim`` (the sentence),
  its ``source``, the labels of the ``rows`` of which it speaks and of those (or the number) they
  are compared ``against``, a ``metric``, and what is ``expected`` of it: ``more``, ``less``, or
  within a ``margin`` ``no_less``, ``no_more`` or the ``same``; ``of``: labels of both.

Jobs are runs as any other. They are found again by their configuration, so what is finished is not
repeated, in this study or in another one. Imports nothing heavy: the jobs do the work.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dclip.errors import DclipError, need
from dclip.study.claims import Claim, check_claims, labels_in, read_claims
from dclip.study.claims import Key as Key
from dclip.study.document import (
    QUIET,
    Settings,
    check_document,
    check_keys,
    columns_of,
    merged,
    read_document,
    settings_of,
)

GRID_KEYS = {"key", "base", "axes", "average", "adapter", "first"}

TEXT_KEYS = {"title", "about", "paper", "ours", "seeds", "columns", "baseline"}

KEYS = GRID_KEYS | TEXT_KEYS | {"grids", "split_by", "figure", "pictures", "leaderboard", "claims"}

ADAPTER = "adapter"  # name of the run that ``adapter:`` means


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
        return " ".join([*map("=".join, self.row), *self.averaged, f"seed={self.seed}"])


@dataclass(frozen=True)
class Pictures:
    """Pictures of all rows on one sheet, or on a sheet for each value of the label ``each``."""

    of: str = "before_after"
    each: str = ""


@dataclass(frozen=True)
class Scatter:
    """A figure of one column against another.

    Attributes:
        panels: the label that has a panel for each value.
        lines: labels, or columns with texts; points with the same ones are joined.
    """

    x: str
    y: str
    panels: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A table and the grid that makes it.

    Attributes:
        words: of the command that runs it.
    """

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
    leaderboard: bool = False
    claims: tuple[Claim, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """The seed of jobs in which nothing is random."""
        return self.jobs[0].seed

    @property
    def rows(self) -> list[Key]:
        """Rows of the table, in the grid's order."""
        return list(dict.fromkeys(job.row for job in self.jobs))


# ----------------------------------------------------------------------------------- reading


def read_study(name: str, more: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
    """A study by its name, or by the path of a file of one's own.

    ``more`` settings are added to every job. DclipError for a file that cannot be a study.
    """
    path, content = read_document(name)
    check_document(content, KEYS, path.name, "study")
    grids = content.get("grids")
    if grids is None:
        grids = [_only_grid(content)]
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
    study = Study(
        name=path.stem,
        title=content["title"],
        jobs=tuple(jobs),
        columns=columns_of(content["columns"]),
        about=str(content.get("about", "")).strip(),
        paper=content.get("paper"),
        ours=labels_in(content.get("ours", {})),
        baseline=labels_in(content.get("baseline", {})),
        split_by=content.get("split_by", ""),
        figure=_figure(content.get("figure", ()), path.name),
        pictures=_pictures(content.get("pictures", False), path.name),
        leaderboard=bool(content.get("leaderboard", False)),
        claims=read_claims(content.get("claims", []), path.name),
        words=_words(name, more, seeds),
    )
    check_claims(study.claims, study.rows)
    return study


def _words(name: str, more: Sequence[str], seeds: Sequence[int]) -> tuple[str, ...]:
    """The command line of a study, as it is typed."""
    words = [f"study={name}"]
    if seeds:
        words.append(f"seeds={','.join(map(str, seeds))}")
    return (*words, *more)


def _only_grid(content: Mapping[str, Any]) -> dict[str, Any]:
    """The one grid of a file without ``grids``; base and first are of every grid anyway."""
    grid = {}
    for key in GRID_KEYS - {"base", "first"}:
        if key in content:
            grid[key] = content[key]
    return grid


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


class Value(NamedTuple):
    """One value of an axis."""

    name: str
    label: str
    settings: Settings


def _axes(entries: Mapping[str, Any]) -> list[list[Value]]:
    """The values of every axis: from a list of a setting's values, or labels with settings."""
    axes = []
    for name, entry in entries.items():
        values = []
        if isinstance(entry, dict):
            for label, settings in entry.items():
                values.append(Value(name, str(label), settings_of(settings)))
        elif isinstance(entry, list):
            for value in entry:
                short = name.rsplit(".", 1)[-1]
                values.append(Value(short, str(value), (f"{name}={value}",)))
        need(bool(values), f"{name} needs a list of values, or labels with settings")
        axes.append(values)
    return axes


def _jobs(
    grid: Mapping[str, Any], common: Settings, more: Settings, seeds: Sequence[int]
) -> Iterator[Job]:
    key = tuple(labels_in(grid.get("key", {})).items())
    axes, averaged = _axes(grid.get("axes", {})), _axes(grid.get("average", {}))
    base = (*common, *settings_of(grid.get("base", [])))
    first = {name: settings_of(entry) for name, entry in grid["first"].items()}
    last: Settings = ()
    if "adapter" in grid:
        first[ADAPTER] = settings_of(grid["adapter"])
        last = (f"edit.adapter={{{ADAPTER}}}",)
    for values in itertools.product(*axes, *averaged):
        labels = [(value.name, value.label) for value in values]
        settings = [value.settings for value in values]
        row = (*key, *labels[: len(axes)])
        members = tuple(label for _, label in labels[len(axes) :])
        for seed in seeds:
            with_seed = (f"seed={seed}",)
            own = merged(base, *settings, with_seed, more, last)
            runs: list[tuple[str, Settings]] = []
            for name, of_run in first.items():
                if f"{{{name}}}" in " ".join(own):
                    runs.append((name, merged(common, with_seed, of_run, more)))
            yield Job(row, members, seed, own, tuple(runs))


# ------------------------------------------------------------------------------- a part of it


def choose_rows(study: Study, text: str) -> set[Key]:
    """The rows that ``rows=LABEL,LABEL`` means. DclipError where no row is meant.

    Of every name of which some labels are given, only these are chosen. Labels with a comma are
    written in double quotes.
    """
    names: dict[str, set[str]] = {}  # that have a label
    for row in study.rows:
        for name, label in row:
            names.setdefault(label, set()).add(name)
    given = next(csv.reader([text], skipinitialspace=True)) or [""]
    unknown = [label for label in given if label not in names]
    if unknown:
        written = [f'"{label}"' if "," in label else label for label in names]
        raise DclipError(
            f"rows={text}: no row is called {', '.join(unknown) or 'nothing'}; "
            f"there are: {', '.join(written)}"
        )
    chosen = set(study.rows)
    for pairs in _alternatives(given, names):
        chosen = {row for row in chosen if pairs & set(row)}
    if not chosen:
        raise DclipError(f"rows={text}: no row has labels of all these kinds; give fewer")
    return chosen


def _alternatives(
    labels: Sequence[str], names: Mapping[str, set[str]]
) -> list[set[tuple[str, str]]]:
    """Names with given labels, put together where they have one name: a row needs one of each."""
    groups: list[set[tuple[str, str]]] = []
    for label in labels:
        mine = {(name, label) for name in names[label]}
        others = []
        for group in groups:
            if names[label] & dict(group).keys():
                mine |= group
            else:
                others.append(group)
        groups = [*others, mine]
    return groups
