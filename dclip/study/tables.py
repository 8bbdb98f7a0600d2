"""Runs as tables and figures: ours beside the paper's, as Markdown, CSV, LaTeX and a picture. All generated, nothing typed.

A cell is the mean over seeds (and over what the study averages); ``-`` where nothing was run or measured. The spread is the
standard deviation over seeds where there are several, else over images.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from dclip.files import atomic_save
from dclip.metrics.names import HIGHER_IS_BETTER
from dclip.record.runs import Run, spread

if TYPE_CHECKING:
    from dclip.study.grid import Board, Job

MOST_PANELS = 4  # metrics in one figure


ARROWS = {True: " ↑", False: " ↓"}


Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cell:
    """One number of ours and the paper's; texts where a column holds settings."""

    value: float | str | None = None
    std: float | None = None
    paper: float | str | None = None


@dataclass
class Row:
    """A line of a table. ``state``: why there are no numbers of ours (``failed``), else empty."""

    key: dict[str, str]
    cells: dict[str, Cell]
    n: int = 0
    seeds: int = 0
    state: str = ""


@dataclass
class Table:
    """Rows, and what has to be said about them."""

    title: str
    names: list[str]
    columns: list[str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    by_seeds: bool = False

    @property
    def papers(self) -> list[str]:
        """Columns for which the paper has numbers."""
        return [c for c in self.columns if any(row.cells[c].paper is not None for row in self.rows)]


# ---------------------------------------------------------------------------------------------------- the paper's numbers


@lru_cache(maxsize=1)
def paper_tables() -> dict[str, Any]:
    """``experiments/paper.yaml``; empty where the package was installed without the experiments."""
    from omegaconf import OmegaConf

    from dclip.prepare.compose import CONF

    path = CONF.parent / "experiments" / "paper.yaml"
    found: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return dict(found)


def paper_rows(name: str) -> list[tuple[dict[str, str], dict[str, float | str | None]]]:
    """Key and numbers of every row of a paper's table."""
    table = paper_tables().get(name, {"key": [], "columns": [], "rows": []})
    width = len(table["key"])
    return [
        (
            dict(zip(table["key"], map(str, row[:width]), strict=True)),
            dict(zip(table["columns"], row[width:], strict=True)),
        )
        for row in table["rows"]
    ]


# ---------------------------------------------------------------------------------------------------- from runs


def mean_of(runs: Sequence[Run], source: str) -> float | str | None:
    """Mean over runs; the text where all have the same; None if one lacks it."""
    values = [run.value(source) for run in runs]
    if not values or any(value is None for value in values):
        return None
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        return float(mean(numbers))
    return str(values[0]) if len(set(values)) == 1 else "several"


def cell_of(seeds: Sequence[Sequence[Run]], source: str) -> Cell:
    """A cell from the runs of every seed."""
    found = [mean_of(runs, source) for runs in seeds]
    numbers = [value for value in found if isinstance(value, float)]
    if not numbers or len(numbers) < len(found):
        texts = [value for value in found if isinstance(value, str)]
        return Cell(texts[0] if texts else None)
    value, over_seeds = spread(numbers)
    images = [x for runs in seeds for run in runs for x in run.rows.get(source, [])]
    over_images = spread(images)[1] if len(images) > 1 else None
    return Cell(value, over_seeds if len(numbers) > 1 else over_images)


def study_table(board: Board) -> Table:
    """The table of a study, as far as it has been run."""
    study = board.study
    paper = paper_rows(study.paper) if study.paper else []
    names = list(
        dict.fromkeys(
            [
                *study.ours,
                *(k for key, _ in paper for k in key),
                *(k for row in study.rows for k, _ in row),
            ]
        )
    )
    table = Table(study.title, names, list(study.columns), [])
    used: set[int] = set()
    for key in study.rows:
        jobs = [job for job in study.jobs if job.row == key]
        full = {**study.ours, **dict(key)}
        index = next(
            (i for i, (of, _) in enumerate(paper) if all(full.get(k) == v for k, v in of.items())),
            None,
        )
        printed = paper[index][1] if index is not None else {}
        used |= {index} if index is not None else set()
        table.rows.append(_row(board, table, full, jobs, printed))
    for index, (of, printed) in enumerate(paper):
        if index not in used:
            table.rows.append(Row(of, {c: Cell(paper=printed.get(c)) for c in study.columns}))
    table.by_seeds = any(row.seeds > 1 for row in table.rows)
    _study_notes(board, table)
    return table


def _row(
    board: Board, table: Table, key: dict[str, str], jobs: list[Job], printed: Mapping[str, Any]
) -> Row:
    tasks = {job: board.task_of(job) for job in jobs}
    label = " ".join(f"{k}={v}" for k, v in key.items())
    by_seed: dict[int, list[Run]] = {}
    for seed, group in groupby(sorted(jobs, key=lambda job: job.seed), key=lambda job: job.seed):
        mine = [tasks[job] for job in group]
        done = [task.run for task in mine if task.run and task.state == "finished"]
        if len(done) == len(mine):
            by_seed[seed] = done
        elif done:
            table.notes.append(
                f"{label}, seed {seed}: only {len(done)} of the {len(mine)} runs that are averaged are finished"
            )
    wrong = [task for task in tasks.values() if task.state not in ("finished", "new")]
    table.notes += list(
        dict.fromkeys(
            f"{label}: {task.state}: {task.reason or 'no reason is known'}" for task in wrong
        )
    )
    seeds = list(by_seed.values())
    cells = {}
    for column, source in board.study.columns.items():
        cell = cell_of(seeds, source) if seeds else Cell()
        cells[column] = Cell(cell.value, cell.std, printed.get(column))
        if seeds and cell.value is None:
            table.notes.append(f"{column}: {seeds[0][0].why_absent(source)}")
    state = wrong[0].state if wrong and not seeds else ""
    return Row(key, cells, sum(run.images for run in seeds[0]) if seeds else 0, len(seeds), state)


def _study_notes(board: Board, table: Table) -> None:
    study = board.study
    table.notes = list(dict.fromkeys(table.notes))
    if any(cell.std is not None for row in table.rows for cell in row.cells.values()):
        table.notes.append(
            f"±: standard deviation over {'seeds' if table.by_seeds else 'images'}; n: images of one seed"
        )
    if study.paper and study.paper in paper_tables():
        told = paper_tables()[study.paper]
        table.notes.append(
            f"paper: {told['paper']}, {told['table']}"
            + (f". {told['note']}" if told.get("note") else "")
        )
    runs = [task.run for task in board.unique() if task.run and task.state == "finished"]
    if runs:
        table.notes.append(ran_on(runs))
    told_words = " ".join(dict.fromkeys(word for job in study.jobs[:1] for word in job.words))
    table.notes.append(f"command: python run.py study={study.name}; first job: {told_words}")


def ran_on(runs: Sequence[Run]) -> str:
    """Machines and revisions behind runs, in one line."""
    machines, revisions = [], []
    for run in runs:
        env = run.status.get("environment", {})
        machines.append(
            str(env.get("gpu") or f"{env.get('cpus')} CPU cores ({env.get('threads')} used)")
        )
        revisions.append(str(env.get("git") or "unknown"))
    total = sum(float(run.status.get("seconds", 0)) for run in runs)
    return (
        f"{len(runs)} runs, {total / 60:.1f} minutes in all, on {', '.join(dict.fromkeys(machines))}; "
        f"revision {', '.join(dict.fromkeys(revisions))}"
    )


# ---------------------------------------------------------------------------------------------------- writing


def number(value: float | str | None) -> str:
    """A value for people; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def shown(row: Row, column: str) -> str:
    """Ours: mean and spread, ``-``, or why there is none."""
    cell = row.cells[column]
    if cell.value is None:
        return row.state or "-"
    return number(cell.value) + (f" ±{cell.std:.2g}" if cell.std is not None else "")


def _arrow(column: str) -> str:
    return ARROWS[HIGHER_IS_BETTER[column]] if column in HIGHER_IS_BETTER else ""


def heads(table: Table) -> list[str]:
    """Column titles; an arrow says which way is better."""
    titles = [*table.names, "n", "seeds"]
    for column in table.columns:
        titles.append(column + _arrow(column))
        titles += [f"{column}, paper"] if column in table.papers else []
    return titles


def lines(table: Table) -> list[list[str]]:
    """The table's body as texts."""
    made = []
    for row in table.rows:
        line = [row.key.get(name, "") for name in table.names] + [
            str(row.n or "-"),
            str(row.seeds or "-"),
        ]
        for column in table.columns:
            line.append(shown(row, column))
            line += [number(row.cells[column].paper)] if column in table.papers else []
        made.append(line)
    return made


def markdown(table: Table) -> str:
    """As Markdown, with its notes."""
    titles = heads(table)
    body = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in [titles, *lines(table)]
    ]
    body.insert(1, "|" + "---|" * len(titles))
    return (
        "\n".join([f"# {table.title}", "", *body, "", *(f"- {note}" for note in table.notes)])
        + "\n"
    )


def write_csv(table: Table, path: Path) -> None:
    """As CSV: numbers in full, one column for each of mean, spread and the paper's."""
    titles = [
        *table.names,
        "n",
        "seeds",
        "state",
        *(f"{c}{end}" for c in table.columns for end in ("", "_std", "_paper")),
    ]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(titles)
            for row in table.rows:
                numbers = [
                    part
                    for c in table.columns
                    for part in (row.cells[c].value, row.cells[c].std, row.cells[c].paper)
                ]
                key = [row.key.get(name, "") for name in table.names]
                writer.writerow(
                    [*key, row.n, row.seeds, row.state, *("" if x is None else x for x in numbers)]
                )

    atomic_save(path, write)


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "_%&#${}"},
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "×": r"$\times$",
}  # fmt: skip


def tex_text(text: str) -> str:
    """A text as LaTeX."""
    return "".join(_TEX.get(c, c) for c in text)


def latex(table: Table) -> str:
    """As a LaTeX tabular (booktabs); the best of ours in a column is not marked, for cells differ in what they compare."""
    titles = heads(table)
    align = "l" * len(table.names) + "r" * (len(titles) - len(table.names))
    body = [" & ".join(map(tex_text, line)) + r" \\" for line in [titles, *lines(table)]]
    body.insert(1, r"\midrule")
    notes = [f"% {note}" for note in [table.title, *table.notes]]
    return (
        "\n".join(
            [
                *notes,
                rf"\begin{{tabular}}{{{align}}}",
                r"\toprule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
        + "\n"
    )


def write_texts(table: Table, folder: Path) -> None:
    """table.md, table.csv, table.tex."""
    atomic_save(folder / "table.md", lambda p: p.write_text(markdown(table), "utf-8"))
    atomic_save(folder / "table.tex", lambda p: p.write_text(latex(table), "utf-8"))
    write_csv(table, folder / "table.csv")


def write_files(table: Table, folder: Path, drawn: Sequence[str] = ()) -> Path:
    """table.md, table.csv, table.tex, and figure.png where there is something to draw; the first's path."""
    write_texts(table, folder)
    shown = [
        c
        for c in drawn or table.columns
        if any(isinstance(row.cells[c].value, float) for row in table.rows)
    ]
    if shown:
        picture = figure(table, shown[:MOST_PANELS])
        atomic_save(folder / "figure.png", lambda p: picture.savefig(p, format="png", dpi=110))
    return folder / "table.md"


def write_table(board: Board) -> Path:
    """The files of a study's table, and pictures.png where it wants pictures; the Markdown's path."""
    path = write_files(study_table(board), board.place.table, board.study.figure)
    if board.study.pictures:
        _pictures(board, board.place.table / "pictures.png")
    return path


# ---------------------------------------------------------------------------------------------------- drawing


def figure(table: Table, columns: Sequence[str]) -> Any:
    """Heat maps for a grid of two axes; else lines with error bars, the paper's dashed."""
    ours = [
        row
        for row in table.rows
        if row.n or row.state or any(c.value is not None for c in row.cells.values())
    ]
    axes = [name for name in table.names if len({row.key.get(name, "") for row in ours}) > 1]
    if len(axes) == 2:
        first, second = (
            list(dict.fromkeys(row.key.get(name, "") for row in ours)) for name in axes
        )
        if len(ours) == len(first) * len(second):
            return _heat(table, ours, columns, axes, first, second)
    return _lines(table, ours, columns, axes or table.names[-1:])


def _heat(
    table: Table,
    rows: list[Row],
    columns: Sequence[str],
    axes: list[str],
    down: list[str],
    across: list[str],
) -> Any:
    from matplotlib.figure import Figure

    drawing = Figure(
        figsize=(1.2 + (0.75 * len(across) + 1.2) * len(columns), 1.3 + 0.6 * len(down)),
        layout="constrained",
    )
    for panel, column in zip(
        drawing.subplots(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        found = {(row.key[axes[0]], row.key[axes[1]]): row.cells[column] for row in rows}
        grid = [[_float(found[a, b].value) for b in across] for a in down]
        better = HIGHER_IS_BETTER.get(column, False)
        panel.imshow(grid, cmap="viridis" if better else "viridis_r", aspect="auto")
        values = [x for line in grid for x in line if not math.isnan(x)]
        middle = (max(values) + min(values)) / 2 if values else 0
        for i, a in enumerate(down):
            for k, b in enumerate(across):
                cell = found[a, b]
                text = number(_rounded(cell.value)) + (
                    f"\n({number(cell.paper)})" if cell.paper is not None else ""
                )
                light = not math.isnan(grid[i][k]) and (grid[i][k] > middle) == better
                panel.text(
                    k,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="black" if light or cell.value is None else "white",
                )
        panel.set(title=column + _arrow(column), xlabel=axes[1], ylabel=axes[0])
        panel.set_xticks(range(len(across)), across, rotation=40, fontsize=7)
        panel.set_yticks(range(len(down)), down, fontsize=8)
    drawing.suptitle(table.title + (" (paper's in brackets)" if table.papers else ""), fontsize=9)
    return drawing


def _float(value: float | str | None) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _rounded(value: float | str | None) -> float | str | None:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _lines(table: Table, rows: list[Row], columns: Sequence[str], axes: list[str]) -> Any:
    """x: the last axis. One panel for all groups with the same labels there, and one row of panels for every set of labels."""
    from matplotlib.figure import Figure

    *outer, x = axes
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.key.get(name, "") for name in outer), []).append(row)
    bands: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name, members in groups.items():
        bands.setdefault(tuple(row.key.get(x, "") for row in members), []).append(name)
    size = (3.4 * len(columns) + 0.6, 2.7 * len(bands) + 0.5)
    drawing = Figure(figsize=size, layout="constrained")
    panels = drawing.subplots(len(bands), len(columns), squeeze=False)
    for line, (labels, names) in zip(panels, bands.items(), strict=True):
        places = _places(labels)
        for panel, column in zip(line, columns, strict=True):
            for name in names:
                _line(panel, places, groups[name], column, " ".join(name) or "ours")
            panel.set(
                xlabel=x if len(names) > 1 or not outer else " ".join([*names[0], x]),
                title=column + _arrow(column),
            )
            if places == list(range(len(labels))):
                panel.set_xticks(places, labels, rotation=30, fontsize=7, ha="right")
            panel.grid(alpha=0.3)
            if len(names) > 1 or column in table.papers:
                panel.legend(fontsize=7)
    drawing.suptitle(table.title, fontsize=9)
    return drawing


def _places(labels: Sequence[str]) -> list[float]:
    try:
        return [float(label) for label in labels]
    except ValueError:
        return list(range(len(labels)))


def _line(
    panel: Any, places: Sequence[float], rows: Sequence[Row], column: str, label: str
) -> None:
    cells = [row.cells[column] for row in rows]
    values = [_float(cell.value) for cell in cells]
    errors = [cell.std or 0.0 for cell in cells]
    drawn = panel.errorbar(
        places, values, errors, marker="o", markersize=3, linewidth=1.2, capsize=2, label=label
    )
    if any(cell.paper is not None for cell in cells):
        paper = [_float(cell.paper) for cell in cells]
        panel.plot(
            places,
            paper,
            "--",
            marker="x",
            markersize=4,
            linewidth=1,
            color=drawn[0].get_color(),
            label=f"{label}, paper",
        )


def _pictures(board: Board, path: Path) -> None:
    """The before / after pictures of every row's first run below each other."""
    from PIL import Image, ImageDraw, ImageFont

    found: dict[str, Path] = {}
    for job in board.study.jobs:
        run = board.task_of(job).run
        if (
            run
            and run.state == "finished"
            and (run.folder / "samples" / "before_after.png").is_file()
        ):
            found.setdefault(
                " ".join(v for _, v in job.row), run.folder / "samples" / "before_after.png"
            )
    if not found:
        return
    opened = [(label, Image.open(file).convert("RGB")) for label, file in found.items()]
    canvas = Image.new(
        "RGB", (max(p.width for _, p in opened), sum(p.height + 26 for _, p in opened)), "white"
    )
    pen, top = ImageDraw.Draw(canvas), 0
    for label, picture in opened:
        pen.text((4, top + 4), label, "black", ImageFont.load_default(14))
        canvas.paste(picture, (0, top + 24))
        top += picture.height + 26
    atomic_save(path, canvas.save)
