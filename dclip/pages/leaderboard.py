"""A leaderboard of ToonFaces-CF: leaderboard.md, .csv, .html, a figure, and a sheet of each edit."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dclip.files import atomic_save, write_rows
from dclip.metrics.benchmark.results import read_results
from dclip.metrics.benchmark.score import (
    Measures,
    Outcome,
    Reference,
    TaskScores,
    macro,
    score,
    with_truth,
)
from dclip.metrics.benchmark.tasks import FACES, NAME, VERSION, Task, task_named, tasks_named
from dclip.metrics.names import arrow
from dclip.pages.benchmark import mean_of, png_of, write_outcome
from dclip.pages.render import Picture, data_address, render
from dclip.record.identity import slug
from dclip.record.pictures import grid_picture

Values = Mapping[str, float | str]

DRAWS = 1000
COLUMNS = (
    "truth_score",
    "truth_score_in_region",
    "closer",
    "judge_success",
    "judge_preservation",
    "preservation_accuracy",
    "edit_iou",
    "amplification",
)
COSTS = {
    "learn_calls": "calls to learn",
    "face_calls": "calls a face",
    "learn_seconds": "s to learn",
    "face_seconds": "s a face",
    "memory_mb": "MB",
}
SHOWN = 6  # faces of a sheet
LABEL = 12  # letters of a line of its labels

CALLS = (
    "calls: of the diffusion network, in forward passes of one picture, a backward pass as two; "
    "to learn one edit (its training pictures are inverted, too), and for each face."
)
SECONDS = "seconds: as measured, other work on the machine and cached latents included."


@dataclass(frozen=True)
class Line:
    """A method's results and what it took.

    Attributes:
        oracle: it was told the true region.
    """

    folder: Path
    edits: tuple[str, ...]
    costs: Mapping[str, float]
    oracle: bool = False


@dataclass(frozen=True)
class Scored:
    """A line with its scores."""

    line: Line
    outcome: Outcome

    @property
    def name(self) -> str:
        """What the method is called."""
        return self.outcome.results.name

    def of(self, tasks: Sequence[Task]) -> list[TaskScores]:
        """Its scores of some tasks, as far as it has them."""
        names = {task.name for task in tasks}
        return [one for one in self.outcome.tasks if one.task.name in names]


@dataclass(frozen=True)
class Row:
    """One line of a section's table."""

    name: str
    values: Values
    costs: Mapping[str, float]
    edits: str = ""
    seeds: str = ""
    kind: str = ""

    @property
    def rank(self) -> tuple[int, float]:
        """Whole lines come first, the best above; then those with an oracle."""
        place = {"": 0, "oracle": 1, "part": 2}[self.kind]
        return place, -float(self.values.get("truth_score", float("-inf")))


@dataclass(frozen=True)
class Section:
    """The methods of some edits, best first, and what source and truth score there."""

    title: str
    rows: Sequence[Row]
    known: Sequence[Row]


def lines_of(folder: Path) -> int:
    """How many lines a leaderboard has that lies in a folder; 0 where there is none."""
    path = folder / "leaderboard.csv"
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8") as stream:
        return sum(bool(row["edits"]) for row in csv.DictReader(stream))


def write(folder: Path, lines: Sequence[Line], faces: int, scores: Path) -> Path:
    """Score all lines and write the leaderboard; returns leaderboard.md.

    Args:
        faces: of every edit.
        scores: where a page for each method goes.
    """
    scored = _scored(lines, faces, scores)
    sections = _sections(scored)
    notes = _notes(scored, faces)
    path = folder / "leaderboard.md"
    _write_text(path, _markdown(sections, notes))
    write_rows(folder / "leaderboard.csv", _columns(sections))
    figure = _figure(sections)
    atomic_save(folder / "leaderboard.png", lambda temporary: temporary.write_bytes(figure))
    sheets = _sheets(scored, faces)
    for name, content in sheets.items():
        _write_bytes(folder / f"{slug(name)}.png", content)
    _write_text(folder / "leaderboard.html", _page(sections, notes, figure, sheets))
    return path


def _write_text(path: Path, text: str) -> None:
    atomic_save(path, lambda temporary: temporary.write_text(text, "utf-8"))


def _write_bytes(path: Path, content: bytes) -> None:
    atomic_save(path, lambda temporary: temporary.write_bytes(content))


# ------------------------------------------------------------------------------------ scores


def _scored(lines: Sequence[Line], faces: int, scores: Path) -> list[Scored]:
    """Every line, scored; each gets a page of its own."""
    measures, known = Measures.load(torch.device("cpu")), Reference()
    found = []
    for line in lines:
        results = read_results(line.folder)
        tasks = tasks_named(line.edits)
        outcome = score(results, tasks, faces, DRAWS, measures, known)
        write_outcome(scores / line.folder.name, outcome)
        found.append(Scored(line, outcome))
    return found


def _sections(scored: Sequence[Scored]) -> list[Section]:
    """Single edits together, and every pair of edits by itself."""
    names = [name for one in scored for name in one.line.edits]
    tasks = tasks_named(names)
    single = [task for task in tasks if not task.is_pair]
    groups = [single] if single else []
    groups += [[task] for task in tasks if task.is_pair]
    return [_section(scored, group) for group in groups]


def _section(scored: Sequence[Scored], tasks: Sequence[Task]) -> Section:
    rows = []
    for one in scored:
        mine = one.of(tasks)
        if mine:
            rows.append(_row(one, mine, len(tasks)))
    known = scored[0].outcome.known
    reference = []
    for name, by_task in (("the truth", known.truth), ("the untouched source", known.source)):
        values = [by_task[task.name] for task in tasks if task.name in by_task]
        reference.append(Row(name, mean_of(values), {}))
    title = ", ".join(task.name for task in tasks)
    return Section(title, sorted(rows, key=lambda row: row.rank), reference)


def _row(one: Scored, mine: Sequence[TaskScores], expected: int) -> Row:
    kind = "oracle" if one.line.oracle else ""
    if len(mine) < expected:
        kind = "part"
    seeds = max(len(task.seeds) for task in mine)
    edits = f"{len(mine)} of {expected}"
    return Row(one.name, macro(mine), one.line.costs, edits, str(seeds), kind)


def _notes(scored: Sequence[Scored], faces: int) -> list[str]:
    notes = [f"{NAME} {VERSION}, the first {faces} of {FACES} test faces of every edit."]
    if faces < FACES:
        notes.append("A part of the benchmark, to look at: no result by its protocol.")
    notes += [CALLS, SECONDS]
    for one in scored:
        command = one.outcome.results.card.get("command")
        notes.append(f"{one.name}: {command}")
    for one in scored:
        for trouble in one.outcome.results.troubles:
            notes.append(f"{one.name}: {trouble}")
    return notes


# ------------------------------------------------------------------------------------- texts


def _heads() -> list[str]:
    heads = [f"{name} {arrow(name)}" for name in COLUMNS]
    return ["method", *heads, *COSTS.values(), "edits", "seeds"]


def _cells(row: Row) -> list[str]:
    name = {"": row.name, "oracle": f"{row.name} (told the true region)", "part": f"({row.name})"}
    cells = [name[row.kind]]
    for column in COLUMNS:
        cells.append(_cell(row.values, column))
    for cost in COSTS:
        cells.append(f"{row.costs[cost]:,.4g}" if cost in row.costs else "-")
    return [*cells, row.edits or "-", row.seeds or "-"]


def _cell(values: Values, column: str) -> str:
    if column not in values:
        return "-"
    text = f"{float(values[column]):.3f}"
    if column == COLUMNS[0] and f"{column}_low" in values:
        text += f" [{float(values[f'{column}_low']):.2f}, {float(values[f'{column}_high']):.2f}]"
    return text


def _markdown(sections: Sequence[Section], notes: Sequence[str]) -> str:
    lines = [f"# {NAME} {VERSION}: leaderboard", ""]
    heads = _heads()
    for section in sections:
        lines += [f"## {section.title}", "", _table_line(heads), _table_line(["---"] * len(heads))]
        for row in (*section.rows, *section.known):
            lines.append(_table_line(_cells(row)))
        lines.append("")
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _columns(sections: Sequence[Section]) -> dict[str, list[object]]:
    """leaderboard.csv: every score with its interval, and every cost."""
    ends = [f"{name}_{end}" for name in COLUMNS for end in ("low", "high")]
    numbers = [*COLUMNS, *ends]
    names = ["section", "method", "kind", "edits", "seeds", *numbers, *COSTS]
    columns: dict[str, list[object]] = {name: [] for name in names}
    for section in sections:
        for row in (*section.rows, *section.known):
            facts = (section.title, row.name, row.kind, row.edits, row.seeds)
            for name, fact in zip(names, facts, strict=False):
                columns[name].append(fact)
            for name in numbers:
                columns[name].append(row.values.get(name, ""))
            for name in COSTS:
                columns[name].append(row.costs.get(name, ""))
    return columns


# ---------------------------------------------------------------------------------- pictures


def _figure(sections: Sequence[Section]) -> bytes:
    """truth_score of every method with its interval; 0 is the untouched source, 1 the truth."""
    from matplotlib.figure import Figure

    count = sum(len(section.rows) for section in sections) + 2 * len(sections)
    figure = Figure(figsize=(8.4, 0.32 * count + 0.8), layout="constrained")
    heights = [max(1, len(section.rows)) for section in sections]
    panels = figure.subplots(len(sections), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, section in zip(panels, sections, strict=True):
        for place, row in enumerate(reversed(section.rows)):
            value = float(row.values.get("truth_score", float("nan")))
            color = "#c8c8c8" if row.kind else "#009e73"
            axes.barh(place, value, color=color, height=0.7)
            low, high = (row.values.get(f"truth_score_{end}") for end in ("low", "high"))
            if low is not None and high is not None:
                axes.plot([float(low), float(high)], [place, place], color="black", linewidth=1)
        axes.set_yticks(range(len(section.rows)), [row.name for row in reversed(section.rows)])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(section.title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlim(min(-1.0, axes.get_xlim()[0]) if _far(section) else None, 1)
    panels[-1].set_xlabel("truth_score: 0 the untouched source, 1 the truth", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _far(section: Section) -> bool:
    return any(float(row.values.get("truth_score", 0)) < -1 for row in section.rows)


def _sheets(scored: Sequence[Scored], faces: int) -> dict[str, bytes]:
    """For every edit the first faces: source, truth, and what each method made of them."""
    names = dict.fromkeys(name for one in scored for name in one.line.edits)
    sheets = {}
    for name in names:
        task = task_named(name)
        whole = with_truth(task, task.faces(min(SHOWN, faces)))
        rows = [("source", whole.source.pixels)]
        if whole.truth is not None:
            rows.append(("the truth", whole.truth))
        for one in scored:
            for mine in one.of([task]):
                rows.append((_label(one.name), _first(mine, whole.source.pixels)))
        sheets[name] = png_of(grid_picture(rows, SHOWN))
    return sheets


def _label(name: str) -> str:
    """A name in short lines."""
    return "\n".join(textwrap.wrap(name, LABEL))


def _first(mine: TaskScores, like: Tensor) -> Tensor:
    """Results of the first faces; white where there are none."""
    pictures = torch.ones_like(like)
    places = {name: place for place, name in enumerate(mine.shown.source.ids)}
    for place, name in enumerate(mine.ids[: len(like)]):
        if name in places:
            pictures[place] = mine.shown.result[places[name]].cpu()
    return pictures


def _page(
    sections: Sequence[Section],
    notes: Sequence[str],
    figure: bytes,
    sheets: Mapping[str, bytes],
) -> str:
    plots = [Picture("truth_score with 95 % intervals", data_address(figure, "png"))]
    plots += [Picture(name, data_address(content, "png")) for name, content in sheets.items()]
    parts = []
    for section in sections:
        lines = [_cells(row) for row in (*section.rows, *section.known)]
        parts.append({"title": section.title, "header": _heads(), "lines": lines})
    return render(
        "study.html",
        title=f"{NAME} {VERSION}: leaderboard",
        parts=parts,
        notes=notes,
        plots=plots,
        runs=[],
    )
