"""Many runs at a glance: grouped by task and edit, one line a run, and a page for each pair.

Imports nothing heavy but for the pages of pairs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from dclip.metrics.names import COSTS, SPEEDS, higher_is_better, interval, ordered
from dclip.pages.against import Side, nothing_shared, write_pair
from dclip.pages.faces import Pixels, address_of, files_of, pixels_of
from dclip.pages.render import picture_of
from dclip.pages.report import answer_of
from dclip.pages.summary import Answer
from dclip.record.identity import slug
from dclip.record.runs import SOURCES, TRUTHS, Run
from dclip.runtime.durations import duration
from dclip.study.differences import (
    Settings,
    all_differing,
    differing,
    labels_of,
    named_by_edit,
    settings_of,
    short,
    shown,
    task_of,
)
from dclip.study.tables import number, short_names, titled

THUMBS = 4  # pictures of a run that are shown
SIDE = 128  # pixels: larger ones are shown smaller
MOST_SCORES = 4
MOST_SETTINGS = 4  # of those that differ, that are shown in the line of a run
MOST_PAIRS = 45  # of a group; of more, every run is compared with the best

# Scores that are shown first, as far as a group has them.
FIRST = (
    "counterfactual_ratio",
    "closer",
    "s_dir_heldout",
    "p_target_heldout",
    "judge_success",
    "psnr",
    "mae",
)


@dataclass(frozen=True)
class Score:
    """A run's number with its interval, and where they lie between the group's ends, in percent."""

    text: str = "–"
    value: float | None = None
    place: float | None = None
    low: float = 0.0
    width: float = 0.0


@dataclass
class Card:
    """What the page shows of one run.

    Attributes:
        labels: the settings that tell it from the others of its group, as ``name=value``.
        sheet: address of before_after.png, where a run kept no single pictures.
        others: addresses of the pages that compare it, by the other run's number.
    """

    number: int
    run: Run
    labels: list[str]
    answer: Answer
    cost: str
    pictures: list[str]
    scores: list[Score] = field(default_factory=list)
    report: str = ""
    sheet: str = ""
    others: dict[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name for people."""
        return " ".join(self.labels) or self.run.folder.name

    @property
    def finished(self) -> bool:
        """Whether it has results."""
        return self.run.state == "finished"


@dataclass(frozen=True)
class Group:
    """Runs of one task and edit.

    Attributes:
        differing: settings that differ, with their values.
        columns: titles of the scores.
        references: the same pictures, untouched and as they truly look edited, by name.
    """

    title: str
    cards: list[Card]
    differing: dict[str, list[str]]
    columns: list[str]
    references: dict[str, list[str]]

    @property
    def finished(self) -> list[Card]:
        """Those that can be compared."""
        return [card for card in self.cards if card.finished]


# ------------------------------------------------------------ groups


def groups_of(runs: Sequence[Run], folder: Path, columns: Sequence[str] = ()) -> list[Group]:
    """Runs by task, then by edit, each with what its line shows.

    Args:
        folder: where the page lies; addresses of reports are relative to it.
        columns: the scores to show; else those that say most.
    """
    by_title: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (task_of(run), _edit_of(run))):
        by_title.setdefault(" · ".join(filter(None, (task_of(run), _edit_of(run)))), []).append(run)
    groups, count = [], 0
    for title, mine in by_title.items():
        groups.append(_group(title, mine, count, folder, columns))
        count += len(mine)
    return groups


def _edit_of(run: Run) -> str:
    """The name of the edit that a run is about; empty for tasks without one."""
    if not named_by_edit(task_of(run)):
        return ""
    return str(run.setting("edit.name") or run.setting("edit.target") or "")


def _group(
    title: str, runs: Sequence[Run], before: int, folder: Path, columns: Sequence[str]
) -> Group:
    settings = [_with_seed(run) for run in runs]
    names = all_differing(settings)
    pictures = common_pictures(runs)
    cards = []
    for k, (run, labels) in enumerate(zip(runs, _labels(settings), strict=True)):
        card = Card(before + k + 1, run, labels, answer_of(run.folder), _cost(run), [])
        card.pictures = _thumbs(run.folder / "samples", pictures)
        sheet = run.folder / "samples" / "before_after.png"
        if not card.pictures and sheet.is_file():
            card.sheet = picture_of(sheet).address
        if (run.folder / "report.html").is_file():
            card.report = quote(os.path.relpath(run.folder / "report.html", folder))
        cards.append(card)
    wanted = list(columns) or scores_shown(runs)
    _score(cards, wanted)
    values = {name: sorted({one.get(name, "–") for one in settings}) for name in names}
    return Group(title, cards, values, list(map(titled, wanted)), _references(runs, pictures))


def _with_seed(run: Run) -> Settings:
    """What can tell a run from others, its seed last."""
    return {**settings_of(run), "seed": str(run.setting("seed"))}


def _labels(settings: Sequence[Settings]) -> list[list[str]]:
    """What tells each run from the others, as ``name=value``: few settings, or the fewest."""
    names = all_differing(settings)
    if len(names) > MOST_SETTINGS:
        names = differing(settings)
    groups = [labels_of(one, names) for one in settings]
    titles, ends = short_names(names), shown(groups)
    labels = []
    for values in groups:
        texts = map(short, values, ends)
        labels.append([f"{name}={text}" for name, text in zip(titles, texts, strict=True)])
    return labels


def _cost(run: Run) -> str:
    """Time and memory."""
    parts = []
    seconds, memory = run.status.get("seconds"), run.metrics.get("peak_memory_mb")
    if isinstance(seconds, int | float):
        parts.append(duration(seconds))
    if isinstance(memory, int | float):
        parts.append(f"{memory / 1000:.2g} GB")
    return ", ".join(parts)


# ------------------------------------------------------------ pictures


def common_pictures(runs: Sequence[Run]) -> list[str]:
    """File names of the pictures to show: those that all finished runs have, else the first one's."""
    lists = [
        [file.name for file in files_of(run.folder)] for run in runs if run.state == "finished"
    ]
    lists = list(filter(None, lists))
    if not lists:
        return []
    common = [name for name in lists[0] if all(name in names for names in lists)]
    return (common or lists[0])[:THUMBS]


def _thumbs(folder: Path, names: Sequence[str]) -> list[str]:
    """Addresses of the pictures that a folder has."""
    found = []
    for name in names:
        pixels: Pixels | None = pixels_of(folder / name)
        if pixels is not None:
            found.append(address_of(pixels, side=SIDE))
    return found


def _references(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[str]]:
    """The sources and the true pictures, of a run that has them."""
    found = {}
    for title, folder in (("before", SOURCES), ("truth", TRUTHS)):
        for run in runs:
            thumbs = _thumbs(run.folder / folder, names)
            if thumbs:
                found[title] = thumbs
                break
    return found


# ------------------------------------------------------------ scores


def scores_shown(runs: Sequence[Run]) -> list[str]:
    """The scores that say most of these runs; of runs without a known one, their own numbers."""
    measured: dict[str, None] = {}
    for run in runs:
        for name, value in run.metrics.items():
            if isinstance(value, int | float) and not name.endswith(("_low", "_high")):
                measured[name] = None
    aside = (*COSTS, *SPEEDS, "images", "count", "degree")
    scores = [name for name in measured if name not in aside]
    first = [name for name in FIRST if name in scores]
    return list(dict.fromkeys([*first, *ordered(scores), *scores]))[:MOST_SCORES]


def _score(cards: Sequence[Card], names: Sequence[str]) -> None:
    """Put every score beside those of the other runs: on an axis that holds all of them."""
    for name in names:
        bounds = [_bounds(name, card.run.metrics) for card in cards]
        known = [one for one in bounds if one is not None]
        low = min((one[0] for one in known), default=0.0)
        spread = max((one[2] for one in known), default=0.0) - low
        for card, one in zip(cards, bounds, strict=True):
            card.scores.append(_placed(name, card.run.metrics, one, low, spread))


Bounds = tuple[float, float, float]  # an interval's low end, the value, the high end


def _bounds(name: str, metrics: Mapping[str, object]) -> Bounds | None:
    value = metrics.get(name)
    if not isinstance(value, int | float):
        return None
    low, high = interval(name, metrics) or (value, value)
    return min(low, value), float(value), max(high, value)


def _placed(
    name: str, metrics: Mapping[str, object], bounds: Bounds | None, low: float, spread: float
) -> Score:
    if bounds is None:
        return Score()
    text = number(bounds[1])
    if interval(name, metrics):
        text += f" [{bounds[0]:.3g}, {bounds[2]:.3g}]"
    if not spread:
        return Score(text, bounds[1])
    places = [round(100 * (one - low) / spread, 1) for one in bounds]
    return Score(text, bounds[1], places[1], places[0], round(places[2] - places[0], 1))


# ------------------------------------------------------------ pairs


def pairs_of(groups: Sequence[Group]) -> Iterator[tuple[Card, Card]]:
    """Which runs are compared with each other: those of a group, or the only two that there are."""
    everything = [card for group in groups for card in group.finished]
    if len(everything) == 2:
        yield everything[0], everything[1]
        return
    for group in groups:
        cards = group.finished
        if too_many(group):
            best = best_of(cards)
            yield from ((best, card) for card in cards if card is not best)
        else:
            yield from itertools.combinations(cards, 2)


def too_many(group: Group) -> bool:
    """Whether a group has more pairs than anybody looks at."""
    count = len(group.finished)
    return count * (count - 1) // 2 > MOST_PAIRS


def best_of(cards: Sequence[Card]) -> Card:
    """The best of some runs, by the first score that says which way is better; else the first."""
    for name in scores_shown([card.run for card in cards]):
        higher = higher_is_better(name)
        known = [card for card in cards if isinstance(card.run.metrics.get(name), int | float)]
        if known and higher is not None:
            return (max if higher else min)(known, key=lambda card: card.run.metrics[name])
    return cards[0]


def write_pairs(groups: Sequence[Group], folder: Path) -> int:
    """Write the pages of all pairs that share something; returns how many there are."""
    count = 0
    for a, b in pairs_of(groups):
        if nothing_shared(a.run, b.run):
            continue
        name = f"pairs/{_key(a.run)}_{_key(b.run)}.html"
        labels = _labels([_with_seed(a.run), _with_seed(b.run)])
        first = Side("A", _named(labels[0], a.run), a.run)
        second = Side("B", _named(labels[1], b.run), b.run)
        write_pair(folder / name, first, second, "../report.html")
        a.others[b.number] = b.others[a.number] = quote(name)
        count += 1
    return count


def _key(run: Run) -> str:
    """A short name of a run for a file's name."""
    return run.digest or slug(run.folder.name)


def _named(labels: Sequence[str], run: Run) -> str:
    return " ".join(labels) or run.folder.name


# ------------------------------------------------------------ what must be said


def remarks(groups: Sequence[Group], pairs: int) -> list[str]:
    """What the reader of the page must know, a line each: unfinished runs, pairs that were left out."""
    cards = [card for group in groups for card in group.cards]
    open_ones = [card for card in cards if not card.finished]
    lines = []
    if len(open_ones) == len(cards):
        lines.append("No run is finished, so nothing can be compared; their reasons are below.")
    elif open_ones:
        names = ", ".join(f"#{card.number} {card.run.state}" for card in open_ones)
        lines.append(f"{len(open_ones)} of {len(cards)} runs are not finished ({names}).")
    for group in groups:
        if too_many(group):
            best = best_of(group.finished)
            lines.append(
                f"{group.title}: {len(group.finished)} runs are too many to compare each with each; "
                f"all are compared with the best, #{best.number}. runs=RUN,RUN compares any two."
            )
    if not pairs and len(cards) - len(open_ones) > 1:
        lines.append(
            "No two of these runs can be compared: they are of different edits or tasks, or share "
            "neither a picture nor a score."
        )
    return lines
