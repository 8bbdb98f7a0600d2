"""From latents back to images, through any denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from dclip.diffusion.options import pairs_of, solver_of
from dclip.diffusion.sampler import EpsFn
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.run import Run


def generate(
    run: Run,
    eps_fn: EpsFn,
    start: Encoded,
    what: str = "generating",
    parts: Sequence[nn.Module] = (),
    copies: int = 1,
    of_batch: Callable[[Sequence[str]], EpsFn] | None = None,
) -> Tensor:
    """Images [N,3,H,W] (or [N,copies,3,H,W]) from latents at t0, in ``sampler.s_gen`` steps.

    ``parts`` are the networks behind ``eps_fn`` besides the original model. ``of_batch`` makes the
    denoiser of the images of these names, where it is another for every image.
    """
    cfg, model = run.cfg, run.model
    if len(start.latents) != len(start):
        raise ValueError(f"{len(start)} images have no latents: they were not encoded")
    down = pairs_of(cfg.sampler)[1]
    solver = solver_of(cfg.sampler, model.info.variance)
    trajectory = Trajectory(
        eps_fn,
        [model, *parts],
        down,
        model.schedule,
        solver,
        cfg.seed,
        copies=copies,
        of_batch=of_batch,
    )
    return run_trajectory(cfg.trainer, trajectory, start.ids, start.latents, what)
