"""Two runs side by side: "this against that", on the pictures that both have.

Scores are compared picture by picture (``metrics.paired``): what makes a picture hard for both runs
does not hide which of them is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dclip.files import write_text
from dclip.metrics.names import COSTS, SPEEDS, arrow, higher_is_better, interval, ordered
from dclip.metrics.paired import Difference, Row, Rows, difference
from dclip.pages.faces import (
    FIRST,
    Face,
    Faces,
    Order,
    Pixels,
    View,
    address_of,
    best_median_worst,
    better_of,
    change_of,
    files_of,
    id_of,
    pixels_of,
    rows_of,
)
from dclip.pages.render import render
from dclip.pages.settings import BESIDE, flat
from dclip.pages.summary import Answer, answer, costs
from dclip.record.runs import SOURCES, TRUTHS, Run

MOST = 24  # pictures that are shown; scores are compared on all
COMPARED = 8  # pictures whose sources are compared
TILE = ("before", "A", "B", "truth")
APART = ", B − A"  # ends the name of a difference

# What decides which run is better: the first of these that both have, picture by picture.
DECIDING = (
    "counterfactual_ratio",
    "s_dir_heldout",
    "p_target_heldout",
    "s_dir",
    "psnr",
    "mae",
)


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        letter: A or B.
        label: the settings that tell it from the other.
    """

    letter: str
    label: str
    run: Run

    @property
    def verdict(self) -> Answer:
        """Whether it worked."""
        return answer(self.run.metrics)


@dataclass(frozen=True)
class ScoreRow:
    """One score of both runs.

    Attributes:
        apart: B minus A on the same pictures; None where it was not measured picture by picture.
        mood: ``good`` where B is better, ``bad`` where A is, else empty: chance may explain it.
    """

    name: str
    arrow: str
    values: tuple[str, str]
    apart: Difference | None
    mood: str

    @property
    def difference(self) -> str:
        """B minus A with its interval."""
        return signed(self.apart) if self.apart else "–"


@dataclass(frozen=True)
class TwoValues:
    """A setting, or a cost, of both runs."""

    name: str
    a: str
    b: str


# ------------------------------------------------------------ scores


def signed(apart: Difference) -> str:
    """A difference with its sign and its interval."""
    if apart.interval is None:
        return f"{apart.value:+.3g}"
    low, high = apart.interval
    return f"{apart.value:+.3g} [{low:+.3g}, {high:+.3g}]"


def mood_of(name: str, apart: Difference | None) -> str:
    """Which run is better beyond chance: ``good`` for B, ``bad`` for A, else empty."""
    higher = higher_is_better(name)
    if apart is None or apart.interval is None or higher is None:
        return ""
    low, high = apart.interval
    if low <= 0 <= high:
        return ""
    return "good" if (low > 0) == higher else "bad"


def scores_of(a: Run, b: Run, rows: tuple[Rows, Rows]) -> list[ScoreRow]:
    """Every score that both runs have; what they cost is said elsewhere."""
    shared, variants = [], _has_variants(a) or _has_variants(b)
    for name in ordered(a.metrics):
        if name in COSTS or name in SPEEDS:
            continue
        if _is_number(a.metrics.get(name)) and _is_number(b.metrics.get(name)):
            apart = difference(name, *rows, variants=variants)
            values = (_with_interval(name, a.metrics), _with_interval(name, b.metrics))
            shared.append(ScoreRow(name, arrow(name), values, apart, mood_of(name, apart)))
    return shared


def _has_variants(run: Run) -> bool:
    count = run.setting("variants")
    return isinstance(count, int | float) and count > 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _with_interval(name: str, metrics: Mapping[str, Any]) -> str:
    bounds = interval(name, metrics)
    text = f"{metrics[name]:.4g}"
    return f"{text} [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else text


def verdict(scores: Sequence[ScoreRow]) -> Answer:
    """Which of the two is better, in one sentence."""
    for name in DECIDING:
        for score in scores:
            if score.name == name and score.apart:
                return _said(score, score.apart)
    return Answer("plain", "Not decided", "no score was measured picture by picture in both.")


def _said(score: ScoreRow, apart: Difference) -> Answer:
    pictures = "1 picture" if apart.count == 1 else f"{apart.count} pictures"
    bounds = ""
    if apart.interval:
        low, high = apart.interval
        bounds = f" (95 % interval {low:+.3g} to {high:+.3g})"
    way = {"↑": "; higher is better", "↓": "; lower is better"}.get(score.arrow, "")
    words = (
        f"{score.name} of B minus that of A is {apart.value:+.3g}{bounds} "
        f"on the same {pictures}{way}."
    )
    winner = {"good": "B is better", "bad": "A is better"}.get(score.mood)
    if winner:
        return Answer("good", winner, words)
    return Answer("open", "Too close to call", words)


# ------------------------------------------------------------ pictures


def shared_pictures(a: Run, b: Run) -> list[str]:
    """The file names of the pictures that both runs show; none where they began from others."""
    there = {file.name for file in files_of(b.folder)}
    names = [file.name for file in files_of(a.folder) if file.name in there]
    for name in names[:COMPARED]:
        before = [one.folder / SOURCES / name for one in (a, b)]
        if all(path.is_file() for path in before) and not _same(*before):
            return []
    return names


def _same(a: Path, b: Path) -> bool:
    """Whether two files show the same picture."""
    if a.read_bytes() == b.read_bytes():
        return True
    one, other = pixels_of(a), pixels_of(b)
    return one is not None and other is not None and (one.tobytes() == other.tobytes())


def faces_of(a: Run, b: Run, names: Sequence[str], rows: tuple[Rows, Rows]) -> Faces:
    """The same pictures of both runs, side by side."""
    faces = []
    for name in names[:MOST]:
        views, face = _views(a, b, name), id_of(Path(name))
        if views:
            apart = _apart(rows[0].get(face, {}), rows[1].get(face, {}))
            faces.append(Face(face, views, apart, f"samples/{name}"))
    orders = _orders(faces)
    chosen, judged_by = best_median_worst(faces, orders)
    titles = {"best": "for B", "median": "median", "worst": "for A"}
    chosen = [(titles[title], face) for title, face in chosen]
    return Faces(faces, orders, len(names), chosen, judged_by, TILE)


def _apart(first: Row, second: Row) -> dict[str, float | None]:
    """B minus A of one picture, by metric."""
    apart: dict[str, float | None] = {}
    for metric, one in first.items():
        other = second.get(metric)
        if one is not None and other is not None:
            apart[f"{metric}{APART}"] = other - one
    return apart


def _orders(faces: Sequence[Face]) -> list[Order]:
    """Differences that are not the same for all pictures, those that say most first."""
    values: dict[str, set[float | None]] = {}
    for face in faces:
        for name, value in face.numbers.items():
            values.setdefault(name, set()).add(value)
    first = [f"{name}{APART}" for name in FIRST]
    orders = []
    for name in dict.fromkeys([*first, *values]):
        if len(values.get(name, ())) > 1:
            orders.append(Order(name, better_of(name.removesuffix(APART))))
    return orders


def _views(a: Run, b: Run, name: str) -> list[View]:
    """Before, both edits, the truth, and where the edits differ; none where one cannot be read."""
    first, second = (pixels_of(one.folder / "samples" / name) for one in (a, b))
    if first is None or second is None:
        return []
    views = [View("A", address_of(first)), View("B", address_of(second))]
    before, truth = _either(a, b, SOURCES, name), _either(a, b, TRUTHS, name)
    if before is not None:
        views.insert(0, View("before", address_of(before)))
    if truth is not None:
        views.append(View("truth", address_of(truth)))
    if first.shape == second.shape:
        views.append(View("A and B differ", address_of(change_of(first, second))))
    return views


def _either(a: Run, b: Run, folder: str, name: str) -> Pixels | None:
    """A picture that one of the runs has."""
    first = pixels_of(a.folder / folder / name)
    return pixels_of(b.folder / folder / name) if first is None else first


# ------------------------------------------------------------ settings and costs


def settings_apart(a: Run, b: Run) -> list[TwoValues]:
    """Every setting that differs."""
    first, second = _settings(a), _settings(b)
    names = dict.fromkeys((*first, *second))
    found = []
    for name in names:
        one, other = first.get(name, "–"), second.get(name, "–")
        if one != other and name not in BESIDE:
            found.append(TwoValues(name, one, other))
    return found


def _settings(run: Run) -> dict[str, str]:
    """All settings as the run's file has them."""
    path = run.folder / "config.yaml"
    settings = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
    return flat(settings) if isinstance(settings, dict) else {}


def costs_apart(a: Run, b: Run) -> list[TwoValues]:
    """What both cost."""
    first = {fact.name: fact.value for fact in costs(a.metrics, a.status)}
    second = {fact.name: fact.value for fact in costs(b.metrics, b.status)}
    names = dict.fromkeys((*first, *second))
    return [TwoValues(name, first.get(name, "–"), second.get(name, "–")) for name in names]


# ------------------------------------------------------------ the page


def nothing_shared(a: Run, b: Run) -> bool:
    """Whether two runs have neither a picture nor a score in common."""
    return not shared_pictures(a, b) and not scores_of(a, b, ({}, {}))


def write_pair(path: Path, a: Side, b: Side, back: str) -> Path:
    """Write the page of one pair; returns its path.

    Args:
        back: address of the page with all runs.
    """
    names = shared_pictures(a.run, b.run)
    rows: tuple[Rows, Rows] = (rows_of(a.run.folder), rows_of(b.run.folder)) if names else ({}, {})
    scores = scores_of(a.run, b.run, rows)
    page = render(
        "against.html",
        title=f"{a.label} against {b.label}",
        back=back,
        sides=(a, b),
        answer=verdict(scores),
        faces=faces_of(a.run, b.run, names, rows),
        scores=scores,
        changed=settings_apart(a.run, b.run),
        costs=costs_apart(a.run, b.run),
    )
    write_text(path, page)
    return path
