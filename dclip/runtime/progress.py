"""Progress bars, on the screen and in run.log."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dclip.config import Trainer
from dclip.runtime import parallel

log = logging.getLogger("dclip")

if TYPE_CHECKING:
    Bar = tqdm[Any]
else:
    Bar = tqdm


class LoggedBar(Bar):
    """A bar that leaves its last line in run.log, too."""

    def close(self) -> None:
        """End the bar."""
        if not self.disable:
            log.debug("%s", self)
        super().close()


def progress_bar(what: str, total: int, initial: int = 0, shown: bool = True) -> Any:
    """A progress bar. Where nobody watches (a log file), it prints a line every ten seconds.

    A program that reads it says in ``DCLIP_PROGRESS`` how many seconds it wants instead.
    """
    interval = float(os.environ.get("DCLIP_PROGRESS", 10.0))
    if sys.stderr.isatty():
        interval = 0.1
    return LoggedBar(
        total=total,
        initial=initial,
        desc=what,
        disable=not shown,
        mininterval=interval,
        ncols=100,
        file=sys.stderr,
    )


def shows_progress(options: Trainer) -> bool:
    """Whether this process draws progress bars."""
    return options.progress and parallel.rank() == 0
