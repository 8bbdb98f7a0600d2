"""What the optimisation of latents reads of its option. Imports nothing heavy."""

from __future__ import annotations

from typing import Protocol

from dclip.methods.sampling.guidances import ClipGuidance


class LatentOptions(Protocol):
    """The settings of a latent optimisation; ``options.LatentOpt`` explains them."""

    steps: int
    lr: float
    clip: float
    unit_gradients: bool
    keep_best: bool
    s_opt: int
    stop_at: float
    patience: int
    l1: float
    id: float
    norm: float
    batch: int
    checkpointing: bool

    @property
    def pull(self) -> ClipGuidance:
        """What the latents are optimised for."""
        ...
