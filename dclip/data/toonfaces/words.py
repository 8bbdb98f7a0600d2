"""What a sentence says of a person, in the words that the embedded CLIPs were trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dclip.data.toonfaces.captions import BEARD_WORDS, EXPRESSION_WORDS
from dclip.data.toonfaces.faces import ATTRIBUTES

_NOUNS = "face|person|human|character"

_STYLES = {
    "pixel": r"pixel art(?: picture)?|8-bit pixel picture",
    "sketch": r"(?:(?:pencil|black and white) )?sketch|line drawing",
}
_STYLE_NAMES = {"toon": "a picture", "sketch": "a sketch", "pixel": "pixel art"}


@dataclass(frozen=True)
class Mention:
    """An attribute's words in a text.

    Attributes:
        span: where they stand.
        wordings: how each value would read there.
    """

    attribute: str
    value: str
    span: tuple[int, int]
    wordings: Mapping[str, str]


def parse_attributes(text: str) -> dict[str, str]:
    """The attributes that a text names.

    "a sad person with red hair" -> expression sad, hair_color red.
    """
    return {mention.attribute: mention.value for mention in _mentions(text)}


def siblings(text: str) -> tuple[str, ...]:
    """The same text with one named attribute changed, for all its other values."""
    texts: dict[str, None] = {}
    for mention in _mentions(text):
        start, end = mention.span
        for value, words in mention.wordings.items():
            if value != mention.value:
                texts[_with_article(text[:start] + words + text[end:])] = None
    return tuple(texts)


def _mentions(text: str) -> Iterator[Mention]:
    words = text.lower()
    for search in (_style, _expression, _skin, _hair_length, _hair_color, _beard, _clothes):
        mention = search(words)
        if mention is not None:
            yield mention


def _with_article(text: str) -> str:
    def article(match: re.Match[str]) -> str:
        return "an " if match[2] in "aeiou" else "a "

    return re.sub(r"\b(a|an) (?=(\w))", article, text)


def _any_of(words: Iterable[str]) -> str:
    """A pattern of these words, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


def _plain(attribute: str) -> dict[str, str]:
    """An attribute's values as they are spoken: light_brown -> light brown."""
    return {value: value.replace("_", " ") for value in ATTRIBUTES[attribute]}


def _first(words: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The usual wording of every value."""
    return {value: options[0] for value, options in words.items()}


def _style(text: str) -> Mention | None:
    for value, form in _STYLES.items():
        match = re.search(rf"\b(?:an? )?(?:{form})(?= of\b)", text)
        if match is not None:
            return Mention("style", value, match.span(), _STYLE_NAMES)
    return None


def _expression(text: str) -> Mention | None:
    values: dict[str, str] = {}
    for value, options in EXPRESSION_WORDS.items():
        values |= dict.fromkeys(options, value)
    match = re.search(rf"\b({_any_of(values)})\b", text)
    if match is None:
        return None
    return Mention("expression", values[match[1]], match.span(), _first(EXPRESSION_WORDS))


def _skin(text: str) -> Mention | None:
    values = ATTRIBUTES["skin"]
    match = re.search(r"\b(?:green )?zombie(?: face)?\b", text)
    if match is not None:
        persons = {value: f"{value} person" for value in values}
        return Mention("skin", "green", match.span(), persons)
    wordings = {value: value for value in values if value != "green"}  # captions never say it
    match = re.search(rf"\b({_any_of(values)}) skin\b", text)
    if match is not None:
        return Mention("skin", match[1], match.span(1), wordings)
    match = re.search(rf"\b({_any_of(values)})(?= (?:{_NOUNS})\b)", text)
    if match is not None:
        return Mention("skin", match[1], match.span(), wordings)
    return None


def _hair_length(text: str) -> Mention | None:
    return _hair(text, 1, "hair_length")


def _hair_color(text: str) -> Mention | None:
    return _hair(text, 2, "hair_color")


def _hair(text: str, group: int, attribute: str) -> Mention | None:
    lengths, colors = _plain("hair_length"), _plain("hair_color")
    pattern = rf"\b(?:({_any_of(lengths.values())}) )?(?:({_any_of(colors.values())}) )?hair\b"
    match = re.search(pattern, text)
    if match is None or not match[group]:
        return None
    value = match[group].replace(" ", "_")
    return Mention(attribute, value, match.span(group), _plain(attribute))


def _beard(text: str) -> Mention | None:
    values: dict[str, str] = {}
    for value, options in BEARD_WORDS.items():
        for word in options:
            values[word.removeprefix("a ")] = value
    pattern = rf"(?<!without )\b(?:a )?({_any_of(values)})\b(?<!without a beard)"
    match = re.search(pattern, text)
    if match is None:
        return None
    return Mention("beard", values[match[1]], match.span(), _first(BEARD_WORDS))


def _clothes(text: str) -> Mention | None:
    wordings = _plain("clothes_color")
    match = re.search(rf"\b({_any_of(wordings)}) clothes\b", text)
    if match is None:
        return None
    return Mention("clothes_color", match[1], match.span(1), wordings)
