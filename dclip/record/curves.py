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

    name = property(lambda self: "dclip")  # type: ignore[assignment]
    version = property(lambda self: "")  # type: ignore[assignment]

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """One line of curves."""
        values = {k: v for k, v in metrics.items() if k != "epoch"}
        self.record.curve(values, step or 0)
        if self.record.wandb is not None:
            self.record.wandb.log(values)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The record already holds the configuration."""
