"""A table's figure: heat maps, lines with error bars, one column against another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.files import atomic_save
from dclip.metrics.names import higher_is_better
from dclip.study.grid import Scatter
from dclip.study.tables import Cell, Row, Table, number, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 4  # metrics in one figure

# of a figure that nobody has laid out
MOST_ROWS = 24
MOST_LABELS = 2  # names of labels that differ
LONGEST_LABEL = 24  # characters


def write_figure(
    table: Table, folder: Path, spec: Sequence[str] | Scatter = (), name: str = "figure"
) -> None:
    """Write NAME.png, of the columns in ``spec`` or of all, where there is something to draw."""
    if isinstance(spec, Scatter):
        if _drawable(table, spec.x) and _drawable(table, spec.y):
            save_figure(scatter(table, spec), folder, name)
        return
    columns = [column for column in spec or table.columns if _drawable(table, column)]
    if columns:
        save_figure(figure(table, columns[:MOST_PANELS]), folder, name)


def save_figure(picture: Figure, folder: Path, name: str = "figure") -> None:
    """Write NAME.png."""
    atomic_save(folder / f"{name}.png", lambda p: picture.savefig(p, format="png", dpi=110))


def readable(table: Table) -> bool:
    """Whether a figure of this table says more than the table: few rows that differ in little."""
    rows = [row for row in table.rows if row.has_numbers]
    if not 2 <= len(rows) <= MOST_ROWS or not any(_drawable(table, c) for c in table.columns):
        return False
    several = [name for name in table.names if len(_labels(rows, name)) > 1]
    longest = 0
    for name in several:
        longest = max(longest, *map(len, _labels(rows, name)))
    return len(several) <= MOST_LABELS and longest <= LONGEST_LABEL


def _drawable(table: Table, column: str) -> bool:
    return not all(map(math.isnan, _values(table.column(column))))


def figure(table: Table, columns: Sequence[str]) -> Figure:
    """Heat maps for a whole grid of two labels; else lines with error bars, the paper's dashed."""
    ours = [row for row in table.rows if row.n or row.state or row.has_numbers]
    labels = {}
    for name in table.names:
        different = _labels(ours, name)
        if len(different) > 1:
            labels[name] = different
    if len(labels) == 2 and len(ours) == math.prod(map(len, labels.values())):
        return _heat_maps(table, ours, columns, labels)
    return _lines(table, ours, columns, list(labels) or table.names[-1:])


def _labels(rows: Sequence[Row], name: str) -> list[str]:
    """Different labels of this name, in the rows' order."""
    return list(dict.fromkeys(row.key.get(name, "") for row in rows))


def _values(cells: Sequence[Cell]) -> list[float]:
    """Numbers of cells; nan where there is none."""
    values = []
    for cell in cells:
        is_number = isinstance(cell.value, int | float)
        values.append(float(cell.value or 0) if is_number else math.nan)
    return values


# --------------------------------------------------------------------------------- heat maps


def _heat_maps(
    table: Table, rows: Sequence[Row], columns: Sequence[str], labels: dict[str, list[str]]
) -> Figure:
    """``labels``: the two names and their labels, down and across."""
    from matplotlib.figure import Figure

    down, across = labels.values()
    ylabel, xlabel = labels
    width = 1.2 + (0.75 * len(across) + 1.2) * len(columns)
    drawing = Figure(figsize=(width, 1.3 + 0.6 * len(down)), layout="constrained")
    panels = drawing.subplots(1, len(columns), squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        grid: list[list[Cell]] = [[Cell()] * len(across) for _ in down]
        for row in rows:
            y, x = row.labels(labels)
            grid[down.index(y)][across.index(x)] = row.cells[column]
        _heat_map(panel, grid, bool(higher_is_better(column)))
        panel.set(title=titled(column), xlabel=xlabel, ylabel=ylabel)
        panel.set_xticks(range(len(across)), across, rotation=40, fontsize=7)
        panel.set_yticks(range(len(down)), down, fontsize=8)
    title = table.title
    if table.papers:
        title += " (paper's in brackets)"
    drawing.suptitle(title, fontsize=9)
    return drawing


def _heat_map(panel: Axes, grid: Sequence[Sequence[Cell]], higher_is_better: bool) -> None:
    """One panel: bright is good."""
    import numpy as np

    values = np.array(list(map(_values, grid)))
    colours = "viridis" if higher_is_better else "viridis_r"
    panel.imshow(values, cmap=colours, aspect="auto")
    middle = 0.0
    if not np.isnan(values).all():
        middle = (np.nanmax(values) + np.nanmin(values)) / 2
    for y, line in enumerate(grid):
        for x, cell in enumerate(line):
            bright = (values[y, x] > middle) == higher_is_better
            dark_text = cell.value is None or bright
            panel.text(
                x,
                y,
                _heat_text(cell),
                ha="center",
                va="center",
                fontsize=7,
                color="black" if dark_text else "white",
            )


def _heat_text(cell: Cell) -> str:
    value = cell.value
    if isinstance(value, float):
        value = float(f"{value:.3g}")
    text = number(value)
    if cell.paper is not None:
        text += f"\n({number(cell.paper)})"
    return text


# ------------------------------------------------------------------------------------- lines


def _lines(
    table: Table, rows: Sequence[Row], columns: Sequence[str], names: Sequence[str]
) -> Figure:
    """x: the last label. Groups with the same labels there share a row of panels."""
    from matplotlib.figure import Figure

    *outer, x = names
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.labels(outer), []).append(row)
    bands: dict[tuple[str, ...], dict[tuple[str, ...], list[Row]]] = {}
    for name, members in groups.items():
        labels = tuple(row.key.get(x, "") for row in members)
        bands.setdefault(labels, {})[name] = members
    size = (3.4 * len(columns) + 0.6, 2.7 * len(bands) + 0.5)
    drawing = Figure(figsize=size, layout="constrained")
    panels = drawing.subplots(len(bands), len(columns), squeeze=False)
    for band, (labels, mine) in zip(panels, bands.items(), strict=True):
        xlabel = x
        if outer and len(mine) == 1:
            xlabel = " ".join([*next(iter(mine)), x])
        for panel, column in zip(band, columns, strict=True):
            _panel(panel, labels, mine, column, column in table.papers)
            panel.set(xlabel=xlabel, title=titled(column))
    drawing.suptitle(table.title, fontsize=9)
    return drawing


def _panel(
    panel: Axes,
    labels: Sequence[str],
    groups: dict[tuple[str, ...], list[Row]],
    column: str,
    with_paper: bool,
) -> None:
    places = _places(labels)
    for name, rows in groups.items():
        _line(panel, places, [row.cells[column] for row in rows], " ".join(name) or "ours")
    if places == list(range(len(labels))):
        panel.set_xticks(places, labels, rotation=30, fontsize=7, ha="right")
    panel.grid(alpha=0.3)
    if len(groups) > 1 or with_paper:
        panel.legend(fontsize=7)


def _places(labels: Sequence[str]) -> list[float]:
    """Where labels stand on the axis: at their numbers, or one after the other."""
    try:
        return list(map(float, labels))
    except ValueError:
        return list(range(len(labels)))


def _line(panel: Axes, places: Sequence[float], cells: Sequence[Cell], label: str) -> None:
    drawn = panel.errorbar(
        places,
        _values(cells),
        [cell.std or 0.0 for cell in cells],
        marker="o",
        markersize=3,
        linewidth=1.2,
        capsize=2,
        label=label,
    )
    paper = _values([Cell(cell.paper) for cell in cells])
    if not all(map(math.isnan, paper)):
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


# ----------------------------------------------------------------------------------- scatter


def scatter(table: Table, spec: Scatter) -> Figure:
    """One column against another, both logarithmic."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    labels = _labels(table.rows, spec.panels)
    drawing = Figure(figsize=(4.2 * len(labels), 4.2), layout="constrained")
    panels = drawing.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    colours = colormaps["tab20"]
    numbers: dict[str, int] = {}  # of lines, the same in all panels
    for panel, label in zip(panels, labels, strict=True):
        for name, points in _series(table, spec, label).items():
            number = numbers.setdefault(name, len(numbers))
            panel.plot(
                *zip(*points, strict=True),
                "o-",
                color=colours(number % 20),
                label=name,
                markersize=4,
                linewidth=1,
            )
        title = f"{spec.panels} = {label}"
        panel.set(yscale="log", title=title, xlabel=titled(spec.x))
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        if panel.lines:
            panel.legend(fontsize=6)
    panels[0].set_ylabel(titled(spec.y))
    drawing.suptitle(table.title, fontsize=9)
    return drawing


def _series(table: Table, spec: Scatter, label: str) -> dict[str, list[tuple[float, float]]]:
    """The points of every line of a panel, left to right; logarithms need numbers above 0."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        x, y = _values([row.cells[spec.x], row.cells[spec.y]])
        if row.key.get(spec.panels) == label and x > 0 and y > 0:
            parts = [row.key.get(part) or number(row.cells[part].value) for part in spec.lines]
            series.setdefault(", ".join(parts), []).append((x, y))
    for points in series.values():
        points.sort()
    return series
