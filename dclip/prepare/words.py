"""Reading the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence

from dclip.errors import DclipError


def told(words: Sequence[str], known: Sequence[str], command: str) -> dict[str, str]:
    """``name=value`` words. DclipError for any other, with the choices."""
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or name not in known:
            raise DclipError(f"{word}: {command} knows {', '.join(f'{k}=' for k in known)}")
        found[name] = value
    return found
