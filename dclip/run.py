"""One run: its settings, its networks, and the record that it writes. Stages get this, and derive nothing anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from dclip.config import Config, Task
from dclip.models.networks import Networks
from dclip.models.unet import DiffusionModel
from dclip.record.record import Record
from dclip.runtime.device import device_of

T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class Run:
    """What every stage of a run may use.

    Attributes:
        cfg: the settings; ``cfg.seed`` decides all noise.
        networks: built once; None for what the run does not need.
        record: the run's folder; a quiet one writes nothing (the demo page, notebooks).
    """

    cfg: Config
    networks: Networks
    record: Record

    @property
    def model(self) -> DiffusionModel:
        """The original diffusion model."""
        return self.networks.model

    def task(self, kind: type[T]) -> T:
        """The task, as the option that the caller is for. TypeError if it is another."""
        if not isinstance(self.cfg.task, kind):
            raise TypeError(f"{kind.__name__} is needed, not {type(self.cfg.task).__name__}")
        return self.cfg.task

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return device_of(self.cfg.trainer)
