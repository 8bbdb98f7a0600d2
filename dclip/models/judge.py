"""A judge of drawn pictures: which attributes does a picture show, and where are its parts?

It is trained apart from CLIP and never used in a loss, so that an edit cannot please it by
accident.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.data.domain import Looks


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Judge(nn.Module):
    """A small encoder-decoder: a classifier per attribute, and a part map at full resolution.

    Args:
        looks: what it tells apart.
        width: channels at full resolution.
    """

    def __init__(self, looks: Looks, width: int = 20) -> None:
        super().__init__()
        self.looks = looks
        widths = [width, 2 * width, 3 * width, 4 * width, 5 * width]
        self.stem = nn.Sequential(_conv(3, width), _conv(width, width))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.down.append(nn.Sequential(_conv(fine, coarse, 2), _conv(coarse, coarse)))
        for coarse, fine in pairwise(reversed(widths)):
            self.up.append(_conv(coarse + fine, fine))
        self.parts = nn.Conv2d(width, len(looks.parts), 1)
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * (looks.size // 16) ** 2, 128),
            nn.ReLU(inplace=True),
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(128, len(values)) for name, values in looks.attributes.items()}
        )

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps from full resolution down to a sixteenth of it."""
        levels = [self.stem(x)]
        for block in self.down:
            levels.append(block(levels[-1]))
        return levels

    def classify(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """Logits [N, values] of every attribute."""
        code = self.hidden(levels[-1])
        return {name: head(code) for name, head in self.heads.items()}

    def segment(self, levels: list[Tensor]) -> Tensor:
        """Part logits [N,parts,size,size]."""
        y, *skips = levels[::-1]
        for block, skip in zip(self.up, skips, strict=True):
            y = block(torch.cat([F.interpolate(y, scale_factor=2.0), skip], 1))
        parts: Tensor = self.parts(y)
        return parts

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Images [N,3,size,size] in [-1, 1] -> (logits per attribute, part logits)."""
        levels = self.encode(x)
        return self.classify(levels), self.segment(levels)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Hidden features [N,128]: what the classifiers see."""
        hidden: Tensor = self.hidden(self.encode(self._fit(images))[-1])
        return hidden

    @torch.no_grad()
    def attributes(self, images: Tensor) -> dict[str, Tensor]:
        """Most likely class index [N] of every attribute, for images of any size in [-1, 1]."""
        return {
            name: logits.argmax(1)
            for name, logits in self.classify(self.encode(self._fit(images))).items()
        }

    def sees(self, images: Tensor) -> list[dict[str, str]]:
        """What it takes every image for: the most likely value of each attribute."""
        seen: list[dict[str, str]] = [{} for _ in range(len(images))]
        for name, classes in self.attributes(images).items():
            for one, index in zip(seen, classes.tolist(), strict=True):
                one[name] = self.looks.attributes[name][index]
        return seen

    @torch.no_grad()
    def part_map(self, images: Tensor) -> Tensor:
        """Part index [N,size,size] of every pixel."""
        parts: Tensor = self.segment(self.encode(self._fit(images))).argmax(1)
        return parts

    def _fit(self, images: Tensor) -> Tensor:
        x, size = images.float().clamp(-1, 1), self.looks.size
        if x.shape[-2:] == (size, size):
            return x
        return F.interpolate(x, (size, size), mode="bilinear", antialias=True)
