"""Words of a command line as Hydra's grammar takes them: texts and paths in quotes.

In a shell one writes ``input=photo (1).png`` or ``edit.target=größer, älter``. Hydra's lexer knows
neither brackets in a name nor letters outside ASCII, and reads ``2024_01`` as a number. So a value
that it would not take as the text it is gets quotes; ``~`` is the user's own folder. What is in
Hydra's grammar already (quotes, lists, ``${...}``, in a sweep commas) stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from dclip.config import OPTIONS, Config
from dclip.errors import DclipError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@/-]*")  # of a setting or group
INTERPOLATION = re.compile(r"\$\{[^{}]+\}")
TEXTS: tuple[object, ...] = (str, str | None)
MAY_BE_TEXTS: tuple[object, ...] = (Any, list[str])
BRACKETS = {"(": ")", "[": "]", "{": "}"}
PARSER = OverridesParser.create()


def quoted(text: str | os.PathLike[str]) -> str:
    """A text or path as the value of a setting, in quotes where Hydra would not take it as it is."""
    value = os.fspath(text)
    parsed = _parsed(value)
    if parsed is not None and parsed.value() == value:
        return value
    return in_quotes(value)


def in_quotes(text: str) -> str:
    """A text as the value of a setting, whatever is in it."""
    return QuotedString(text, Quote.single).with_quotes()


def expanded(text: str) -> str:
    """A path with the user's own folder in place of ``~``."""
    if text == "~" or text.startswith("~/"):
        return f"{Path.home()}{text[1:]}"
    return text


def as_settings(words: Iterable[str], sweep: bool = False) -> list[str]:
    """Words of a command line, quoted where they must be; in a ``sweep`` commas separate values.

    DclipError for a name that is no valid text.
    """
    return [_setting(word, sweep) for word in words]


def comma_note(words: Iterable[str], spaced: bool = False) -> str:
    """How to write a text that has a comma, where a sweep takes one apart; else empty.

    ``spaced``: only where a space follows the comma, as in a sentence.
    """
    for word in words:
        name, _, value = word.partition("=")
        if not holds_text(name) or (spaced and not re.search(r",\s", value)):
            continue
        texts = split(value)
        if len(texts) > 1 and _parsed_sweep(value) != "FUNCTION":
            whole = in_quotes(", ".join(map(_plain, texts)))
            return (
                f"in a sweep a comma separates values, so {name} has {len(texts)}; "
                f'for a single one with a comma write "{name}={whole}"'
            )
    return ""


def _plain(value: str) -> str:
    """A value without its quotes."""
    parsed = _parsed(value)
    content = parsed and parsed.value()
    return content if isinstance(content, str) else value


def _setting(word: str, sweep: bool) -> str:
    name, sign, value = word.partition("=")
    _check_letters(word)
    if not sign or not value or NAME.fullmatch(name) is None:
        return word
    if not sweep:
        return f"{name}={_value(name, value)}"
    if _parsed_sweep(value) == "FUNCTION":
        return word
    parts = split(value)
    values = [_value(name, part) for part in parts]
    if values == parts:
        return word
    sign = ", " if re.search(r",\s", value) else ","
    return f"{name}={sign.join(values)}"


def _check_letters(word: str) -> None:
    """A file's name may be bytes that are no text; no file of a run could hold it."""
    if "${" in INTERPOLATION.sub("", word):
        raise DclipError(
            f"{word}: ${{ begins the name of another setting, as in ${{seed}}, and cannot be part "
            "of a text or path; use a name without it"
        )
    try:
        word.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = word.encode("utf-8", "backslashreplace").decode()
        raise DclipError(
            f"{shown}: the name is not valid UTF-8; rename the file, or give its folder"
        ) from error


def _value(name: str, value: str) -> str:
    if holds_text(name):
        return _text(value)
    parsed = _parsed(value)
    if parsed is None and value.startswith("[") and value.endswith("]"):
        return f"[{','.join(_text(part) for part in split(value[1:-1]))}]"
    if parsed is None or (may_hold_text(name) and _is_texts(parsed)):
        return _text(value)
    return value


def _is_texts(parsed: Override) -> bool:
    """Whether a value is a text, or a text that was taken apart at its commas."""
    if not parsed.is_sweep_override():
        return isinstance(parsed.value(), str)
    if _sweep_kind(parsed) != "SIMPLE":
        return False
    return all(isinstance(part, str) for part in parsed.sweep_iterator())


def _text(value: str) -> str:
    """A value that is meant as a text."""
    parsed = _parsed(value)
    if parsed is None or parsed.is_sweep_override():
        return quoted(expanded(value))
    content = parsed.value()
    if content is None or isinstance(content, bool):
        return value  # null, and true, which no setting takes for a text
    if not isinstance(content, str):
        return quoted(value)  # a number, a list
    path = expanded(content)
    return value if path == content else quoted(path)


def split(value: str) -> list[str]:
    """The values between the commas that are in no quotes and no brackets."""
    parts = _split(value, brackets=True)
    if parts is None:  # a bracket without its partner is a letter like any other
        parts = _split(value, brackets=False)
    assert parts is not None
    return [part.strip() for part in parts]


def _split(value: str, brackets: bool) -> list[str] | None:
    """None where brackets do not match."""
    parts, start, at = [], 0, 0
    waiting: list[str] = []
    while at < len(value):
        letter = value[at]
        end = _end_of_quotes(value, at, start)
        if end:
            at = end
        elif brackets and letter in BRACKETS:
            waiting.append(BRACKETS[letter])
        elif brackets and letter in BRACKETS.values():
            if not waiting or waiting.pop() != letter:
                return None
        elif letter == "," and not waiting:
            parts.append(value[start:at])
            start = at + 1
        at += 1
    if waiting:
        return None
    return [*parts, value[start:]]


def _end_of_quotes(value: str, at: int, start: int) -> int:
    """Where the quotes end that begin here and hold a whole value; 0 where none do."""
    if value[at] not in "'\"" or value[start:at].strip(" [{("):
        return 0
    match = re.compile(r"(['\"])(?:\\.|(?!\1).)*\1(?=\s*(?:[,\])}]|$))", re.DOTALL).match(value, at)
    if match is None:
        return 0
    return match.end() - 1


# ------------------------------------------------------------------------- Hydra's own reading


@lru_cache(maxsize=4096)
def _parsed(value: str) -> Override | None:
    """A value as Hydra reads it, for reading only; None where it cannot."""
    try:
        return PARSER.parse_override(f"x={value}")
    except HydraException:
        return None


def _parsed_sweep(value: str) -> str | None:
    parsed = _parsed(value)
    if parsed is None or not parsed.is_sweep_override():
        return None
    return _sweep_kind(parsed)


def _sweep_kind(parsed: Override) -> str:
    """``SIMPLE`` for values between commas, ``FUNCTION`` for choice(...), range(...), glob(...)."""
    if parsed.value_type is not None and parsed.value_type.name == "SIMPLE_CHOICE_SWEEP":
        return "SIMPLE"
    return "FUNCTION"


# ------------------------------------------------------------------------- what a setting holds


def holds_text(name: str) -> bool:
    """Whether a setting is a text or a path in all options that have it."""
    hints = _hints(name)
    return bool(hints) and all(hint in TEXTS for hint in hints)


def may_hold_text(name: str) -> bool:
    """Whether a setting may be a text, or a list of them."""
    return any(hint in (*TEXTS, *MAY_BE_TEXTS) for hint in _hints(name))


def _hints(name: str) -> list[object]:
    """The types that a setting has, in every option that has it."""
    *groups, last = name.split(".")
    owners: list[type] = [Config]
    for place, group in enumerate(groups):
        below: list[type] = []
        if place == 0:
            below += OPTIONS.get(group, {}).values()
        for owner in owners:
            below += _classes(_fields(owner).get(group))
        owners = below
    hints = [_fields(owner).get(last) for owner in owners]
    return [hint for hint in hints if hint is not None]


def _classes(hint: object) -> list[type]:
    """The dataclasses that a type names."""
    return [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]


@cache
def _fields(owner: type) -> dict[str, object]:
    if not is_dataclass(owner):
        return {}
    try:
        return get_type_hints(owner)
    except NameError:  # a plug-in's types, imported for type checkers only
        return {}


def plain_words(words: Sequence[str]) -> list[str]:
    """Words with ``~`` for commands that Hydra does not read: ``output=~/scores``."""
    result = []
    for word in words:
        name, sign, value = word.partition("=")
        result.append(f"{name}{sign}{expanded(value)}")
    return result
