"""``method=latent_opt`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config import MethodOption, option
from dclip.config.options import _positive, _weights
from dclip.errors import need

# what latent optimisation pulls at; "global" as published
LatentLoss = StrEnum(
    "LatentLoss",
    ["contrastive", "spherical", "single", "global", "directional", "contrastive_directional"],
)


@option("method", "latent_opt")
@dataclass
class LatentOpt(MethodOption):
    """Optimise the latent itself through the whole chain of ``s_opt`` DDIM steps, for ``guidance.targets``.

    An image stops when its target's probability reaches ``stop_at`` (1: never), or when nothing has got better for
    ``patience`` steps. With a guidance, images are then sampled under it from the latents that were found.
    """

    steps: int = 30
    lr: float = 2e-2
    s_opt: int = 6
    objective: LatentLoss = LatentLoss.contrastive
    stop_at: float = 0.9
    patience: int = 15
    l1: float = 0.0  # to the image that the latent made before
    id: float = 0.0
    norm: float = 10.0  # weight of keeping the latent as long as it was
    batch: int = 8
    checkpointing: bool = (
        True  # compute steps again in the backward pass: memory does not grow with s_opt
    )

    def __post_init__(self) -> None:
        _positive(
            "method",
            steps=self.steps,
            lr=self.lr,
            patience=self.patience,
            batch=self.batch,
            stop_at=self.stop_at,
        )
        _weights("method", l1=self.l1, id=self.id, norm=self.norm)
        need(
            self.stop_at <= 1,
            f"method.stop_at={self.stop_at} is a probability; choose more than 0, up to 1 (never)",
        )
