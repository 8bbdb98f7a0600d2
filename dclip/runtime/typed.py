"""Command lines as their reader types them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "run.py"  # of a checkout; a wheel has none


def program() -> list[str]:
    """The words that start dclip: ``python run.py`` in a checkout, ``dclip`` where it is installed."""
    if SCRIPT.is_file():
        return ["python", "run.py"]
    return ["dclip"]


def typed(words: Iterable[object]) -> str:
    """A command line that runs dclip with these words."""
    return shlex.join([*program(), *map(str, words)])
