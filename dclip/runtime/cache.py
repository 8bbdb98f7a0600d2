"""Files in the cache folder. Where it cannot be written, a run goes on without."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from dclip.errors import DclipError
from dclip.files import atomic_save, cache_dir

log = logging.getLogger("dclip")


def can_keep() -> bool:
    """Whether files can be kept; to be asked before the work that makes them.

    Raises:
        DclipError: they cannot, in a folder that $DCLIP_CACHE names.
    """
    return _can_write(cache_dir())


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file of the cache; it is left out where that fails."""
    if not can_keep():
        return
    try:
        atomic_save(path, write)
    except OSError as error:
        _warn(cache_dir(), error.strerror or str(error))


@cache
def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        reason = error.strerror or str(error)
        if os.environ.get("DCLIP_CACHE"):
            raise DclipError(
                f"DCLIP_CACHE={folder} cannot be written ({reason}); "
                "choose another folder, or unset it"
            ) from error
        _warn(folder, reason)
        return False


@cache
def _warn(folder: Path, reason: str) -> None:
    """Say it once."""
    log.warning(
        "%s cannot be written (%s), so nothing is kept for the next run; "
        "set DCLIP_CACHE to a folder that can be",
        folder,
        reason,
    )
