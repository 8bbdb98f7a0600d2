"""Curves of a training, from Lightning into the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from dclip.record.record import Record


class CurveLogger(Logger):
    """Sends what Lightning logs to the run's record, and to W&B where it runs."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "dclip"

    @property
    def version(self) -> str:
        """Lightning asks for it; a run's folder has no versions."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line to the run's curves."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        self.record.curve(values, step or 0)
        self.record.send(lambda online: online.log({**values, "step": step or 0}))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing to do: the record already holds the configuration."""
