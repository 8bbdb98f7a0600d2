"""``python run.py task=preference a=RUN b=RUN``: which of two pictures do people prefer?

The page is one HTML file that needs no network and no other file: pairs in an order of the voter's
own, sides drawn by ``seed`` (each system as often left as right), answers kept in the browser, so
that one can stop and go on, and exported as a small JSON file. Which side is which system is only
in ``key.json``, which is not for voters. ``tally=`` counts the exported answers
(``dclip.pages.votes``).
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dclip.errors import DclipError, need
from dclip.files import write_json, write_text
from dclip.pages.render import data_address, render
from dclip.pages.votes import SETTINGS as TALLY_SETTINGS
from dclip.pages.votes import tally
from dclip.prepare.words import parse_words
from dclip.record.runs import Run
from dclip.runtime.typed import typed

SETTINGS = ("a", "b", "source", "question", "count", "seed", "output")
QUESTION = "Which of the two pictures do you prefer?"


def main(words: Sequence[str]) -> int:
    """Write the page, or count its answers; returns the exit code.

    ``a=DIR b=DIR [source=DIR] [question=TEXT] [count=N] [seed=N] [output=DIR]``, or
    ``tally=FILES [key=FILE] [output=DIR]``.
    """
    if any(word.startswith("tally=") for word in words):
        tally(parse_words(words, TALLY_SETTINGS, "task=preference"))
        return 0
    settings = parse_words(words, SETTINGS, "task=preference")
    need(
        "a" in settings and "b" in settings,
        "task=preference needs a=DIR and b=DIR (runs or folders of pictures), "
        "or tally=ANSWERS key=key.json",
    )
    build(settings)
    return 0


# ------------------------------------------------------------ pictures


def pictures_in(folder: str, setting: str) -> dict[str, Path]:
    """Pictures of a folder by name; of a run's folder, those it edited. DclipError if none."""
    from dclip.data.folders import find_images

    root = Path(folder)
    need(
        root.is_dir(),
        f"{setting}={folder} is no folder; give a folder of pictures, or a run's folder",
    )
    if (root / "status.json").is_file():
        pictures = _single(root / "samples")
        reason = (
            "keeps no single pictures, as runs of older versions; apply its edit, give that run: "
            f"{typed(['task=edit', f'edit.adapter={folder}'])}"
        )
    else:
        pictures = {}
        for path in find_images(root):
            pictures[path.relative_to(root).with_suffix("").as_posix()] = path
        reason = "holds no pictures"
    need(bool(pictures), f"{setting}={folder} {reason}")
    return pictures


def _single(folder: Path) -> dict[str, Path]:
    """The files that hold one picture each, by its name."""
    pictures = {}
    for path in sorted(folder.glob("image_*.png")):
        pictures[path.stem.removeprefix("image_")] = path
    return pictures


def sources_of(settings: Mapping[str, str]) -> dict[str, Path]:
    """The pictures before the edit: those of ``source``, else those that run a or b kept."""
    if "source" in settings:
        return pictures_in(settings["source"], "source")
    for name in ("a", "b"):
        kept = _single(Path(settings[name]) / "sources")
        if kept:
            return kept
    return {}


def question_of(settings: Mapping[str, str]) -> str:
    """``question``, else one with the words that both runs have as their target."""
    if "question" in settings:
        return settings["question"]
    targets = set()
    for name in ("a", "b"):
        folder = Path(settings[name])
        if (folder / "config.yaml").is_file():
            targets.add(Run(folder).target)
        else:
            targets.add("")
    if len(targets) > 1 or targets == {""}:
        return QUESTION
    return f"Which of the two shows it better: {targets.pop()}?"


def embedded(path: Path) -> str:
    """A picture as an address.

    It is written anew, so that nothing in the file tells where it is from.
    """
    from dclip.data.pictures import decode

    stream = io.BytesIO()
    decode(path, str(path)).save(stream, "PNG")
    return data_address(stream.getvalue(), "png")


# ------------------------------------------------------------ pairs


@dataclass(frozen=True)
class Pair:
    """One question: its number on the page, the picture's name, whether system a is on the left."""

    number: str
    name: str
    a_left: bool


def paired(names: Sequence[str], seed: int, count: int | None = None) -> list[Pair]:
    """``count`` pairs, or all, in an order of their own, a on the left in half of them."""
    draw = random.Random(seed)
    order = list(names)
    draw.shuffle(order)
    order = order[:count]
    sides = [place % 2 == 0 for place in range(len(order))]
    draw.shuffle(sides)
    pairs = []
    for place, (name, side) in enumerate(zip(order, sides, strict=True)):
        pairs.append(Pair(f"q{place:04d}", name, side))
    return pairs


def _item(
    pair: Pair, a: Mapping[str, Path], b: Mapping[str, Path], source: Mapping[str, Path]
) -> dict[str, str]:
    """A pair as the page has it: pictures and sides, no names."""
    left, right = a[pair.name], b[pair.name]
    if not pair.a_left:
        left, right = right, left
    item = {"id": pair.number, "left": embedded(left), "right": embedded(right)}
    if pair.name in source:
        item["source"] = embedded(source[pair.name])
    return item


# ------------------------------------------------------------ the page


def build(settings: Mapping[str, str]) -> Path:
    """Write the page and its key; returns the page. DclipError where there are no pairs."""
    a, b = pictures_in(settings["a"], "a"), pictures_in(settings["b"], "b")
    names = [name for name in a if name in b]
    source = sources_of(settings)
    if "source" in settings:
        names = [name for name in names if name in source]
    need(
        bool(names),
        f"a={settings['a']} and b={settings['b']} have no picture's name in common; "
        "pairs are found by name",
    )
    seed = _whole_number(settings, "seed", 0)
    count = _whole_number(settings, "count", len(names))
    pairs = paired(names, seed, max(count, 1))
    items = [_item(pair, a, b, source) for pair in pairs]
    question = question_of(settings)
    digest = hashlib.sha256(json.dumps([question, items]).encode()).hexdigest()[:16]
    folder = Path(settings.get("output", "outputs/preference"))
    page = folder / "preference.html"
    data = {"page": digest, "items": items}
    text = render("preference.html", question=question, data=data)
    write_text(page, text)
    key = {"page": digest, "question": question, "a": settings["a"], "b": settings["b"]}
    write_json(folder / "key.json", {**key, "seed": seed, "pairs": _sides(pairs)})
    print(f"{len(pairs)} pairs: {page}\nthe key, not for voters: {folder / 'key.json'}")
    alone = len(a) + len(b) - 2 * len(names)
    if alone:
        print(f"{alone} pictures have no partner of their name and are left out")
    return page


def _sides(pairs: Sequence[Pair]) -> dict[str, dict[str, str]]:
    """What the key says of each pair."""
    sides = {}
    for pair in pairs:
        side = "left" if pair.a_left else "right"
        sides[pair.number] = {"name": pair.name, "a": side}
    return sides


def _whole_number(settings: Mapping[str, str], name: str, default: int) -> int:
    value = settings.get(name, str(default))
    if not value.isdigit():
        raise DclipError(f"{name}={value} must be a whole number")
    return int(value)
