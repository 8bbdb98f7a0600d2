"""What the fine-tuning loop reads of its option. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from dclip.config import Config, Lora

if TYPE_CHECKING:
    from dclip.diffusion.timesteps import Pair
    from dclip.methods.contract import Cost, ImageCounts
    from dclip.methods.diffusionclip.loss import Terms
    from dclip.methods.diffusionclip.objectives import Work


class LrSchedule(StrEnum):
    """How the learning rate changes while fine-tuning."""

    constant = "constant"
    paper = "paper"  # x 1.2 (linearly) every 50 images' worth of updates
    code = "code"  # x 1.3 every epoch (exponentially)
    cosine = "cosine"  # up over the first twentieth of the batches, then down to 0 along a cosine


class LearningOptions(Protocol):
    """The settings of the training loop; ``options.Learning`` explains them."""

    epochs: int
    batch: int
    lr: float
    lr_schedule: LrSchedule
    s_train: int
    shuffle: bool
    save_every: int
    keep_epochs: int | None

    @property
    def paired(self) -> bool:
        """Whether each step is compared with what the original model predicts there."""
        ...

    @property
    def needs_latents(self) -> bool:
        """Whether the objective starts from the latents of the training images."""
        ...

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """What learning takes."""
        ...

    def updates(self, pairs: Sequence[Pair]) -> int:
        """Optimiser steps of one batch."""
        ...

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The objective: the loss terms of every update of a batch."""
        ...


class TuningOptions(LearningOptions, Protocol):
    """The settings of a fine-tuning of the network; ``options.DiffusionClip`` explains them."""

    lora: Lora
