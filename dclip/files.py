"""Files on disk: whole or not there. Imports nothing of dclip."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

# what numpy raises over a file of arrays that is missing or damaged
UNREADABLE = (OSError, ValueError, EOFError, BadZipFile)


def write_text(path: Path, text: str) -> None:
    """Write a text whole, as UTF-8."""
    atomic_save(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(content, indent=1, default=str) + "\n"
    write_text(path, text)


def write_rows(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as a CSV file, whole or not at all."""

    def write(temporary: Path) -> None:
        # a file's name may be bytes that are no text
        with temporary.open("w", -1, "utf-8", "backslashreplace", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))

    atomic_save(path, write)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return content


def cache_dir() -> Path:
    """Where dclip keeps what it can make again.

    ``$DCLIP_CACHE``, or ``dclip`` in the user's cache folder.
    """
    own = os.environ.get("DCLIP_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dclip"


def atomic_save(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it.

    A file is whole or not there. OSError names ``path``, not the temporary file.
    """
    temporary = _temporary_beside(path)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except Exception as error:  # libraries say in many ways that a disk is full
        if shutil.disk_usage(path.parent).free < 2**16:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        own = (None, str(temporary))
        if isinstance(error, OSError) and error.errno is not None and error.filename in own:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    """A new, empty file in the folder of ``path``, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
        )
    except OSError as error:
        error.filename = str(path)
        raise
    os.close(handle)
    return Path(name)
