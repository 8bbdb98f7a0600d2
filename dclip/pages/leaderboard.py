"""A leaderboard of ToonFaces-CF: leaderboard.md, .csv, .html, a figure, and a sheet of each edit.

It grows: ``write`` and ``add`` keep the lines that a leaderboard has of other methods.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dclip.errors import DclipError
from dclip.files import atomic_save, write_text
from dclip.metrics.benchmark.results import read_results
from dclip.metrics.benchmark.score import (
    Measures,
    Reference,
    ScoredResults,
    TaskScores,
    macro,
    reference,
    score,
    with_truth,
)
from dclip.metrics.benchmark.tasks import (
    FACES,
    NAME,
    VERSION,
    BenchmarkTask,
    task_named,
    tasks_named,
)
from dclip.metrics.names import arrow
from dclip.pages.benchmark import mean_of, png_of, write_outcome
from dclip.pages.board import (
    COLUMNS,
    COSTS,
    Board,
    Card,
    Row,
    Section,
    Values,
    best_first,
    joined,
    lost,
    read_board,
    why_apart,
    write_board,
)
from dclip.pages.markdown import table_line
from dclip.pages.render import Picture, data_address, render
from dclip.record.identity import slug
from dclip.record.pictures import grid_picture
from dclip.record.record import alone

DRAWS = 1000
SHOWN = 6  # faces of a sheet
LABEL = 14  # letters of a line of its labels
COLORS = 256  # of a sheet: with fewer, rows that are kept would fade each time it grows
KNOWN = ("source", "the truth")  # its first rows

CALLS = (
    "calls: of the diffusion network, in forward passes of one picture, a backward pass as two; "
    "to learn one edit (its training pictures are inverted, too), and for each face."
)
COMMANDS = "commands: of the first edit and seed; {EDIT} is the folder of the run before, which EDIT: begins."
SECONDS = (
    "seconds a face: the way down, as measured with other work on the machine; not the inversion, "
    "whose latents were kept. Calls have both."
)


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
    outcome: ScoredResults

    @property
    def name(self) -> str:
        """What the method is called."""
        return self.outcome.results.name

    def of(self, tasks: Sequence[BenchmarkTask]) -> list[TaskScores]:
        """Its scores of some tasks, as far as it has them."""
        names = {task.name for task in tasks}
        return [one for one in self.outcome.tasks if one.task.name in names]


class Written(NamedTuple):
    """Where a leaderboard was written, and what has to be said about it."""

    path: Path
    said: Sequence[str]


def write(
    folder: Path,
    lines: Sequence[Line],
    faces: int,
    scores: Path,
    beside: Path | None = None,
) -> Written:
    """Score all lines and write the leaderboard.

    Args:
        faces: of every edit.
        scores: where a page for each method goes.
        beside: keep the lines of other methods that stand in ``folder``; where they are not
            comparable, leave them alone and write here. None: nothing is kept.
    """
    if beside is not None:
        read_board(folder)  # refused before anything is scored
    measures, known = Measures.load(torch.device("cpu")), Reference()
    scored = _scored(lines, faces, scores, measures, known)
    with alone(folder):
        return _written(folder, scored, faces, measures, beside)


def _written(
    folder: Path,
    scored: Sequence[Scored],
    faces: int,
    measures: Measures,
    beside: Path | None,
) -> Written:
    """Write the leaderboard of lines that are scored."""
    standing = read_board(folder) if beside is not None else None
    if standing is None or beside is None:
        return Written(_write(folder, _board(scored, faces), scored), ())
    new = _board_beside(standing, scored, faces, measures)
    why = why_apart(standing, new)
    if not why:
        board, said = joined(standing, new)
        return Written(_write(folder, board, scored, standing), said)
    left = lost(standing, new)
    if not left:
        return Written(_write(folder, new, scored), ())
    note = (
        f"{folder} stays as it is, the new lines go to {beside}: "
        f"lines of {', '.join(left)} stand there, and {why}"
    )
    return Written(_write(beside, _board(scored, faces), scored), (note,))


def add(folder: Path, outcome: ScoredResults, measures: Measures) -> Written:
    """Add a line for results that were scored to the leaderboard that lies in a folder, or begin one.

    Raises:
        DclipError: they cannot be compared with the lines that stand there.
    """
    costs = {}
    card = outcome.results.card
    for name in COSTS:
        cost = card.get(name, card.get(name.removeprefix("face_")))
        if isinstance(cost, int | float):
            costs[name] = float(cost)
    edits = tuple(one.task.name for one in outcome.tasks)
    line = Line(outcome.results.path, edits, costs, card.get("oracle") is True)
    with alone(folder):
        return _added(folder, Scored(line, outcome), measures)


def _added(folder: Path, one: Scored, measures: Measures) -> Written:
    """Write the leaderboard of a folder with one more line."""
    faces, standing = one.outcome.faces, read_board(folder)
    if standing is None:
        return Written(_write(folder, _board([one], faces), [one]), ())
    new = _board_beside(standing, [one], faces, measures)
    why = why_apart(standing, new)
    if why:
        raise DclipError(f"{folder}: no line was added to those that stand there; {why}")
    board, said = joined(standing, new)
    return Written(_write(folder, board, [one], standing), said)


def _write(folder: Path, board: Board, scored: Sequence[Scored], old: Board | None = None) -> Path:
    """Write all files of a leaderboard; returns leaderboard.md.

    Args:
        old: the leaderboard of the folder, some lines of which are kept.
    """
    sheets = _sheets(folder, board, scored, old)
    notes = _notes(board)
    path = folder / "leaderboard.md"
    write_text(path, _markdown(board.sections, notes))
    write_board(folder, board)
    figure = _figure(board.sections)
    atomic_save(folder / "leaderboard.png", lambda temporary: temporary.write_bytes(figure))
    for name, content in sheets.items():
        _write_bytes(folder / _sheet_file(name), content)
    write_text(folder / "leaderboard.html", _page(board.sections, notes, figure, sheets))
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    atomic_save(path, lambda temporary: temporary.write_bytes(content))


# ------------------------------------------------------------------------------------ scores


def _scored(
    lines: Sequence[Line], faces: int, scores: Path, measures: Measures, known: Reference
) -> list[Scored]:
    """Every line, scored; each gets a page of its own."""
    found = []
    for line in lines:
        results = read_results(line.folder)
        tasks = tasks_named(line.edits)
        outcome = score(results, tasks, faces, DRAWS, measures, known)
        write_outcome(scores / line.folder.name, outcome)
        found.append(Scored(line, outcome))
    return found


def _board_beside(
    standing: Board, scored: Sequence[Scored], faces: int, measures: Measures
) -> Board:
    """The lines of some methods as they would stand among others.

    Source and truth are scored on the edits of the others, too: this shows whether judge and truths
    are what they were.
    """
    if standing.edits:
        known = scored[0].outcome.known
        for task in tasks_named(standing.edits):
            if task.name not in known.source:
                with torch.no_grad():
                    reference(measures, task, faces, known)
    return _board(scored, faces, standing.edits)


def _board(scored: Sequence[Scored], faces: int, more: Sequence[str] = ()) -> Board:
    """The lines of some methods: single edits together, and every pair of edits by itself.

    Args:
        more: edits that other methods have.
    """
    own = [name for one in scored for name in one.line.edits]
    tasks = tasks_named([*own, *more])
    single = [task for task in tasks if not task.is_pair]
    groups = [single, *([task] for task in tasks if task.is_pair)]
    sections = []
    for group in groups:
        if any(task.name in own for task in group):
            sections.append(_section(scored, group))
    cards = {}
    for one in scored:
        results = one.outcome.results
        command = str(results.card.get("command", "its command is not recorded"))
        cards[one.name] = Card(command, one.line.edits, tuple(results.troubles))
    return Board(VERSION, faces, best_first(cards, sections), sections)


def _section(scored: Sequence[Scored], tasks: Sequence[BenchmarkTask]) -> Section:
    rows = []
    for one in scored:
        mine = one.of(tasks)
        if mine:
            rows.append(_row(one, mine, len(tasks)))
    known = scored[0].outcome.known
    references = []
    for name, by_task in (("the truth", known.truth), ("the untouched source", known.source)):
        values = [by_task[task.name] for task in tasks if task.name in by_task]
        references.append(Row(name, mean_of(values), {}))
    title = ", ".join(task.name for task in tasks)
    return Section(title, sorted(rows, key=lambda row: row.rank), references)


def _row(one: Scored, mine: Sequence[TaskScores], expected: int) -> Row:
    kind = "oracle" if one.line.oracle else ""
    if len(mine) < expected or any(task.count < task.expected for task in mine):
        kind = "part"
    seeds = max(task.scored_seeds for task in mine)
    edits = f"{len(mine)} of {expected}"
    return Row(one.name, macro(mine), one.line.costs, edits, str(seeds), kind)


def _notes(board: Board) -> list[str]:
    notes = [f"{NAME} {VERSION}, the first {board.faces} of {FACES} test faces of every edit."]
    if board.faces < FACES:
        notes.append("A part of the benchmark, to look at: no result by its protocol.")
    notes += [CALLS, SECONDS, COMMANDS]
    for name, card in board.cards.items():
        notes.append(f"{name}: {card.command}")
    for name, card in board.cards.items():
        notes += [f"{name}: {trouble}" for trouble in card.troubles]
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
        cells.append(f"{float(row.costs[cost]):,.4g}" if cost in row.costs else "-")
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
        lines += [f"## {section.title}", "", table_line(heads), table_line(["---"] * len(heads))]
        for row in (*section.rows, *section.known):
            lines.append(table_line(_cells(row)))
        lines.append("")
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"


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
    scale = "truth_score: 0 the untouched source, 1 the truth"
    kinds = {row.kind for section in sections for row in section.rows}
    meaning = {"oracle": "told the true region", "part": "pictures are missing"}
    grey = " or ".join(why for kind, why in meaning.items() if kind in kinds)
    panels[-1].set_xlabel(f"{scale}; grey: {grey}" if grey else scale, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _far(section: Section) -> bool:
    return any(float(row.values.get("truth_score", 0)) < -1 for row in section.rows)


def _sheets(
    folder: Path, board: Board, scored: Sequence[Scored], old: Board | None
) -> dict[str, bytes]:
    """For every edit the first faces: source, truth, and what each method made of them.

    What a method whose line is kept made of them is cut out of the sheet that lies there.
    """
    sheets = {}
    for section in board.sections:
        new = {row.name for row in section.rows if not row.stands}
        for name in section.edits:
            path = folder / _sheet_file(name)
            mine = [one for one in scored if one.name in new and name in one.line.edits]
            strips = _cut(path, name, old) if old else {}
            before = list(strips)
            if mine:
                strips |= _strips(task_named(name), mine, board.faces)
            order = [label for label in (*KNOWN, *board.cards) if label in strips]
            if mine or order != before:
                sheets[name] = png_of(_stacked([strips[label] for label in order]), COLORS)
            elif path.is_file():
                sheets[name] = path.read_bytes()
    return sheets


def _sheet_file(edit: str) -> str:
    return f"{slug(edit)}.png"


def _strips(task: BenchmarkTask, scored: Sequence[Scored], faces: int) -> dict[str, Image.Image]:
    """The rows of a sheet, each a picture, by method."""
    whole = with_truth(task, task.faces(min(SHOWN, faces)))
    rows = {KNOWN[0]: (KNOWN[0], whole.source.pixels)}
    if whole.truth is not None:
        rows[KNOWN[1]] = (KNOWN[1], whole.truth)
    for one in scored:
        for mine in one.of([task]):
            rows[one.name] = (_label(one.name), _first(mine, whole.source.pixels))
    return _split(grid_picture(list(rows.values()), SHOWN), list(rows))


def _cut(path: Path, edit: str, old: Board) -> dict[str, Image.Image]:
    """The rows of a sheet on disk by method, if it is that of a leaderboard."""
    if not path.is_file():
        return {}
    known = KNOWN if task_named(edit).has_pictures else KNOWN[:1]
    methods = [name for name, card in old.cards.items() if edit in card.edits]
    with Image.open(path) as sheet:
        return _split(sheet.convert("RGB"), [*known, *methods])


def _split(sheet: Image.Image, names: Sequence[str]) -> dict[str, Image.Image]:
    """Rows of one height; none where the picture is not of so many."""
    height, rest = divmod(sheet.height, len(names))
    if rest:
        return {}
    boxes = ((0, k * height, sheet.width, (k + 1) * height) for k in range(len(names)))
    return dict(zip(names, map(sheet.crop, boxes), strict=True))


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """Rows below each other."""
    height = strips[0].height
    sheet = Image.new("RGB", (strips[0].width, height * len(strips)), "white")
    for k, strip in enumerate(strips):
        sheet.paste(strip, (0, k * height))
    return sheet


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
    )
