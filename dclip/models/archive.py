"""Zip archives of weights, before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from dclip.errors import need

MOST = 8  # times its own size that an archive may unpack to: weights are stored as they are
SMALL = 2**26  # bytes that any archive may unpack to


def refuse_bomb(file: Path) -> None:
    """DclipError for a zip that says it unpacks to far more than it holds; anything else passes."""
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except zipfile.BadZipFile:  # no zip, or a damaged one: whoever reads it says so
        return
    size = file.stat().st_size
    need(
        unpacked <= max(MOST * size, SMALL),
        f"{file} has {size / 1e6:.1f} MB and would unpack to {unpacked / 1e6:.0f} MB, which weights "
        "never do; it was refused. Fetch it again from its publisher",
    )
