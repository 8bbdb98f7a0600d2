"""What the verbs hand to each other: images with names, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Facts = Mapping[str, str]  # attribute -> value


@dataclass(frozen=True)
class Images:
    """A set of images.

    Attributes:
        pixels: float32 [N,3,H,W] in [-1, 1].
        ids: one name an image, unique; the seed of its own random generator.
        facts: what is truly known of every picture; empty where nothing is.
        latents: float32 [N,3,H,W] at ``sampler.t0`` where the pictures were made from them.
    """

    pixels: Tensor
    ids: tuple[str, ...]
    facts: tuple[Facts, ...] = ()
    latents: Tensor | None = None

    def __post_init__(self) -> None:
        x = self.pixels
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"images must be [N,3,H,W], not {list(x.shape)}")
        if not x.is_floating_point() or (len(x) and (x.min() < -1.001 or x.max() > 1.001)):
            raise ValueError(
                "images must be floats in [-1, 1]; divide bytes by 127.5 and subtract 1"
            )
        if len(self.ids) != len(x) or len(set(self.ids)) != len(x):
            raise ValueError(
                f"{len(x)} images need as many different ids, not {len(set(self.ids))}"
            )
        if self.facts and len(self.facts) != len(x):
            raise ValueError(f"{len(x)} images but facts about {len(self.facts)}")
        if self.latents is not None and self.latents.shape != x.shape:
            raise ValueError(f"images {list(x.shape)} but latents {list(self.latents.shape)}")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int]) -> Images:
        """The images at these positions."""
        i = list(index)
        ids = tuple(self.ids[k] for k in i)
        facts = tuple(self.facts[k] for k in i if self.facts)
        latents = None if self.latents is None else self.latents[i]
        return Images(self.pixels[i], ids, facts, latents)

    def repeat(self, count: int) -> Images:
        """``count`` variants of every image next to each other, their ids numbered (if not 1)."""
        if count == 1:
            return self
        ids: list[str] = []
        facts: list[Facts] = []
        for name in self.ids:
            ids += [f"{name}_v{k + 1}" for k in range(count)]
        for one in self.facts:
            facts += [one] * count
        return Images(self.pixels.repeat_interleave(count, 0), tuple(ids), tuple(facts))


@dataclass(frozen=True)
class Edited:
    """Images before and after an edit, and the true result where it is known.

    All pixels [N,3,H,W] in [-1, 1].

    Attributes:
        region: where the edit may act, [N,1,H,W] from 0 (nowhere) to 1; None where nobody says.
    """

    source: Images
    result: Tensor
    truth: Tensor | None = None
    region: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_region()
        for name in ("result", "truth"):
            value = getattr(self, name)
            if value is not None and value.shape != self.source.pixels.shape:
                raise ValueError(
                    f"{name} is {list(value.shape)}, the source {list(self.source.pixels.shape)}"
                )

    def _check_region(self) -> None:
        if self.region is None:
            return
        count, _, height, width = self.source.pixels.shape
        if self.region.shape != (count, 1, height, width):
            raise ValueError(
                f"the region is {list(self.region.shape)}, not {[count, 1, height, width]}"
            )


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices that cover ``count`` items, at most ``size`` at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> uint8, rounded and clamped: what a PNG file holds."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(pixels: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [N,H,W,3] -> float32 [N,3,H,W] in [-1, 1], on the device that they are on."""
    if not isinstance(pixels, Tensor):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
