"""Words that a CLIP was never shown: what is learned from them is rarely what they say.

Which words a small CLIP knows is its domain's knowledge (``Domain.words``); of the published ones,
which have read most of the web, nothing is said. Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Sequence

from dclip.config import Config, SampleTask
from dclip.data.domains import words_of
from dclip.text.prompts import resolve

log = logging.getLogger("dclip")

WORD = re.compile(r"\w+(?:[-'’]\w+)*")
EMPTY = {"the", "this", "that", "his", "her", "their"}  # words that say nothing of a picture


def unknown_words(text: str, known: frozenset[str]) -> list[str]:
    """The words of a text that are not among those known, as they are written."""
    unknown: dict[str, None] = {}
    for word in WORD.findall(text):
        parts = {word.lower(), *re.split(r"[-'’]", word.lower())}
        if not parts & (known | EMPTY):
            unknown[word] = None
    return list(unknown)


def near(words: Iterable[str], known: frozenset[str]) -> list[str]:
    """Known words that are written much like these."""
    found: dict[str, None] = {}
    for word in words:
        found |= dict.fromkeys(difflib.get_close_matches(word.lower(), sorted(known), 2, 0.7))
    return list(found)


def texts_of(cfg: Config) -> list[str]:
    """The texts that decide what a run learns or draws."""
    texts: list[str] = []
    if cfg.task.learns and cfg.edit.examples is None:
        texts += [cfg.edit.source, cfg.edit.target, *(cfg.edit.against or ())]
    if cfg.task.learns or isinstance(cfg.task, SampleTask):
        texts += [prompt.text for prompt in resolve(cfg)]
    return list(dict.fromkeys(texts))


def warn_of_words(cfg: Config) -> None:
    """Log a warning about words of the run's texts that its CLIP was never shown."""
    note = words_note(texts_of(cfg), cfg.clip.name)
    if note:
        log.warning("%s", note)


def words_note(texts: Iterable[str], clip: str) -> str:
    """What to say of words that a CLIP was never shown; empty where there are none."""
    known = words_of(clip)
    unknown: dict[str, None] = {}
    for text in texts:
        if known:
            unknown |= dict.fromkeys(unknown_words(text, known))
    return _message(list(unknown), known, clip) if unknown else ""


def _message(unknown: Sequence[str], known: frozenset[str], clip: str) -> str:
    likely = near(unknown, known)
    hint = f"near words that it knows: {', '.join(likely)}"
    if not likely:
        hint = f"it knows {', '.join(sorted(known))}"
    words = "word" if len(unknown) == 1 else "words"
    return (
        f"clip={clip} was never shown the {words} {', '.join(unknown)}, so the result may be "
        f"anything; {hint}"
    )
