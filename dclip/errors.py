"""Bad input, said in one line. Imports nothing, so that everything may import it."""

from __future__ import annotations

LONGEST_PATH = 100  # characters of it that a message shows


class DclipError(Exception):
    """Bad input, said in one line: cause, the exact setting, the remedy."""


class UnusableError(DclipError):
    """Data that is there and cannot be used: fetching what is missing would not help."""


def need(condition: bool, message: str) -> None:
    """DclipError with the message unless the condition holds."""
    if not condition:
        raise DclipError(message)


def one_line(error: BaseException | str, most: int | None = 200) -> str:
    """Another library's message as part of ours: one line of at most ``most`` characters."""
    return " ".join(str(error).split())[:most]


def disk_trouble(error: OSError, advice: str) -> DclipError:
    """What the system refuses to do with a file, as one line: the file (shortened), the reason."""
    place = str(error.filename or "a file")
    if len(place) > LONGEST_PATH:
        place = f"{place[:LONGEST_PATH]}..."
    return DclipError(f"{place}: {error.strerror or error}; {advice}")
