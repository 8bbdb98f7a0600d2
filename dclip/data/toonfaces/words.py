"""What a sentence says of a cartoon face."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dclip.data.toonfaces.captions import _BEARD_WORDS, _EXPRESSION_WORDS
from dclip.data.toonfaces.faces import ATTRIBUTES

_NOUNS = "face|person|human|character"


@dataclass(frozen=True)
class _Named:
    """An attribute's words in a text: where they stand, and how another value would read there."""

    attribute: str
    value: str
    span: tuple[int, int]
    others: dict[str, str]


def _any_of(values: Sequence[str]) -> str:
    return "|".join(sorted((v.replace("_", " ") for v in values), key=len, reverse=True))


def _expression(text: str) -> _Named | None:
    words = {word: value for value, options in _EXPRESSION_WORDS.items() for word in options}
    found = re.search(rf"\b({_any_of(list(words))})\b", text)
    if found is None:
        return None
    others = {value: options[0] for value, options in _EXPRESSION_WORDS.items()}
    return _Named("expression", words[found[1]], found.span(), others)


def _beard(text: str) -> _Named | None:
    words = {
        re.sub("^a ", "", word): value
        for value, options in _BEARD_WORDS.items()
        for word in options
    }
    found = re.search(
        rf"(?<!without )\b(?:a )?({_any_of(list(words))})\b(?<!without a beard)", text
    )
    if found is None:
        return None
    return _Named(
        "beard",
        words[found[1]],
        found.span(),
        {value: options[0] for value, options in _BEARD_WORDS.items()},
    )


def _hair(text: str) -> list[_Named]:
    colors, lengths = _any_of(ATTRIBUTES["hair_color"]), _any_of(ATTRIBUTES["hair_length"])
    found = re.search(rf"\b(?:({lengths}) )?(?:({colors}) )?hair\b", text)
    named = []
    for group, attribute in ((1, "hair_length"), (2, "hair_color")):
        if found is not None and found[group]:
            value = found[group].replace(" ", "_")
            named.append(
                _Named(
                    attribute,
                    value,
                    found.span(group),
                    {v: v.replace("_", " ") for v in ATTRIBUTES[attribute]},
                )
            )
    return named


def _skin(text: str) -> _Named | None:
    values = ATTRIBUTES["skin"]
    zombie = re.search(r"\b(?:green )?zombie(?: face)?\b", text)
    if zombie is not None:
        return _Named("skin", "green", zombie.span(), {v: f"{v} person" for v in values})
    found = re.search(rf"\b({_any_of(values)}) skin\b", text)
    if found is not None:  # captions never say "green skin"
        return _Named("skin", found[1], found.span(1), {v: v for v in values if v != "green"})
    found = re.search(rf"\b({_any_of(values)})(?= (?:{_NOUNS})\b)", text)
    return (
        _Named("skin", found[1], found.span(), {v: v for v in values if v != "green"})
        if found
        else None
    )


def _clothes(text: str) -> _Named | None:
    values = ATTRIBUTES["clothes_color"]
    found = re.search(rf"\b({_any_of(values)}) clothes\b", text)
    return (
        _Named("clothes_color", found[1], found.span(1), {v: v for v in values}) if found else None
    )


def _style(text: str) -> _Named | None:
    forms = {
        "pixel": r"pixel art(?: picture)?|8-bit pixel picture",
        "sketch": r"(?:(?:pencil|black and white) )?sketch|line drawing",
    }
    others = {"toon": "a picture", "sketch": "a sketch", "pixel": "pixel art"}
    for value, form in forms.items():
        found = re.search(rf"\b(?:an? )?(?:{form})(?= of\b)", text)
        if found is not None:
            return _Named("style", value, found.span(), others)
    return None


def _named(text: str) -> list[_Named]:
    words = text.lower()
    found = [
        _style(words),
        _expression(words),
        _skin(words),
        *_hair(words),
        _beard(words),
        _clothes(words),
    ]
    return [name for name in found if name is not None]


def parse_attributes(text: str) -> dict[str, str]:
    """The ToonFaces attributes that a text names: "a sad person with red hair" -> expression sad, hair_color red."""
    return {name.attribute: name.value for name in _named(text)}


def _with_article(text: str) -> str:
    return re.sub(r"\b(a|an) (?=(\w))", lambda m: "an " if m[2] in "aeiou" else "a ", text)


def siblings(text: str) -> tuple[str, ...]:
    """The same text with one named attribute changed, for all its other values; empty if it names none."""
    made = []
    for name in _named(text):
        start, end = name.span
        words = [word for value, word in name.others.items() if value != name.value]
        made += [_with_article(text[:start] + word + text[end:]) for word in words]
    return tuple(dict.fromkeys(made))
