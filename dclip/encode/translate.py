"""Unseen images into the model's domain: noise and denoise with the original model, in rounds.

DiffusionCLIP, Sec. 4.3, Algorithm 4; SDEdit. Each round noises to t0 and starts to denoise at t0:
noise level and start agree (in the published code they are one apart). Denoising adds no noise,
whatever ``sampler`` says: its eta is the edit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dclip.config import TranslateTask
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.options import pairs_of, solver_of, without_noise
from dclip.diffusion.sampler import sample
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.run import Run
from dclip.types import Images


class Rounds(Trajectory):
    """A trajectory down from its images noised to where it begins, ``rounds`` times."""

    def __init__(self, rounds: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rounds = rounds

    @property
    def steps(self) -> int:
        """Steps of one batch, for the progress bar."""
        return self.rounds * len(self.pairs)

    def carried(self, ids: Sequence[str], x: Tensor) -> Tensor:
        """Images [N,3,H,W] -> images of the domain in [-1, 1], on the CPU."""
        noise = ImageNoise([f"translate/{name}" for name in ids], self.seed)
        a = self.noise_schedule.alpha_bar(self.pairs[0][0])
        for _round in range(self.rounds):
            x = add_noise(x, noise.like(x), a).contiguous(memory_format=torch.channels_last)
            x = sample(
                self.eps_fn,
                x,
                self.pairs,
                self.noise_schedule,
                solver=self.solver,
                noise=noise,
                clip_x0=self.clip_x0,
                on_step=lambda step: self.observe(ids, step),
            )
        return x.float().clamp(-1, 1).cpu().contiguous()


def into_domain(run: Run, task: TranslateTask, images: Images) -> Images:
    """The images as the original model would have them; names are kept, what is known of them is not."""
    if task.rounds == 0:
        return Images(images.pixels, images.ids)
    cfg, model = run.cfg, run.model
    options = replace(without_noise(cfg.sampler), t0=task.t0, s_for=task.steps, s_gen=task.steps)
    rounds = Rounds(
        task.rounds,
        model.predict,
        [model],
        pairs_of(options)[1],
        model.schedule,
        solver_of(options, model.info.variance),
        cfg.seed,
        clip_x0=task.clip_x0,
    )
    with run.record.timing("translate"):
        pixels = run_trajectory(cfg.trainer, rounds, images.ids, images.pixels, "translating")
    return Images(pixels, images.ids)
