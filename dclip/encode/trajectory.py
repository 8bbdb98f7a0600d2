"""Inversion and generation of many images: in batches, on the run's device, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dclip.config import Trainer
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDIM, EpsFn, Solver, Step, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import Pair
from dclip.models.memory import fitting_batch
from dclip.models.unet import DiffusionModel
from dclip.runtime import parallel
from dclip.runtime.device import device_of
from dclip.runtime.progress import progress_bar, shows_progress


class Trajectory:
    """Carries images or latents through timestep pairs; ``carried`` does one batch.

    ``parts`` are the networks behind ``eps_fn``, on the device where it computes.
    ``of_batch`` makes the denoiser of the images of these names, where images differ in theirs.
    With ``copies`` K > 1, every image has K rows next to each other, with the same noise; results
    are [N,K,3,H,W].
    """

    needs_gradient = False  # whether its denoiser differentiates on the way

    def __init__(
        self,
        eps_fn: EpsFn,
        parts: Sequence[torch.nn.Module],
        pairs: Sequence[Pair],
        schedule: Schedule,
        solver: Solver | None = None,
        seed: int = 0,
        clip_x0: bool = False,
        copies: int = 1,
        of_batch: Callable[[Sequence[str]], EpsFn] | None = None,
    ) -> None:
        self.of_batch = of_batch
        self.parts = torch.nn.ModuleList(parts).eval()
        self.eps_fn = eps_fn
        self.pairs = list(pairs)
        self.noise_schedule = schedule
        self.solver = solver or DDIM()
        self.seed = seed
        self.clip_x0 = clip_x0
        self.copies = copies
        self.on_step: Callable[[Step], None] | None = None  # the progress bar's

    @property
    def steps(self) -> int:
        """Steps of one batch, for the progress bar."""
        return len(self.pairs)

    def rules(self, ids: Sequence[str]) -> tuple[EpsFn, Solver]:
        """The denoiser and the step rule of one batch; guidance wraps them."""
        eps_fn = self.eps_fn if self.of_batch is None else self.of_batch(ids)
        return eps_fn, self.solver

    def observe(self, ids: Sequence[str], step: Step) -> None:
        """Called with every step of every batch."""
        if self.on_step is not None:
            self.on_step(step)

    def carried(self, ids: Sequence[str], x: Tensor) -> Tensor:
        """x [N,3,H,W] of these images at the end of the pairs, on the CPU."""
        x = x.repeat_interleave(self.copies, 0)
        if x.ndim == 4:  # a solver with two states takes [N,2,3,H,W]
            x = x.contiguous(memory_format=torch.channels_last)
        noise = ImageNoise([name for name in ids for _ in range(self.copies)], self.seed)
        eps_fn, solver = self.rules(ids)
        end = sample(
            eps_fn,
            x,
            self.pairs,
            self.noise_schedule,
            solver=solver,
            noise=noise,
            clip_x0=self.clip_x0,
            on_step=lambda step: self.observe(ids, step),
        )
        return self.finished(end)

    def finished(self, end: Tensor) -> Tensor:
        """Rows [N*K,...] as results [N,...], or [N,K,...], on the CPU."""
        end = end.float().cpu().contiguous()
        if self.copies == 1:
            return end
        return end.reshape(-1, self.copies, *end.shape[1:])


def run_trajectory(
    options: Trainer, trajectory: Trajectory, ids: Sequence[str], x: Tensor, what: str
) -> Tensor:
    """Carry all images, each process its share; the result [N,3,H,W] is in the images' order."""
    fitting = options.batch or _fitting_batch(options, trajectory)
    batch = max(fitting // trajectory.copies, 1)
    mine = parallel.share(len(ids))
    groups = [mine[i : i + batch] for i in range(0, len(mine), batch)]
    total = len(groups) * trajectory.steps
    parts = []
    trajectory.parts.to(device_of(options))
    with progress_bar(what, total, shown=shows_progress(options)) as bar:
        trajectory.on_step = lambda _: bar.update()
        for group in groups:
            parts.append(_carry(options, trajectory, [ids[k] for k in group], x[group]))
    part = torch.cat(parts) if parts else x[:0]
    return parallel.gather(part, len(ids))


def _carry(options: Trainer, trajectory: Trajectory, ids: Sequence[str], x: Tensor) -> Tensor:
    """One batch, on the run's device."""
    frozen = torch.no_grad() if trajectory.needs_gradient else torch.inference_mode()
    with frozen:
        return trajectory.carried(ids, x.to(device_of(options)))


def _fitting_batch(options: Trainer, trajectory: Trajectory) -> int:
    model = next(part for part in trajectory.parts if isinstance(part, DiffusionModel))
    return fitting_batch(model, device_of(options), trajectory.needs_gradient)
