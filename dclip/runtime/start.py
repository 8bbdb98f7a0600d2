"""A process's start, without looking for garbage.

Imports and configurations make half a million objects that stay. Python looks through all of them
again and again for cycles that it could free, which takes a fifth of a run's start.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 500_000  # new objects before Python looks among them
_usual: list[tuple[int, int, int]] = []  # the thresholds to return to, while a process starts


@contextmanager
def starting() -> Iterator[None]:
    """Look for garbage rarely, until ``started`` or the end."""
    _usual.append(gc.get_threshold())
    gc.set_threshold(RARELY)
    try:
        yield
    finally:
        _resume()


def started() -> None:
    """Look for it as usual from here; after the first start of a process among new objects only."""
    if _usual and gc.get_freeze_count() == 0:
        gc.freeze()
    _resume()


def _resume() -> None:
    if _usual:
        gc.set_threshold(*_usual.pop())
