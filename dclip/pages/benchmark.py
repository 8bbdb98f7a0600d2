"""The results of a benchmark as files: summary.json, rows.csv, and a page that needs no other file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from dclip.files import write_json, write_rows, write_text
from dclip.metrics.benchmark.score import (
    COLUMNS,
    KEPT,
    ScoredResults,
    TaskScores,
    fate_names,
)
from dclip.metrics.benchmark.tasks import LICENCE, NAME, VERSION
from dclip.metrics.counterfactual import ERROR_COLORS, error_map
from dclip.metrics.names import arrow, find
from dclip.pages.render import Picture, data_address, render
from dclip.pages.report import Headline
from dclip.record.machine import environment
from dclip.record.pictures import grid_picture, with_legend
from dclip.types import Edited

Values = Mapping[str, float | str]

SHOWN = 4  # best and worst faces of an edit


def write_outcome(folder: Path, outcome: ScoredResults) -> Path:
    """Write everything into a folder; returns the page's path."""
    write_json(folder / "summary.json", summary_of(outcome))
    write_rows(folder / "rows.csv", rows_of(outcome.tasks))
    page = folder / "report.html"
    text = page_of(outcome)
    write_text(page, text)
    return page


# ------------------------------------------------------------------------------------ numbers


def summary_of(outcome: ScoredResults) -> dict[str, object]:
    """All scores, what was left out, and what they were made with."""
    tasks = {}
    for one in outcome.tasks:
        counts = {"scored": one.count, "expected": one.expected, "seeds": len(one.seeds)}
        tasks[one.task.name] = {**counts, "scores": _rounded(one.values)}
    known = outcome.known
    return {
        "benchmark": {"name": NAME, "version": VERSION, "faces": outcome.faces},
        "method": {"name": outcome.results.name, **outcome.results.card},
        "complete": outcome.complete,
        "edits": _rounded(outcome.edits),
        "pairs": _rounded(outcome.pairs),
        "tasks": tasks,
        "untouched": _of_tasks(known.source, outcome.tasks),
        "truth": _of_tasks(known.truth, outcome.tasks),
        "no_results": outcome.absent,
        "left_out": outcome.results.troubles,
        "environment": environment(),
    }


def _of_tasks(
    known: Mapping[str, Values], tasks: Sequence[TaskScores]
) -> dict[str, dict[str, float | str]]:
    """What is known of the tasks that were scored."""
    found = {}
    for one in tasks:
        if one.task.name in known:
            found[one.task.name] = _rounded(known[one.task.name])
    return found


def _rounded(values: Values) -> dict[str, float | str]:
    plain: dict[str, float | str] = {}
    for name, value in values.items():
        plain[name] = round(value, 6) if isinstance(value, float) else value
    return plain


def rows_of(tasks: Sequence[TaskScores]) -> dict[str, list[object]]:
    """The columns of rows.csv: one line a scored picture; empty where a score means nothing."""
    names = dict.fromkeys(name for one in tasks for name in one.rows)
    columns: dict[str, list[object]] = {name: [] for name in ("edit", "seed", "image", *names)}
    for one in tasks:
        scored = ~one.rows["mae"].isnan()
        for seed, face in scored.nonzero().tolist():
            columns["edit"].append(one.task.name)
            columns["seed"].append(one.seeds[seed].removeprefix("seed_"))
            columns["image"].append(one.ids[face])
            for name in names:
                columns[name].append(_row_value(one, name, seed, face))
    return columns


def _row_value(one: TaskScores, name: str, seed: int, face: int) -> object:
    if name not in one.rows:
        return ""
    value = float(one.rows[name][seed, face])
    return "" if value != value else round(value, 6)


# ------------------------------------------------------------------------------------ the page


@dataclass(frozen=True)
class Cell:
    """A number of a table; the hint shows its interval, or why it is absent."""

    text: str
    hint: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a table; ``kind`` styles it."""

    name: str
    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Bar:
    """A part of a bar, in percent of its length."""

    color: str
    share: float
    name: str


@dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task."""

    name: str
    texts: str
    notes: str
    bars: Sequence[Bar]
    pictures: Sequence[Picture]


def page_of(outcome: ScoredResults) -> str:
    """The page, with its pictures inside."""
    columns = [name for name in COLUMNS if find(name) is not None]
    attributes = _attributes(outcome.tasks)
    return render(
        "benchmark.html",
        title=f"{NAME} {VERSION}: {outcome.results.name}",
        card={k: v for k, v in outcome.results.card.items() if k != "name"},
        complete=outcome.complete,
        absent=outcome.absent,
        headline=_headline(outcome),
        columns=[(name, f"{name} {arrow(name)}", _meaning(name)) for name in columns],
        lines=_lines(outcome, columns),
        legend=_legend(),
        attributes=attributes,
        kept=_kept_lines(outcome.tasks, attributes),
        parts=[_part(one) for one in outcome.tasks],
        troubles=outcome.results.troubles,
        licence=LICENCE,
    )


def _meaning(name: str) -> str:
    quantity = find(name)
    return "" if quantity is None else quantity.meaning


SAID = {
    "truth_score": "of the way to the truth: 1 is there, 0 has not moved, below 0 is further away",
    "closer": "of the pictures are closer to the truth than the untouched ones",
    "judge_success": "convince the judge, which can be fooled",
    "judge_preservation": "of all other attributes are as they were",
}


def _headline(outcome: ScoredResults) -> list[Headline]:
    values = outcome.edits or outcome.pairs
    said = []
    for name, words in SAID.items():
        if name not in values:
            continue
        number = f"{100 * float(values[name]):.0f} %"
        if name == "truth_score":
            number = _number(values, name)
        said.append(Headline(number, words + _within(values, name)))
    return said


def _within(values: Values, name: str) -> str:
    hint = _hint(values, name)
    return f" ({hint})" if hint else ""


def _number(values: Values, name: str) -> str:
    return f"{float(values[name]):.3f}"


def _hint(values: Values, name: str) -> str:
    if f"{name}_low" in values:
        return f"{float(values[f'{name}_low']):.3f} to {float(values[f'{name}_high']):.3f}"
    return str(values.get(f"{name}_absent", ""))


def _cells(values: Values, columns: Sequence[str]) -> list[Cell]:
    cells = []
    for name in columns:
        text = _number(values, name) if name in values else "–"
        cells.append(Cell(text, _hint(values, name)))
    return cells


def mean_named(values: Values, kind: str) -> str:
    """What a macro score is called, such as ``mean of 15 edits``."""
    number = round(float(values["mae_tasks"]))
    return f"mean of {number} {kind}" if number > 1 else f"mean of one of the {kind}"


def _lines(outcome: ScoredResults, columns: Sequence[str]) -> list[Line]:
    """Means first, with the untouched source's and the truth's beside them, then every task."""
    lines = []
    for kind, values in (("edits", outcome.edits), ("pairs", outcome.pairs)):
        if values:
            lines.append(Line(mean_named(values, kind), _cells(values, columns), "mean"))
    known = outcome.known
    for name, tasks in (("the untouched source", known.source), ("the truth", known.truth)):
        mine = [tasks[one.task.name] for one in outcome.tasks if one.task.name in tasks]
        if mine:
            lines.append(Line(name, _cells(mean_of(mine), columns), "absent"))
    for one in outcome.tasks:
        lines.append(Line(one.task.name, _cells(one.values, columns)))
    return lines


def mean_of(tasks: Iterable[Values]) -> dict[str, float | str]:
    """Means over tasks."""
    together: dict[str, list[float]] = {}
    for values in tasks:
        for name, value in values.items():
            if isinstance(value, float):
                together.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in together.items()}


def _attributes(tasks: Sequence[TaskScores]) -> list[str]:
    """The attributes that the judge looks at."""
    names = dict.fromkeys(name for one in tasks for name in one.values)
    return [
        name.removeprefix(KEPT)
        for name in names
        if name.startswith(KEPT) and not name.endswith(("_low", "_high"))
    ]


def _kept_lines(tasks: Sequence[TaskScores], attributes: Sequence[str]) -> list[Line]:
    columns = [KEPT + name for name in attributes]
    return [Line(one.task.name, _cells(one.values, columns)) for one in tasks]


def _legend() -> list[Bar]:
    return [Bar(_css(color), 0.0, name) for name, color in ERROR_COLORS.items()]


def _css(color: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)


# ------------------------------------------------------------------------------------ pictures


def _part(one: TaskScores) -> TaskPart:
    bars = []
    for name, (label, color) in zip(fate_names(), ERROR_COLORS.items(), strict=True):
        if name in one.values:
            bars.append(Bar(_css(color), 100 * float(one.values[name]), label))
    notes = f"{one.count} of {one.expected} pictures"
    if "truth_score" in one.values:
        notes += f"; truth_score {_number(one.values, 'truth_score')}"
        notes += _within(one.values, "truth_score")
    texts = f"{one.task.source} → {one.task.target}"
    return TaskPart(one.task.name, texts, notes, bars, _pictures(one))


def _pictures(one: TaskScores) -> list[Picture]:
    """The faces that came out best and worst; the first ones where no truth is known."""
    shown = one.shown
    if shown.truth is None:
        first = list(range(min(2 * SHOWN, len(shown.source))))
        return [_sheet("the first faces", shown, first, [])]
    scores = _scores_of_shown(one)
    order = scores.argsort(descending=True).tolist()
    number = min(SHOWN, len(order))
    sheets = []
    for label, places in (("best", order[:number]), ("worst", order[::-1][:number])):
        sheets.append(_sheet(label, shown, places, [float(scores[i]) for i in places]))
    return sheets


def _scores_of_shown(one: TaskScores) -> torch.Tensor:
    """1 - distance / distance of the source, of each shown face."""
    columns = {name: place for place, name in enumerate(one.ids)}
    faces = [columns[name] for name in one.shown.source.ids]
    seed = int((~one.rows["mae"].isnan()).any(1).nonzero()[0])
    distance = one.rows["truth_distance"][seed, faces]
    return 1 - distance / one.rows["truth_distance_untouched"][seed, faces]


def _sheet(label: str, shown: Edited, places: Sequence[int], scores: Sequence[float]) -> Picture:
    index = list(places)
    source, result = shown.source.pixels[index], shown.result[index].cpu()
    rows = [("source", source), ("result", result)]
    if shown.truth is not None:
        truth = shown.truth[index]
        rows += [("the truth", truth), ("errors", error_map(result, source, truth))]
    picture = grid_picture(rows, len(index))
    if shown.truth is not None:
        picture = with_legend(picture, ERROR_COLORS)
    names = [shown.source.ids[i] for i in index]
    said = ", ".join(f"{name} {score:.2f}" for name, score in zip(names, scores, strict=False))
    return Picture(f"{label}: {said}" if said else label, data_address(png_of(picture), "png"))


def png_of(picture: Image.Image, colors: int = 128) -> bytes:
    """A sheet as a small PNG file."""
    buffer = io.BytesIO()
    picture.quantize(colors).save(buffer, "png", optimize=True)
    return buffer.getvalue()
