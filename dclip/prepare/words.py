"""Reading the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dclip.errors import DclipError
from dclip.prepare.quoting import expanded, plain_words


def parse_words(words: Sequence[str], names: Sequence[str], command: str) -> dict[str, str]:
    """``name=value`` words as settings. DclipError for a name that the command does not have."""
    settings = {}
    for word in plain_words(words):
        name, sign, value = word.partition("=")
        if not sign or name not in names:
            choices = ", ".join(f"{choice}=" for choice in names)
            raise DclipError(f"{word}: {command} knows {choices}")
        settings[name] = value
    return settings


def paths_in(value: str) -> list[str]:
    """Paths between commas; one that has a comma itself may stand alone."""
    if Path(value).exists():
        return [value]
    return [expanded(path) for path in value.split(",")]
