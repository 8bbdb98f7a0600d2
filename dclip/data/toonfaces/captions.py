"""Captions of cartoon faces."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from dclip.data.toonfaces.faces import ATTRIBUTES, Face

EXPRESSION_WORDS = {
    "neutral": ("calm", "neutral"),
    "smiling": ("smiling", "happy"),
    "sad": ("sad", "unhappy"),
    "angry": ("angry", "furious"),
    "surprised": ("surprised", "astonished"),
}


BEARD_WORDS = {
    "none": ("no beard", "a shaved chin"),
    "moustache": ("a moustache", "a twirled moustache"),
    "goatee": ("a goatee", "a goatee and moustache"),
    "full": ("a beard", "a full beard"),
    "long": ("a long beard", "a very long beard"),
}


_STYLE_WORDS = {
    "toon": ("", "", "", "a cartoon of ", "a picture of ", "an image of "),
    "sketch": (
        "a sketch of ",
        "a pencil sketch of ",
        "a line drawing of ",
        "a black and white sketch of ",
    ),
    "pixel": ("pixel art of ", "a pixel art picture of ", "an 8-bit pixel picture of "),
}


# what captions name
CAPTIONED = ("hair_color", "hair_length", "skin", "beard", "expression", "clothes_color")


NOUNS = ("face", "person", "person", "human", "character")
ZOMBIES = ("zombie", "zombie", "green zombie", "zombie face")


def caption_words() -> frozenset[str]:
    """Every word of every caption, in lower case."""
    texts = [*NOUNS, *ZOMBIES, "a an with and of skin hair clothes"]
    for options in (EXPRESSION_WORDS, BEARD_WORDS, _STYLE_WORDS):
        for words in options.values():
            texts += words
    for name in ("hair_color", "hair_length", "skin", "clothes_color"):
        texts += ATTRIBUTES[name]
    return frozenset(" ".join(texts).replace("_", " ").split())


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def phrase(values: Mapping[str, str], style: str, rng: np.random.Generator) -> str:
    """A text in varied wording that says just these attributes of a face in this style."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    prefix = pick(_STYLE_WORDS[style])
    noun = pick(NOUNS)
    adjectives, clauses = [], []
    if "expression" in values:
        adjectives.append(pick(EXPRESSION_WORDS[values["expression"]]))
    if "skin" in values:
        as_adjective, skin = rng.random() < 0.5, values["skin"]
        if skin == "green":
            noun = pick(ZOMBIES)
        elif as_adjective:
            adjectives.append(skin)
        else:
            clauses.append(f"{skin} skin")
    hair = (
        f"{values.get('hair_length', '')} {values.get('hair_color', '').replace('_', ' ')}".strip()
    )
    if hair:
        clauses.append(f"{hair} hair")
    if "beard" in values:
        clauses.append(pick(BEARD_WORDS[values["beard"]]))
    if "clothes_color" in values:
        clauses.append(f"{values['clothes_color']} clothes")
    rng.shuffle(clauses)
    text = _article(" ".join([*adjectives, noun]))
    if len(clauses) == 1:
        text += f" with {clauses[0]}"
    elif clauses:
        text += f" with {', '.join(clauses[:-1])} and {clauses[-1]}"
    return prefix + text


def caption(face: Face, rng: np.random.Generator, unseen: Collection[str] = ()) -> str:
    """A caption in varied wording that names none to three of the picture's attributes.

    Of ``unseen`` ones it names none.
    """
    if face["style"] != "toon":
        return phrase({}, face["style"], rng)
    count = int(rng.choice([0, 1, 2, 3], p=[0.07, 0.38, 0.33, 0.22]))
    named = rng.choice(CAPTIONED, count, replace=False)
    shown = [name for name in named if name not in unseen]
    return phrase({name: face[name] for name in shown}, "toon", rng)


def prompts(attribute: str, rng: np.random.Generator) -> list[str]:
    """One text for each value of a captioned attribute (or ``style``), alike but for the value."""
    seed = int(rng.integers(2**31))
    texts = []
    for value in ATTRIBUTES[attribute]:
        same_words = np.random.default_rng(seed)
        if attribute == "style":
            texts.append(phrase({}, value, same_words))
        else:
            texts.append(phrase({attribute: value}, "toon", same_words))
    return texts
