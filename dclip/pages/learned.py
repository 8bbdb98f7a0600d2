"""The edits that a page offers, as cards: texts, date, scores, a face before and after."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from dclip.edits.saved import read_edit
from dclip.pages.render import data_address, render
from dclip.pages.summary import Answer, answer
from dclip.record.runs import SOURCES, Run
from dclip.runtime.typed import typed

SIDE = 96  # pixels of a face on a card


@dataclass(frozen=True)
class Card:
    """An edit as the page shows it.

    Attributes:
        label: what the page calls it.
        face: addresses of a face before and after; empty where its run kept none.
        scores: those that say most, each in a few words.
        command: what learns it again; empty where that is not known.
    """

    label: str
    source: str
    target: str
    learned: str
    folder: Path
    face: tuple[str, ...]
    verdict: Answer
    scores: list[str]
    command: str


def card_of(label: str, path: Path, t0: int | None = None) -> Card:
    """The card of an edit's file, from what it says itself and what its run left beside it."""
    saved = read_edit(str(path), t0)
    known, folder = saved.card, path.parent
    run = Run(folder)
    metrics = run.metrics or known["scores"]
    scores = []
    for name, value in known["scores"].items():
        if isinstance(value, int | float):
            scores.append(f"{name.replace('_', ' ')} {value:.2f}")
    command = typed(run.command) if run.command else known["command"]
    return Card(
        label,
        known["source"],
        known["target"],
        known["learned"],
        folder,
        face_of(folder),
        answer(metrics),
        scores,
        command,
    )


def face_of(folder: Path) -> tuple[str, ...]:
    """A face before and after the edit, of those that its run kept; empty where it kept none."""
    for before in sorted((folder / SOURCES).glob("image_*.png")):
        after = folder / "samples" / before.name
        if after.is_file():
            written = after.stat().st_mtime
            return _address(before, written), _address(after, written)
    return ()


@lru_cache(maxsize=512)
def _address(path: Path, _written: float) -> str:
    """A picture file as an address, at the size of a card."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return data_address(buffer.getvalue(), "png")


def cards_html(edits: Mapping[str, str], t0: int | None = None) -> str:
    """The list of edits, by label; ``t0`` is that of published files that do not say theirs."""
    cards = [card_of(label, Path(path), t0) for label, path in edits.items()]
    return render("learned.html", cards=cards)
