"""What an edit starts from: latents, and the images behind them where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dclip.types import Images


@dataclass(frozen=True)
class Encoded:
    """Latents at ``sampler.t0`` with their names.

    Attributes:
        ids: one name an image; the seed of its own random generator.
        latents: float32 [N,3,H,W] ([N,2,3,H,W] for a solver with two states).
        images: what was encoded; None where the latents are noise.
        states: the images at every timestep of the generation, from t0 to themselves,
            [N,S+1,3,H,W], where ``sampler.carry`` uses them.

    Where nothing was encoded there are no latents, [0,3,H,W], but images.
    """

    ids: tuple[str, ...]
    latents: Tensor
    images: Images | None = None
    states: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sources(self) -> Images:
        """The images behind the latents. ValueError where the latents are noise."""
        if self.images is None:
            raise ValueError("these latents are noise; there are no images behind them")
        return self.images

    def take(self, index: Sequence[int]) -> Encoded:
        """Those at these positions."""
        positions = list(index)
        ids = tuple(self.ids[k] for k in positions)
        images = self.images.take(positions) if self.images is not None else None
        states = self.states[positions] if self.states is not None else None
        latents = self.latents[positions] if len(self.latents) else self.latents
        return Encoded(ids, latents, images, states)

    def repeat(self, images: Images, count: int) -> Encoded:
        """``count`` copies of every image next to each other, under the names of ``images``."""
        states = self.states
        if states is not None:
            states = states.repeat_interleave(count, 0)
        return Encoded(images.ids, self.latents.repeat_interleave(count, 0), images, states)
