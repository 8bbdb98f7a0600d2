"""A leaderboard as numbers: what its files hold, and how a new one keeps the lines that stand there.

``leaderboard.csv`` has the lines; ``leaderboard.json`` the version, the number of faces, and what
stands behind each method. A line that is kept is written as it was read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dclip.errors import DclipError, one_line
from dclip.files import read_json, write_json, write_rows
from dclip.metrics.benchmark.tasks import TEXTS

Values = Mapping[str, float | str]  # a number that was read is still a text

CSV = "leaderboard.csv"
FACTS = "leaderboard.json"
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
NUMBERS = (*COLUMNS, *(f"{name}_{end}" for name in COLUMNS for end in ("low", "high")))
LABELS = ("section", "method", "kind", "edits", "seeds")
SAME = 1e-6  # between two scores of the same pictures


@dataclass(frozen=True)
class Row:
    """One line of a section's table; ``stands`` if it was read from a leaderboard."""

    name: str
    values: Values
    costs: Values
    edits: str = ""
    seeds: str = ""
    kind: str = ""
    stands: bool = False

    @property
    def rank(self) -> tuple[int, float]:
        """Whole lines come first, the best above; then those with an oracle."""
        place = {"": 0, "oracle": 1, "part": 2}[self.kind]
        return place, -float(self.values.get("truth_score", float("-inf")))

    @property
    def size(self) -> tuple[int, bool, int]:
        """How many edits it is of, whether it has all pictures of them, and how many seeds."""
        return int(self.edits.split()[0]), self.kind != "part", int(self.seeds)


@dataclass(frozen=True)
class Section:
    """The methods of some edits, best first, and what source and truth score there."""

    title: str
    rows: Sequence[Row]
    known: Sequence[Row]

    @property
    def edits(self) -> list[str]:
        """The edits that its scores are means over."""
        return self.title.split(", ")


@dataclass(frozen=True)
class Card:
    """What stands behind a method's lines: its command, its edits, and what was left out."""

    command: str
    edits: Sequence[str]
    troubles: Sequence[str] = ()


@dataclass(frozen=True)
class Board:
    """A leaderboard; ``cards`` by method, best first, as on the sheets. ``faces``: of every edit."""

    version: str
    faces: int
    cards: Mapping[str, Card]
    sections: Sequence[Section]

    @property
    def edits(self) -> list[str]:
        """All edits that some method has."""
        return list(dict.fromkeys(name for card in self.cards.values() for name in card.edits))

    def section_of(self, title: str) -> Section | None:
        """The section with a title."""
        return next((one for one in self.sections if one.title == title), None)


# ------------------------------------------------------------------------------------- files


def write_board(folder: Path, board: Board) -> None:
    """Write leaderboard.csv (every score with its interval, every cost) and leaderboard.json."""
    columns: dict[str, list[object]] = {name: [] for name in (*LABELS, *NUMBERS, *COSTS)}
    for section in board.sections:
        for row in (*section.rows, *section.known):
            facts = (section.title, row.name, row.kind, row.edits, row.seeds)
            for name, fact in zip(LABELS, facts, strict=True):
                columns[name].append(fact)
            for name in NUMBERS:
                columns[name].append(row.values.get(name, ""))
            for name in COSTS:
                columns[name].append(row.costs.get(name, ""))
    write_rows(folder / CSV, columns)
    methods = {name: asdict(card) for name, card in board.cards.items()}
    write_json(folder / FACTS, {"version": board.version, "faces": board.faces, "methods": methods})


def read_board(folder: Path) -> Board | None:
    """The leaderboard that lies in a folder; without its facts the version is unknown."""
    if not (folder / CSV).is_file():
        return None
    facts = read_json(folder / FACTS)
    try:
        cards = {name: Card(**card) for name, card in facts.get("methods", {}).items()}
        sections = _sections(folder / CSV)
    except (TypeError, ValueError, KeyError) as error:
        raise DclipError(
            f"{folder}: {CSV} or {FACTS} was changed by hand or by another program "
            f"({one_line(error)}); restore them, or delete both to begin anew"
        ) from error
    return Board(facts.get("version", ""), facts.get("faces", 0), cards, sections)


def _sections(path: Path) -> tuple[Section, ...]:
    """The sections of leaderboard.csv. ValueError where a line is not as it was written."""
    sections: dict[str, Section] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            title, row = line["section"], _row(line)
            if title.split(", ")[0] not in TEXTS:
                raise ValueError(f"there is no edit {title!r}")
            section = sections.get(title, Section(title, (), ()))
            if row.edits:
                section = replace(section, rows=(*section.rows, row))
            else:
                section = replace(section, known=(*section.known, row))
            sections[title] = section
    return tuple(sections.values())


def _row(line: Mapping[str, str]) -> Row:
    values = {name: line[name] for name in NUMBERS if line.get(name)}
    costs = {name: line[name] for name in COSTS if line.get(name)}
    row = Row(
        line["method"], values, costs, line["edits"], line["seeds"], line["kind"], stands=True
    )
    _check_numbers(row)
    return row


def _check_numbers(row: Row) -> None:
    """ValueError where a line that was read has something else in place of a number."""
    for number in (*row.values.values(), *row.costs.values()):
        float(number)
    if row.edits:
        int(row.edits.split()[0])
        int(row.seeds)


# ------------------------------------------------------------------------------------ keeping


def why_apart(old: Board, new: Board) -> str:
    """Why the lines of two leaderboards cannot stand side by side; empty where they can."""
    if not old.version:
        return f"there is no {FACTS} that says of which version and of how many faces they are"
    if old.version != new.version:
        return f"they are of version {old.version} of the benchmark, the new ones of {new.version}"
    if old.faces != new.faces:
        return f"they are of {old.faces} faces, the new ones of {new.faces}"
    for section in new.sections:
        for before in old.sections:
            if set(before.edits) & set(section.edits):
                why = _why_differ(before, section)
                if why:
                    return why
    return ""


def _why_differ(old: Section, new: Section) -> str:
    """Why two sections that share edits are not of the same faces, truths and judge."""
    if old.title != new.title:
        return f"their scores are means over {old.title}, the new ones over {new.title}"
    for before, now in zip(old.known, new.known, strict=False):
        for name in COLUMNS:
            then, here = float(before.values.get(name, 0)), float(now.values.get(name, 0))
            if abs(then - here) > SAME:
                return (
                    f"{now.name} scored {then:g} in {name} then and scores {here:g} now: "
                    "the judge or the true pictures have changed"
                )
    return ""


def lost(old: Board, new: Board) -> list[str]:
    """The methods with a line that the new leaderboard does not have."""
    mine = {(section.title, row.name) for section in new.sections for row in section.rows}
    names: dict[str, None] = {}
    for section in old.sections:
        for row in section.rows:
            if (section.title, row.name) not in mine:
                names[row.name] = None
    return list(names)


def joined(old: Board, new: Board) -> tuple[Board, list[str]]:
    """The new lines and, of all other methods, the old ones; and what has to be said.

    A line that stands is kept, too, where the new one is of fewer edits or seeds.
    """
    said: list[str] = []
    sections = []
    titles = {section.title for section in (*old.sections, *new.sections)}
    for title in sorted(titles, key=_place):
        before, now = old.section_of(title), new.section_of(title)
        rows = {row.name: row for row in before.rows} if before else {}
        for row in now.rows if now else ():
            there = rows.get(row.name)
            if there is not None and there.size > row.size:
                said.append(_smaller(there, row))
                continue
            rows[row.name] = row
        known = before or now
        assert known is not None
        ranked = sorted(rows.values(), key=lambda row: row.rank)
        sections.append(Section(title, ranked, known.known))
    cards = best_first(dict(_cards(old, new, sections)), sections)
    return Board(new.version, new.faces, cards, sections), said


def best_first(cards: Mapping[str, Card], sections: Sequence[Section]) -> dict[str, Card]:
    """Cards in the order in which the sections rank their methods."""
    ranked = [row.name for section in sections for row in section.rows]
    return {name: cards[name] for name in dict.fromkeys([*ranked, *cards]) if name in cards}


def _place(title: str) -> tuple[bool, int]:
    """A section's place: single edits come before pairs of edits."""
    return "+" in title, list(TEXTS).index(title.split(", ")[0])


def _smaller(old: Row, new: Row) -> str:
    lacks = ", and pictures are missing" if new.kind == "part" else ""
    return (
        f"{old.name}: the line that stands is kept; it is of {old.edits} edits and {old.seeds} "
        f"seeds, the new one of {new.edits} and {new.seeds}{lacks}"
    )


def _cards(old: Board, new: Board, sections: Sequence[Section]) -> Iterator[tuple[str, Card]]:
    """The card of every method: its new one if a line of it is new, with all edits it has."""
    yield from old.cards.items()
    fresh = {row.name for section in sections for row in section.rows if not row.stands}
    for name in fresh & set(new.cards):
        before = old.cards[name].edits if name in old.cards else ()
        card = new.cards[name]
        yield name, replace(card, edits=tuple(dict.fromkeys((*before, *card.edits))))
