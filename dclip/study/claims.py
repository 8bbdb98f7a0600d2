"""``claims:`` in a study: sentences of a paper, each decided by the runs of two kinds of rows.

A claim says of which rows a number should be higher (or lower, or no different) than of others.
Both kinds are paired by image and seed. The 95 % interval of the difference is a hierarchical
bootstrap over seeds and images; where a number is of a whole run (KID), over seeds and rows.
:mod:`dclip.study.findings` computes it. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from dclip.errors import DclipError
from dclip.study.document import check_keys

EXPECTED = ("more", "less", "no_less", "no_more", "same")
WITH_MARGIN = EXPECTED[2:]
NEEDED = {"claim", "source", "rows", "against", "metric", "expected"}
KEYS = NEEDED | {"of", "margin"}

CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "not decided"

Labels = Mapping[str, str]
Key = tuple[tuple[str, str], ...]  # names and labels of a row, in order
Pair = tuple[Key, Key | None]  # a row, and the one that it is compared with; None: a number


@dataclass(frozen=True)
class Claim:
    """A claim, as a study's file has it.

    Attributes:
        text: the sentence.
        source: where the paper says it.
        rows: labels of the rows of which it speaks.
        against: labels of those that they are compared with, or one number.
        metric: a column of rows.csv, two such columns divided (the ratio of their means), or a
            number of a whole run.
        expected: what ``rows`` has of it: more or less than ``against``; no_less, no_more or same
            within ``margin``.
        of: labels that both have. Rows that agree in all other labels, too, are compared.
    """

    text: str
    source: str
    rows: Labels
    against: Labels | float
    metric: str
    expected: str
    of: Labels = field(default_factory=dict)
    margin: float = 0.0

    @property
    def allowed(self) -> tuple[float, float]:
        """The differences that agree with it."""
        low, high = -self.margin, self.margin
        if self.expected in ("more", "no_less"):
            high = inf
        elif self.expected in ("less", "no_more"):
            low = -inf
        return low, high

    def verdict(self, low: float, high: float, seeds: Iterable[float] = ()) -> str:
        """Confirmed, refuted or not decided by an interval, and by the difference of every seed."""
        least, most = self.allowed
        ends = [low, high, *seeds]
        if all(least < end < most for end in ends):
            return CONFIRMED
        if max(ends) < least or min(ends) > most:
            return REFUTED
        return OPEN


# ----------------------------------------------------------------------------------- reading


def read_claims(entries: Sequence[Mapping[str, Any]], where: str) -> tuple[Claim, ...]:
    """The claims of a study's file. DclipError for one that says nothing that can be tested."""
    return tuple(_read(entry, f"{where}: claim {k}") for k, entry in enumerate(entries, 1))


def _read(entry: Mapping[str, Any], where: str) -> Claim:
    check_keys(entry, KEYS, where, "claim")
    lacking = sorted(NEEDED - set(entry))
    if lacking:
        raise DclipError(f"{where} has no {', '.join(lacking)}")
    expected, margin = entry["expected"], float(entry.get("margin", 0))
    if expected not in EXPECTED:
        raise DclipError(f"{where}: expected: {expected}; choose from {', '.join(EXPECTED)}")
    if (expected in WITH_MARGIN) != (margin > 0):
        raise DclipError(
            f"{where}: a margin above 0 belongs to {', '.join(WITH_MARGIN)}, and to no other; "
            f"it has expected: {expected}, margin: {margin:g}"
        )
    against = entry["against"]
    return Claim(
        text=entry["claim"],
        source=entry["source"],
        rows=labels_in(entry["rows"]),
        against=labels_in(against) if isinstance(against, dict) else float(against),
        metric=entry["metric"],
        expected=expected,
        of=labels_in(entry.get("of", {})),
        margin=margin,
    )


def labels_in(entry: Mapping[str, Any]) -> dict[str, str]:
    """A row's labels as texts."""
    return dict(zip(entry, map(str, entry.values()), strict=True))


def check_claims(claims: Sequence[Claim], rows: Sequence[Key]) -> None:
    """DclipError for a claim of which the study has no rows."""
    for claim in claims:
        if not pairs_of(claim, rows):
            raise DclipError(
                f"the claim {claim.text!r} compares rows that the study does not have: "
                f"{dict(claim.of)} with {dict(claim.rows)} against {claim.against}"
            )


def pairs_of(claim: Claim, rows: Sequence[Key]) -> list[Pair]:
    """The rows that a claim compares; None where it is with a number."""
    ours = _rows_with({**claim.of, **claim.rows}, rows)
    if isinstance(claim.against, float):
        return [(row, None) for row in ours]
    theirs = _rows_with({**claim.of, **claim.against}, rows)
    pairs: list[Pair] = []
    for row in ours:
        same = _without(row, claim.rows)
        pairs += [(row, other) for other in theirs if _without(other, claim.against) == same]
    return pairs


def _rows_with(labels: Labels, rows: Sequence[Key]) -> list[Key]:
    return [row for row in rows if labels.items() <= dict(row).items()]


def _without(row: Key, labels: Labels) -> set[tuple[str, str]]:
    return {(name, label) for name, label in row if name not in labels}
