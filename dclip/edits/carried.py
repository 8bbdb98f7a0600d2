"""An edit that carries its source along, as ``sampler.carry`` says (dclip/diffusion/carry.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dclip.config import Carry, Config, SamplerOption
from dclip.diffusion.carry import (
    Branches,
    carry_ddcm,
    carry_flow,
    carry_noise_maps,
    carry_offset,
)
from dclip.diffusion.options import pairs_of, solver_of, without_noise
from dclip.diffusion.sampler import EpsFn, Step
from dclip.edits.edit import Edit, PlacedEdit
from dclip.edits.region import confine
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.models.unet import DiffusionModel
from dclip.run import Run

# edited rows [N*K,3,H,W] from what the branches start from (``start_of``)
WAYS: dict[Carry, Callable[[Branches, Tensor], Tensor]] = {
    Carry.offset: carry_offset,
    Carry.noise_maps: carry_noise_maps,
    Carry.flow: carry_flow,
    Carry.ddcm: carry_ddcm,
}


def branches_of(
    options: SamplerOption,
    model: DiffusionModel,
    edited: EpsFn,
    ids: Sequence[str],
    seed: int,
    copies: int = 1,
    on_step: Callable[[Step], None] | None = None,
) -> Branches:
    """The branches of an edit beside ``model``; ``edited`` takes ``copies`` rows an image."""
    steps = options if options.carry.inverts else without_noise(options)
    return Branches(
        model.predict,
        edited,
        ids,
        pairs_of(options)[1],
        model.schedule,
        solver_of(steps, model.info.variance),
        seed,
        copies,
        options.carry_noises,
        options.two_states,
        on_step,
    )


def start_of(options: SamplerOption, start: Encoded) -> Tensor:
    """What the branches start from: all states [N,S+1,3,H,W], or the sources [N,3,H,W]."""
    if not options.carry.inverts:
        return start.sources.pixels
    if start.states is None:
        raise ValueError("these images were not encoded with their states; use encode_to_edit")
    return start.states


def unchanged(source: Tensor, edited: Tensor, plain: Tensor) -> Tensor:
    """The source [N,3,H,W] with the difference of two generations, clamped to [-1, 1]."""
    everywhere = torch.ones_like(source[:, :1])
    return confine(source, edited - plain, everywhere)


def goes_beside(cfg: Config) -> bool:
    """Whether an edit goes down beside the source's own branch."""
    return cfg.sampler.carry in WAYS


class CarriedTrajectory(Trajectory):
    """A trajectory down along two branches."""

    def __init__(self, model: DiffusionModel, options: SamplerOption, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.model, self.options = model, options

    def carried(self, ids: Sequence[str], start: Tensor) -> Tensor:
        """What the branches start from -> edited images [N,3,H,W], or [N,K,3,H,W]."""
        branches = branches_of(
            self.options,
            self.model,
            self.rules(ids)[0],
            ids,
            self.seed,
            self.copies,
            lambda step: self.observe(ids, step),
        )
        return self.finished(WAYS[self.options.carry](branches, start))


def carry_down(
    run: Run,
    eps_fn: EpsFn,
    start: Encoded,
    parts: Sequence[nn.Module] = (),
    copies: int = 1,
    of_batch: Callable[[Sequence[str]], EpsFn] | None = None,
) -> Tensor:
    """Edited images [N,copies,3,H,W] along two branches.

    Args:
        eps_fn: the edit's denoiser, which takes ``copies`` rows an image.
        parts: the networks behind it besides the original model.
        of_batch: makes the denoiser of the images of these names, where it is another for each.
    """
    options, model = run.cfg.sampler, run.model
    trajectory = CarriedTrajectory(
        model,
        options,
        eps_fn,
        [model, *parts],
        pairs_of(options)[1],
        model.schedule,
        seed=run.cfg.seed,
        copies=copies,
        of_batch=of_batch,
    )
    begin = start_of(options, start)
    edited = run_trajectory(run.cfg.trainer, trajectory, start.ids, begin, "editing")
    return edited.reshape(len(start), copies, *edited.shape[-3:])


class Carried(PlacedEdit):
    """Any edit that is a denoiser, beside the source's branch."""

    def placed(self, run: Run, start: Encoded, source: Tensor, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]. Degree 0 is the source itself, and takes no network."""
        asked = sorted({gamma for gamma in gammas if gamma != 0})
        pictures = {0.0: source}
        if asked:
            pictures |= dict(zip(asked, self._edited(run, start, asked), strict=True))
        return torch.stack([pictures[gamma] for gamma in gammas], 1)

    def _edited(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Sequence[Tensor]:
        if goes_beside(run.cfg):
            degrees = [run.cfg.sampler.carry_weight * gamma for gamma in gammas]
            eps_fn = self.edit.denoisers(degrees)
            return carry_down(run, eps_fn, start, self.parts, len(gammas)).unbind(1)
        plain, *edited = self.edit.strip(run, start, [0.0, *gammas]).unbind(1)
        return [unchanged(start.sources.pixels, one, plain) for one in edited]


def carried(cfg: Config, edit: Edit) -> Edit:
    """The edit, beside the source's branch where ``sampler.carry`` asks for one."""
    if cfg.sampler.carry is Carry.none or edit.carries:
        return edit
    return Carried(edit)
