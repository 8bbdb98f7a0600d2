"""dclip's own command line in a process of its own: how it is started, and how it is ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from dclip.runtime.typed import SCRIPT

PATIENCE = 60.0  # seconds that a run has to stop when it is asked to


def program(script: Path | None = None) -> list[str]:
    """The words that start dclip: ``script``, else this checkout's run.py, or the installed package."""
    script = script or SCRIPT
    if script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-m", "dclip.cli"]


def end(process: subprocess.Popen[Any], patience: float = PATIENCE) -> None:
    """Ask a run to stop, which leaves what it needs to be resumed; kill it if it does not."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
