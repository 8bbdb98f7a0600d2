"""Whether the process behind a run is still working."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

# seconds by which two readings of one process's start may differ
CLOCK_DRIFT = 5.0


def this_process() -> dict[str, Any]:
    """Machine, number and start of this process, to be written where another may look for it."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
    }


def alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote ``status`` still works; other machines are believed.

    A number without a start, as older versions wrote it, may be another process's by now: not
    alive.
    """
    if status.get("host") != platform.node():
        return "host" in status
    started = status.get("process_started")
    if started is None:
        return False
    try:
        process = psutil.Process(int(status.get("pid", 0)))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - float(started)) < CLOCK_DRIFT
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def run_from(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` that processes of this machine name on their command lines.

    Relative to it. Processes whose command line may not be read are left out.
    """
    for process in psutil.process_iter(["cmdline"]):
        for word in process.info["cmdline"] or ():
            if Path(word).is_relative_to(folder):
                yield Path(word).relative_to(folder)
