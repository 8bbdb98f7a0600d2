"""Random numbers that belong to an image: batch size and number of devices cannot change a picture."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def image_seed(seed: int, name: str) -> int:
    """A 63-bit seed from the run's seed and the image's id; the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little") >> 1


class ImageNoise:
    """One generator an image (on the CPU, so that a GPU draws the same numbers)."""

    def __init__(self, ids: Sequence[str], seed: int = 0) -> None:
        self.generators = [torch.Generator().manual_seed(image_seed(seed, name)) for name in ids]

    def like(self, x: Tensor) -> Tensor:
        """The next standard normal numbers, in the shape [N, ...] and on the device of ``x``."""
        if len(x) != len(self.generators):
            raise ValueError(
                f"noise for {len(self.generators)} images was asked for a batch of {len(x)}"
            )
        drawn = torch.empty(x.shape)
        for row, generator in zip(drawn, self.generators, strict=True):
            row.normal_(generator=generator)
        return drawn.to(x.device, x.dtype)


def add_noise(x0: Tensor, noise: Tensor, a: float) -> Tensor:
    """x_t of the forward process in closed form: sqrt(a) x0 + sqrt(1-a) noise, a = alpha_bar(t) (Ho et al. 2020, Eq. 4)."""
    return math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
