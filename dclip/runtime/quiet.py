"""Keep Lightning's and torch's hints off the screen while a trainer works, and only then."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("lightning.pytorch", "lightning.fabric")

HINTS = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*ckpt_path=.*",
    ".*in eval mode at the start of training.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*mid-epoch.*",
    ".*no `val_dataloader`.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide hints that are wrong or useless for our runs; warnings of any other kind still show."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in HINTS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
