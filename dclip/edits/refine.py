"""What an edit drew, joined to the picture by the original network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dclip.config.edit import REFINING_STEPS
from dclip.config.edit import Edit as EditOptions
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.region import confine
from dclip.models.unet import DiffusionModel

Walk = Callable[[Tensor, Sequence[tuple[int, int]]], Tensor]


@dataclass(frozen=True)
class Finish:
    """What comes after an edit has acted in its region.

    Attributes:
        ids, seed: the images' names, which decide their noise.
        model: the original network.
        walk: noised images and pairs of timesteps -> clean images, by that network.
    """

    ids: Sequence[str]
    seed: int
    model: DiffusionModel
    walk: Walk

    def refined(self, options: EditOptions, region: Tensor, edited: Tensor, gamma: float) -> Tensor:
        """Edited images [N,3,H,W], in their region noised and denoised by the original network.

        Noised to ``edit.region_refine``, as in SDEdit (Meng et al. 2022), but of what is edited
        already: strokes become parts of the face, and so does what CLIP alone took for one. What the
        network has never seen (red hair, green skin) fades. A smaller degree than 1 is noised less.

        Args:
            region: [N,1,H,W]; where it is 0, the images stay, bit for bit.
        """
        t = round(options.region_refine * min(1.0, abs(gamma)))
        if t == 0 or not options.confined:
            return edited
        noise = ImageNoise(self.ids, self.seed + 3).like(edited)
        x = add_noise(edited, noise, self.model.schedule.alpha_bar(t))
        clean = self.walk(x, pairs_down(t, max(2, min(REFINING_STEPS, t))))
        return confine(edited, clean - edited, region)
