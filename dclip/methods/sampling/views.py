"""What CLIP sees of an image while it guides: mixtures of x_t and x0, and random views of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config import Guided, Sees
from dclip.diffusion.noise import ImageNoise


class Views:
    """Random squares of images, turned round and noisy, drawn from each image's own generator."""

    def __init__(self, options: Guided, ids: Sequence[str], seed: int) -> None:
        self.options, self.noise = options, ImageNoise(ids, seed)
        self.plain = not (options.cutouts or options.noise or options.flip)

    def boxes(self) -> Tensor:
        """Affine maps [C, N, 2, 3] from a view to the image: C squares an image, flipped or not.

        Both have coordinates in [-1, 1].
        """
        o, count = self.options, max(1, self.options.cutouts)
        draws = [torch.rand(4, count, generator=g) for g in self.noise.generators]
        size, left, top, coin = torch.stack(draws, 2)  # each [C, N]
        side = torch.ones_like(size)
        if o.cutouts:
            side = o.cut_min + (o.cut_max - o.cut_min) * size
        turn = torch.ones_like(size)
        if o.flip:
            turn = torch.where(coin < 0.5, -1.0, 1.0)
        x, y = (1 - side) * (2 * left - 1), (1 - side) * (2 * top - 1)
        zero = torch.zeros_like(side)
        rows = [torch.stack([turn * side, zero, x], -1), torch.stack([zero, side, y], -1)]
        return torch.stack(rows, -2)

    def cut(self, images: Tensor, boxes: Tensor | None, size: int) -> Tensor:
        """The views [C*N,3,size,size] of images [N,3,H,W], view by view; as they are without boxes."""
        if boxes is None:
            return images
        count, n = boxes.shape[:2]
        theta = boxes.flatten(0, 1).to(images)
        grid = F.affine_grid(theta, [count * n, images.shape[1], size, size], align_corners=False)
        copies = images.repeat(count, 1, 1, 1)
        views = F.grid_sample(copies, grid, padding_mode="border", align_corners=False)
        if self.options.noise:
            noise = self.noise.like(views.new_empty(n, count, *views.shape[1:]))
            views = views + self.options.noise * noise.transpose(0, 1).flatten(0, 1)
        return views


def share_of_x0(sees: Sees, a: float) -> float:
    """How much of x0 (the rest: x_t) there is in what CLIP sees."""
    if sees is Sees.x_t:
        return 0.0
    if sees is Sees.blend:
        return math.sqrt(1 - a)
    return 1.0


def slope(sees: Sees, a: float) -> float:
    """d(what CLIP sees) / d(x_t) while eps is a constant."""
    share = share_of_x0(sees, a)
    return share / math.sqrt(a) + 1 - share
