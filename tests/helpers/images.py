"""Small random images, and the pictures of a run."""

import torch

from dclip.data.images import square
from dclip.data.pictures import decode
from dclip.types import Images


def images16(n=6, seed=0, prefix="i"):
    pixels = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Images(pixels, tuple(f"{prefix}{i}" for i in range(n)))


def read_image(path, size):
    """A picture as float32 [3,size,size] in [-1, 1]."""
    return square(decode(path, str(path)), size)
