"""What an edit drew, joined to the picture by the original network."""

from __future__ import annotations

from torch import Tensor

from dclip.config.edit import REFINING_STEPS
from dclip.config.edit import Edit as EditOptions
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.region import confine
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.run import Run


def refined(
    run: Run, options: EditOptions, start: Encoded, region: Tensor, edited: Tensor, gamma: float
) -> Tensor:
    """Edited images [N,3,H,W], in their region noised and denoised by the original network.

    Noised to ``edit.region_refine``, as in SDEdit (Meng et al. 2022), but of what is edited already:
    strokes become parts of the face, and so does what CLIP alone took for one. What the network has
    never seen (red hair, green skin) fades. A smaller degree than 1 is noised less.

    Args:
        region: [N,1,H,W]; where it is 0, the images stay, bit for bit.
    """
    t = round(options.region_refine * min(1.0, abs(gamma)))
    if t == 0 or not options.confined:
        return edited
    schedule, noise = run.model.schedule, ImageNoise(start.ids, run.cfg.seed + 3)
    x = add_noise(edited, noise.like(edited), schedule.alpha_bar(t))
    down = pairs_down(t, min(REFINING_STEPS, t))
    trajectory = Trajectory(run.model.predict, [run.model], down, schedule)
    clean = run_trajectory(run.cfg.trainer, trajectory, start.ids, x, "refining")
    return confine(edited, clean - edited, region)
