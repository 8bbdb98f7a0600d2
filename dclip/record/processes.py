"""Whether the process behind a run is still at work."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS = (
    b"dclip",
    b"run.py",
    b"pytest",
    b"loky",
    b"submitit",
    b"ray::",
)  # command lines of what runs are: launchers' workers too


def alive(status: Mapping[str, Any]) -> bool:
    """Whether the process of a run still works. What other machines run is believed."""
    if status.get("host") != platform.node():
        return "host" in status
    pid = int(status.get("pid", 0))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    told = Path(f"/proc/{pid}/cmdline")
    if pid == os.getpid() or not told.is_file():
        return True
    words = told.read_bytes()  # another program may have got its number since
    return any(word in words for word in OURS) and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, IndexError):
        return False
