"""LMDBs, opened once, and only if they are whole. No torch."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dclip.errors import DclipError, UnusableError

# Touches every value. Where a page is not in the file, the system kills the process (SIGBUS).
TOUCH_ALL = """
import sys, lmdb
environment = lmdb.open(sys.argv[1], readonly=True, lock=False, readahead=False, meminit=False)
with environment.begin(buffers=True) as transaction:
    for key, value in transaction.cursor():
        bytes(value[:1]), bytes(value[-1:])
"""


@cache
def environment(path: Path) -> Any:
    """The open LMDB. DclipError for one that cannot be read, or of which a part is missing."""
    if find_spec("lmdb") is None:
        raise DclipError(
            f"{path} is an LMDB, and the lmdb package is not installed; pip install 'dclip[lmdb]'"
        )
    import lmdb

    try:
        opened = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DclipError(
            f"{path} is not a readable LMDB ({error}); fetch or make it again"
        ) from error
    _check_whole(path, opened)
    return opened


def _check_whole(path: Path, opened: Any) -> None:
    """Refuse a file that was cut off, before anything reads where it ends.

    A whole one may also be shorter than its pages say, as the last ones were never written; so
    another process looks.
    """
    file = path / "data.mdb"
    whole = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    missing = whole - file.stat().st_size
    if missing <= 0:
        return
    command = [sys.executable, "-c", TOUCH_ALL, str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        opened.close()
        raise UnusableError(
            f"{file} is cut off: {missing:,} of its {whole:,} bytes are missing; "
            "fetch or copy it again"
        )


def value(path: Path, key: str) -> bytes | None:
    """What is under a key; None if nothing is."""
    with environment(path).begin() as transaction:
        found: bytes | None = transaction.get(key.encode())
        return found
