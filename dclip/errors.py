"""Bad input, said in one line. Imports nothing, so that everything may import it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

LONGEST_PATH = 100  # characters of it that a message shows


class DclipError(Exception):
    """Bad input, said in one line: cause, the exact setting, the remedy."""


class UnusableError(DclipError):
    """Data that is there and cannot be used: fetching what is missing would not help."""


def need(condition: bool, message: str) -> None:
    """DclipError with the message unless the condition holds."""
    if not condition:
        raise DclipError(message)


ALIKE = 0.65  # of two names that may be one with a slip


def nearest(name: str, names: Sequence[str]) -> str:
    """The name that is written most like this one, whatever the case; empty where none is."""
    lower = {one.lower(): one for one in reversed(names)}
    close = difflib.get_close_matches(name.lower(), lower, 1, ALIKE)
    return lower[close[0]] if close else ""


def choose(name: str, names: Sequence[str]) -> str:
    """The end of a refusal of a name that is none of ``names``: the likely one, then all."""
    likely = nearest(name, names)
    if likely:
        return f"; did you mean {likely}? Choose {', '.join(names)}"
    return f"; choose {', '.join(names)}"


def counted(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(error: BaseException | str, most: int | None = 200) -> str:
    """Another library's message as part of ours: one line of at most ``most`` characters."""
    return " ".join(str(error).split())[:most]


def disk_trouble(error: OSError, advice: str) -> DclipError:
    """What the system refuses to do with a file, as one line: the file (shortened), the reason."""
    place = str(error.filename or "a file")
    if len(place) > LONGEST_PATH:
        place = f"{place[:LONGEST_PATH]}..."
    return DclipError(f"{place}: {error.strerror or error}; {advice}")


def unwritable(output: object, error: OSError) -> DclipError:
    """The refusal of an ``output`` folder that the system does not let us make or fill."""
    return DclipError(
        f"output={output} cannot be written ({error.strerror}); "
        "choose another folder with output=..."
    )


def output_trouble(error: OSError, output: str) -> DclipError:
    """What the system refuses to do with a file of a run in this ``output`` folder."""
    return disk_trouble(error, f"check the disk's space and rights (output={output})")
