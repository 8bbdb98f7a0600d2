"""``python run.py task=preference tally=FILES``: how often each of two systems was preferred."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dclip.errors import DclipError, need
from dclip.files import read_json, write_json, write_text
from dclip.prepare.words import paths_in

SETTINGS = ("tally", "key", "output")
CHOICES = ("a", "b", "equal")
SIDES = ("left", "right", "equal")
DRAWS = 2000  # of the bootstrap over voters

Interval = tuple[float, float]


# ------------------------------------------------------------ intervals


def wilson(votes: float, of: int) -> Interval:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, votes / of
    middle = share + z * z / (2 * of)
    width = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return (middle - width) / scale, (middle + width) / scale


def over_voters(votes: Sequence[tuple[int, int]], seed: int = 0) -> Interval | None:
    """95 % bootstrap interval of the share over voters, whose answers belong together.

    Args:
        votes: of each voter, those for a and all of them.

    Returns:
        None for one voter.
    """
    if len(votes) < 2:
        return None
    draw = random.Random(seed)
    shares = []
    for _ in range(DRAWS):
        sample = draw.choices(votes, k=len(votes))
        total = sum(all_votes for _, all_votes in sample)
        if total:
            shares.append(sum(for_a for for_a, _ in sample) / total)
    shares.sort()
    last = len(shares) - 1
    return shares[round(0.025 * last)], shares[round(0.975 * last)]


# ------------------------------------------------------------ votes


@dataclass
class Votes:
    """Counted answers: of all, of every picture, of every voter (votes for a, decided votes)."""

    total: Counter[str] = field(default_factory=Counter)
    pictures: dict[str, Counter[str]] = field(default_factory=dict)
    voters: list[tuple[int, int]] = field(default_factory=list)

    def add(self, choices: Sequence[tuple[str, str]]) -> None:
        """One voter's choices, each with its picture's name."""
        own: Counter[str] = Counter()
        for name, choice in choices:
            own[choice] += 1
            self.pictures.setdefault(name, Counter())[choice] += 1
        self.total += own
        self.voters.append((own["a"], own["a"] + own["b"]))


def _ballots(key: Mapping[str, Any], files: Sequence[Path]) -> list[dict[str, Any]]:
    """The exported answers, the latest of each voter."""
    ballots: dict[str, dict[str, Any]] = {}
    for path in files:
        ballot = read_json(path)
        need(
            ballot.get("page") == key.get("page"),
            f"{path} holds no answers to this page (key.json is of page {key.get('page')}); "
            "give the exported files",
        )
        voter = str(ballot.get("voter") or path.stem)
        earlier = ballots.get(voter, {})
        if ballot.get("exported", "") >= earlier.get("exported", ""):
            ballots[voter] = ballot
    return list(ballots.values())


def _choices(key: Mapping[str, Any], ballot: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which system a voter preferred, by picture."""
    choices = []
    for number, side in dict(ballot.get("answers", {})).items():
        if number not in key["pairs"] or side not in SIDES:
            raise DclipError(
                f"an answer {number}: {side} is none of this page's; "
                "give the files as they were exported"
            )
        pair = key["pairs"][number]
        choice = "b"
        if side == "equal":
            choice = "equal"
        elif side == pair["a"]:
            choice = "a"
        choices.append((pair["name"], choice))
    return choices


def _numbers(votes: Mapping[str, int]) -> dict[str, int]:
    return {choice: votes[choice] for choice in CHOICES}


def count_votes(key: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Votes for a, for b, for neither, with intervals.

    A voter's later file replaces an earlier one. DclipError for the answers to another page.
    """
    votes = Votes()
    for ballot in _ballots(key, files):
        votes.add(_choices(key, ballot))
    result: dict[str, Any] = {
        "votes": _numbers(votes.total),
        "voters": len(votes.voters),
        "pairs": {name: _numbers(counted) for name, counted in votes.pictures.items()},
    }
    decided = votes.total["a"] + votes.total["b"]
    if decided:
        result["share_a"] = votes.total["a"] / decided
        result["interval_votes"] = wilson(votes.total["a"], decided)
        result["interval_voters"] = over_voters([own for own in votes.voters if own[1]])
    return result


# ------------------------------------------------------------ the tally


def _answer_files(setting: str) -> list[Path]:
    """The files of ``tally=``: files, or folders of them. DclipError for what is not there."""
    files = []
    for name in paths_in(setting):
        path = Path(name)
        if path.is_dir():
            files += [file for file in sorted(path.glob("*.json")) if file.name != "key.json"]
        elif path.name != "key.json":
            files.append(path)
    absent = [str(path) for path in files if not path.is_file()]
    missing = ", ".join(absent) or "no answers"
    need(
        bool(files) and not absent,
        f"tally={setting}: {missing} not found; give exported files or their folder",
    )
    return files


def tally(settings: Mapping[str, str]) -> None:
    """Count exported answers, print the shares, write tally.json and tally.md."""
    path = Path(settings.get("key", "outputs/preference/key.json"))
    key = read_json(path)
    need(
        "pairs" in key,
        f"key={path} is no key of a page; give the key.json that was written with it",
    )
    result = count_votes(key, _answer_files(settings["tally"]))
    folder = Path(settings.get("output", str(path.parent)))
    text = tally_text(key, result)
    write_json(folder / "tally.json", {**result, "a": key["a"], "b": key["b"]})
    write_text(folder / "tally.md", text)
    print(f"{text}\nwritten to {folder}")


def tally_text(key: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The tally as Markdown."""
    votes = result["votes"]
    share_a, share_b = "-", "-"
    if "share_a" in result:
        share_a, share_b = _percent(result["share_a"]), _percent(1 - result["share_a"])
    lines = [
        f"# {key['question']}",
        "",
        "| | votes | share of decided votes |",
        "|---|---|---|",
        f"| a: {key['a']} | {votes['a']} | {share_a} |",
        f"| b: {key['b']} | {votes['b']} | {share_b} |",
        f"| equal | {votes['equal']} | |",
        "",
        f"- {result['voters']} voters, {len(result['pairs'])} pairs",
    ]
    if "share_a" in result:
        by_votes = _range(result["interval_votes"])
        by_voters = _range(result["interval_voters"])
        lines.append(f"- a's share, 95 % interval over votes (Wilson): {by_votes}")
        lines.append(f"- a's share, 95 % interval over voters (bootstrap): {by_voters}")
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(interval: Interval | None) -> str:
    if interval is None:
        return "none: one voter"
    low, high = interval
    return f"{_percent(low)} to {_percent(high)}"
