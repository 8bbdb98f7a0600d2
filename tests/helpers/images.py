"""Small random images."""

import torch

from dclip.types import Images


def images16(n=6, seed=0, prefix="i"):
    pixels = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Images(pixels, tuple(f"{prefix}{i}" for i in range(n)))
