"""``loss.prior``: what the original network makes of an edited picture.

    L = mean |x' - D(x'_t)|,    x'_t = sqrt(a) x' + sqrt(1 - a) z,    D(x_t) = (x_t - sqrt(1 - a) eps) / sqrt(a)

=======  ===============================================================================
symbol   meaning
=======  ===============================================================================
x', z    an edited picture; noise of its own
t, a     a timestep between ``LEAST`` and ``MOST``, the same for a batch; alpha_bar there
D        the original network's denoising in one step, without gradient
=======  ===============================================================================

What the network knows comes back as it is, and what only CLIP takes for a smile does not. As a squared
distance it would be score distillation (DreamFusion, Poole et al. 2023, Eq. 3), for
x' - D(x'_t) = sqrt((1 - a) / a) (eps - z); here it is an L1 distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.diffusion.noise import ImageNoise, add_noise, image_seed
from dclip.diffusion.sampler import Evaluator
from dclip.models.unet import DiffusionModel

LEAST, MOST = 60, 200  # timesteps: details, not what the picture shows


@dataclass(frozen=True)
class Prior:
    """The original network as a judge of pictures.

    Attributes:
        model: it, unchanged.
        seed: of noise and timesteps, which also depend on ``draw``: the same on any number of
            threads, and after a resumed run.
    """

    model: DiffusionModel
    seed: int

    def distance(self, edited: Tensor, index: Sequence[int], draw: int) -> Tensor:
        """How far pictures [N,3,H,W] are from what the network makes of them: their mean, a scalar.

        Args:
            index: which images they are of.
            draw: counts the calls.
        """
        noise = ImageNoise([f"prior/{draw}/{i}" for i in index], self.seed).like(edited)
        with torch.no_grad():
            t, schedule = self.timestep(draw), self.model.schedule
            x = add_noise(edited.detach(), noise, schedule.alpha_bar(t))
            known = Evaluator(self.model.predict, schedule)(x, t).x0
        return (edited - known).abs().mean()

    def timestep(self, draw: int) -> int:
        """The timestep of a call."""
        generator = torch.Generator().manual_seed(image_seed(self.seed, f"prior/{draw}"))
        return int(torch.randint(LEAST, MOST, (), generator=generator))
