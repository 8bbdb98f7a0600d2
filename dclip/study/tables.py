"""Runs as tables: ours beside the paper's, as Markdown, CSV and LaTeX. Nothing is typed by hand.

A cell is the mean over seeds (and over what the study averages); ``-`` where nothing was run or
measured. The spread is the standard deviation over seeds where there are several, else over images.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import filterfalse
from math import isnan
from pathlib import Path
from statistics import mean

from dclip.files import atomic_save, write_text
from dclip.metrics.names import higher_is_better, interval
from dclip.pages.markdown import table_line
from dclip.record.runs import Run, spread


@dataclass(frozen=True)
class Cell:
    """One number of ours and the paper's; texts where a column holds settings.

    ``interval``: of a single run's number that has no spread (KID).
    """

    value: float | str | None = None
    std: float | None = None
    paper: float | str | None = None
    interval: tuple[float, float] | None = None


@dataclass
class Row:
    """A line of a table.

    Attributes:
        state: why there are no numbers of ours (``failed``), else empty.
        origin: machines and revisions behind the numbers.
        once: nothing in it is random, so that one seed says all.
    """

    key: dict[str, str]
    cells: dict[str, Cell]
    n: int = 0
    seeds: int = 0
    state: str = ""
    origin: str = ""
    once: bool = False

    @property
    def label(self) -> str:
        """The row's name for people."""
        return labelled(self.key.items())

    def labels(self, names: Iterable[str]) -> tuple[str, ...]:
        """Its labels of these names; empty texts where it has none."""
        return tuple(self.key.get(name, "") for name in names)

    def has(self, column: str) -> bool:
        """Whether something of ours stands in this column."""
        return self.cells[column].value is not None

    @property
    def has_numbers(self) -> bool:
        """Whether anything of ours is in it."""
        return any(map(self.has, self.cells))


@dataclass
class Table:
    """Rows, and what has to be said about them.

    Attributes:
        names: of the rows' labels.
        better: whether more is better, for columns that are no metrics.
        lead: how many labels come before the numbers, the others after them; None: all.
    """

    title: str
    names: list[str]
    columns: list[str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    split_by: str = ""
    better: dict[str, bool] = field(default_factory=dict)
    lead: int | None = None

    def column(self, name: str) -> list[Cell]:
        """The cells of a column."""
        return [row.cells[name] for row in self.rows]

    @property
    def papers(self) -> list[str]:
        """Columns for which the paper has numbers."""
        return [name for name in self.columns if any(map(_has_paper, self.column(name)))]

    @property
    def intervals(self) -> list[str]:
        """Columns in which some cell has an interval."""
        return [name for name in self.columns if any(map(_has_ends, self.column(name)))]

    def note(self, *notes: str) -> None:
        """Add notes that are not there yet."""
        self.notes = list(dict.fromkeys([*self.notes, *notes]))

    def note_spread(self, of: str) -> None:
        """Say what ± means, where a cell has it."""
        over: dict[str, None] = {}
        for row in self.rows:
            if {cell.std for cell in row.cells.values()} - {None}:
                over["seeds" if row.seeds > 1 else "images"] = None
        if len(over) == 2:
            over = {"seeds; where one seed was run, over images": None}
        for what in over:
            self.note(f"±: standard deviation over {what}; n: images of one {of}")
        if self.intervals:
            self.note("[low, high]: 95 % bootstrap interval over images")


def _has_ends(cell: Cell) -> bool:
    return cell.interval is not None and cell.std is None


def labelled(labels: Iterable[tuple[str, str]]) -> str:
    """Names and labels for people."""
    return " ".join(map("=".join, labels))


def _has_paper(cell: Cell) -> bool:
    return cell.paper is not None


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of dotted names, where they are different; of GROUP.name the group."""
    last = [name.removesuffix(".name").rsplit(".", 1)[-1] for name in names]
    short = []
    for name, end in zip(names, last, strict=True):
        short.append(end if last.count(end) == 1 else name)
    return short


# --------------------------------------------------------------------------------- from runs


def mean_of(runs: Sequence[Run], source: str) -> float | str | None:
    """Mean over runs; the text where all have the same; None if one lacks it."""
    numbers: list[float] = []
    texts: set[str] = set()
    for run in runs:
        value = run.value(source)
        if value is None:
            return None
        if isinstance(value, int | float):
            numbers.append(value)
        texts.add(str(value))
    if not runs:
        return None
    if len(numbers) == len(runs):
        return float(mean(numbers))
    return texts.pop() if len(texts) == 1 else "several"


def cell_of(seeds: Sequence[Sequence[Run]], source: str) -> Cell:
    """A cell from the runs of every seed."""
    numbers: list[float] = []
    text: str | None = None
    for runs in seeds:
        mean_value = mean_of(runs, source)
        if isinstance(mean_value, float):
            numbers.append(mean_value)
        else:
            text = text or mean_value
    if not numbers or len(numbers) < len(seeds):
        return Cell(text)
    value, over_seeds = spread(numbers)
    if len(numbers) > 1:
        return Cell(value, over_seeds)
    images: list[float] = []
    for run in seeds[0]:
        images += filterfalse(isnan, run.rows.get(source, []))  # nan: it means nothing for an image
    if images:
        return Cell(value, spread(images)[1])
    alone = seeds[0][0].metrics if len(seeds[0]) == 1 else {}
    return Cell(value, interval=interval(source, alone))


def origin_of(runs: Sequence[Run]) -> str:
    """Machines and revisions behind runs."""
    machines: dict[str, None] = {}
    revisions: dict[str, None] = {}
    for run in runs:
        environment = run.status.get("environment", {})
        cores = f"{environment.get('cpus')} CPU cores ({environment.get('threads')} used)"
        machines[str(environment.get("gpu") or cores)] = None
        revisions[str(environment.get("git") or "unknown")] = None
    return f"{', '.join(machines)}; revision {', '.join(revisions)}"


def ran_on(runs: Sequence[Run]) -> str:
    """Number, time, machines and revisions of runs, in one line."""
    seconds = 0.0
    for run in runs:
        seconds += float(run.status.get("seconds", 0))
    return f"{len(runs)} runs, {seconds / 60:.1f} minutes in all, on {origin_of(runs)}"


# ----------------------------------------------------------------------------------- as text


def number(value: float | str | None) -> str:
    """A value for people; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def cell_text(row: Row, column: str) -> str:
    """Ours: mean and spread, ``-``, or why there is none."""
    cell = row.cells[column]
    if cell.value is None:
        return row.state or "-"
    if cell.std is not None:
        return f"{number(cell.value)} ±{cell.std:.2g}"
    if cell.interval is not None:
        low, high = map(number, cell.interval)
        return f"{number(cell.value)} [{low}, {high}]"
    return number(cell.value)


def titled(column: str, better: bool | None = None) -> str:
    """A column's title; an arrow says which way is better (``better`` where it is no metric)."""
    known = higher_is_better(column)
    if known is None:
        known = better
    return f"{column}{ARROWS[known]}"


ARROWS = {True: " ↑", False: " ↓", None: ""}


def header_line(table: Table) -> list[str]:
    """Titles of all columns."""
    titles = []
    for column in table.columns:
        titles.append(titled(column, table.better.get(column)))
        if column in table.papers:
            titles.append(f"{column}, paper")
    return _arranged(table, table.names, ["n", "seeds"], titles)


def _arranged(
    table: Table, labels: Sequence[str], counts: Sequence[str], numbers: Sequence[str]
) -> list[str]:
    """A line's parts in the table's order."""
    if table.lead is None:
        return [*labels, *counts, *numbers]
    return [*labels[: table.lead], *numbers, *labels[table.lead :], *counts]


def lines(table: Table) -> list[list[str]]:
    """The table's body as texts."""
    return [_line(table, row) for row in table.rows]


def _line(table: Table, row: Row) -> list[str]:
    numbers = []
    for column in table.columns:
        numbers.append(cell_text(row, column))
        if column in table.papers:
            numbers.append(number(row.cells[column].paper))
    counts = [str(row.n or "-"), str(row.seeds or "-")]
    return _arranged(table, row.labels(table.names), counts, numbers)


# ------------------------------------------------------------------------------------- files


def parts(table: Table) -> Iterator[tuple[str, Table]]:
    """One table a value of ``split_by``, each with the labels and columns that its rows have."""
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(row.key.get(table.split_by, ""), []).append(row)
    for label, rows in groups.items():
        names: dict[str, None] = {}
        columns: set[str] = set()
        for row in rows:
            names |= dict.fromkeys(row.key)
            columns |= set(filter(row.has, table.columns))
        names.pop(table.split_by, None)
        shown = sorted(columns, key=table.columns.index)
        yield label, replace(table, title=label, names=list(names), columns=shown, rows=rows)


def markdown(table: Table) -> str:
    """As Markdown, with its notes."""
    blocks = [f"# {table.title}"]
    if table.split_by:
        for label, part in parts(table):
            blocks += [f"## {label}", _markdown_body(part)]
    else:
        blocks.append(_markdown_body(table))
    blocks.append("\n".join(map("- {}".format, table.notes)))
    return "\n\n".join(blocks) + "\n"


def _markdown_body(table: Table) -> str:
    titles = header_line(table)
    rule = "|" + "---|" * len(titles)
    return "\n".join([table_line(titles), rule, *map(table_line, lines(table))])


def write_csv(table: Table, path: Path) -> None:
    """As CSV: numbers in full, with the mean, the spread and the paper's; the origin last.

    Columns with an interval have its ends, too.
    """
    titles = [*table.names, "n", "seeds", "state"]
    for column in table.columns:
        titles += [column, f"{column}_std", f"{column}_paper"]
        if column in table.intervals:
            titles += [f"{column}_low", f"{column}_high"]
    titles.append("origin")

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(titles)
            for row in table.rows:
                writer.writerow(_csv_line(table, row))

    atomic_save(path, write)


def _csv_line(table: Table, row: Row) -> list[float | str]:
    line: list[float | str] = [*row.labels(table.names), row.n, row.seeds, row.state]
    for column in table.columns:
        cell = row.cells[column]
        values = [cell.value, cell.std, cell.paper]
        if column in table.intervals:
            values += cell.interval or (None, None)
        line += ["" if value is None else value for value in values]
    return [*line, row.origin]


def read_csv(path: Path, table: Table) -> list[Row]:
    """The rows of a file that ``write_csv`` wrote of an earlier table with these labels."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [_csv_row(table, line) for line in csv.DictReader(stream)]


def _csv_row(table: Table, line: dict[str, str]) -> Row:
    cells = {}
    for column in table.columns:
        value, std, low, high = (
            _value(line.get(f"{column}{end}")) for end in ("", "_std", "_low", "_high")
        )
        interval = (low, high) if isinstance(low, float) and isinstance(high, float) else None
        spread = std if isinstance(std, float) else None
        cells[column] = Cell(value, spread, interval=interval)
    key = {name: line[name] for name in table.names if line.get(name)}
    n, seeds = int(line.get("n") or 0), int(line.get("seeds") or 0)
    return Row(key, cells, n, seeds, line.get("state", ""), line.get("origin") or "")


def _value(text: str | None) -> float | str | None:
    """What stands in a cell of a CSV file."""
    if not text or text == "-":
        return None
    try:
        return float(text)
    except ValueError:
        return text


# characters that LaTeX reads as commands, and those that it lacks
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "→": r"$\rightarrow$",
        "×": r"$\times$",
    }
)


def tex_text(text: str) -> str:
    """A text as LaTeX."""
    return text.translate(_TEX)


def latex(table: Table) -> str:
    """As a LaTeX tabular (booktabs). No best is marked: cells differ in what they compare."""
    titles = header_line(table)
    numbers = len(titles) - len(table.names) - 2
    align = "".join(_arranged(table, ["l"] * len(table.names), ["r", "r"], ["r"] * numbers))
    text = [
        *map("% {}".format, [table.title, *table.notes]),
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _latex_line(titles),
        r"\midrule",
        *map(_latex_line, lines(table)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(text) + "\n"


def _latex_line(texts: Iterable[str]) -> str:
    return rf"{' & '.join(map(tex_text, texts))} \\"


def write_texts(table: Table, folder: Path) -> Path:
    """Write table.md, table.csv and table.tex; returns the Markdown's path."""
    path = folder / "table.md"
    write_text(path, markdown(table))
    write_text(folder / "table.tex", latex(table))
    write_csv(table, folder / "table.csv")
    return path
