"""What the optimisation of latents reads of its option. Imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

# what latent optimisation pulls at; "global" as published
LatentObjective = StrEnum(
    "LatentObjective",
    ["contrastive", "spherical", "single", "global", "directional", "contrastive_directional"],
)


class LatentOptions(Protocol):
    """The settings of a latent optimisation; ``options.LatentOpt`` explains them."""

    steps: int
    lr: float
    s_opt: int
    objective: LatentObjective
    stop_at: float
    patience: int
    l1: float
    id: float
    norm: float
    batch: int
    checkpointing: bool
