"""dclip in a notebook: load, invert, generate, edit, measure. Images are float [N,3,H,W] in [-1, 1]; t is 0-based.

>>> import dclip
>>> model = dclip.load_model("toonfaces")
>>> latents = dclip.invert(model, images, t0=500, steps=40)            # doctest: +SKIP
>>> again = dclip.generate(model, latents, t0=500, steps=40)           # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dclip.config import DclipError, FinalStep, Metric, Sampler, Solver
from dclip.data.toonfaces import TRUTHS
from dclip.diffusion.mix import degree
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import EpsFn, sample
from dclip.diffusion.schedule import check_steps
from dclip.diffusion.solvers import inverter_of, pairs_of, solver_of
from dclip.methods.adapter import read_edit
from dclip.metrics.suite import Scorers
from dclip.metrics.suite import measure as _measure
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.unet import DiffusionModel
from dclip.types import Edited, Images

__all__ = ["edit", "generate", "invert", "load_clip", "load_model", "measure"]


def _images(pixels: Tensor, ids: Sequence[str] | None = None) -> Images:
    return Images(pixels, tuple(ids or (f"image_{i:05d}" for i in range(len(pixels)))))


def _options(t0: int, steps: int, solver: str, eta: float = 0.0, final_step: FinalStep | str = FinalStep.to_clean) -> Sampler:
    check_steps(t0, steps)
    if solver not in list(Solver):
        raise ValueError(f"no solver is called {solver!r}; choose from {', '.join(Solver)}")
    try:
        return Sampler(Solver(solver), t0, steps, steps, eta, FinalStep(final_step))
    except DclipError as error:
        raise ValueError(str(error)) from error


def _invert(model: DiffusionModel, images: Tensor, options: Sampler) -> Tensor:
    x = _images(images).pixels.to(model.device)
    return sample(model.eps, x, pairs_of(options)[0], model.schedule, solver=inverter_of(options))


def _generate(
    model: DiffusionModel, eps_fn: EpsFn, latents: Tensor, options: Sampler, ids: Sequence[str] | None, seed: int
) -> Tensor:
    noise = ImageNoise(list(ids or (f"image_{i:05d}" for i in range(len(latents)))), seed)
    down, rule = pairs_of(options)[1], solver_of(options, model.info.variance)
    return sample(eps_fn, latents.to(model.device), down, model.schedule, solver=rule, noise=noise)


@torch.no_grad()
def invert(
    model: DiffusionModel,
    images: Tensor,
    t0: int = 500,
    steps: int = 40,
    solver: str = "ddim",
    final_step: FinalStep | str = FinalStep.to_clean,
) -> Tensor:
    """Latents [N,3,H,W] at t0 of images [N,3,H,W] in [-1, 1], by deterministic inversion.

    ``solver``: ``ddim``, ``ab2`` or ``dpmpp_2m`` (``steps - 1`` network calls), ``heun`` (twice as many), or ``fixed_point``,
    which inverts a generation of these ``steps`` with this ``final_step`` (up to 7 calls a step).
    ValueError for images of the wrong shape or range, or for impossible t0 or steps.
    """
    return _invert(model, images, _options(t0, steps, solver, 0.0, final_step))


@torch.no_grad()
def generate(
    model: DiffusionModel,
    latents: Tensor,
    t0: int = 500,
    steps: int = 6,
    solver: str = "ddim",
    eta: float = 0.0,
    final_step: FinalStep | str = FinalStep.to_clean,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Tensor:
    """Images [N,3,H,W] from latents at t0.

    ``eta`` > 0 adds noise to DDIM, drawn per image from ``seed`` and its id, so that a batch never changes a picture.
    ``final_step``: ``to_clean`` as in the papers' code (ends at the predicted x0), ``to_t0`` as in the paper.
    """
    return _generate(model, model.predict, latents, _options(t0, steps, solver, eta, final_step), ids, seed)


@torch.no_grad()
def edit(model: DiffusionModel, images: Tensor, adapter: str, gamma: float = 1.0) -> Tensor:
    """Apply a fine-tuned edit to images [N,3,H,W] in [-1, 1], with the steps it was made with.

    ``adapter`` is a run's folder or its adapter.safetensors; ``gamma`` the degree of change (0: the original model).
    DclipError if the edit belongs to another base checkpoint.
    """
    import copy

    saved = read_edit(adapter)
    tuned = copy.deepcopy(model)
    saved.put_on(tuned)
    options = saved.sampler
    latents = _invert(model, images, options)
    return _generate(model, degree(model.predict, tuned.predict, gamma), latents, options, None, 0)


def measure(
    source: Tensor,
    result: Tensor,
    texts: tuple[str, str] | None = None,
    truth: Tensor | None = None,
    scorers: Scorers | None = None,
    edit_name: str | None = None,
) -> dict[str, float | str]:
    """Metrics of an edit, images [N,3,H,W] in [-1, 1]: a flat dict; what cannot be computed is ``NAME_absent: reason``.

    Args:
        texts: (source, target) text, for S_dir.
        truth: the true edited images where they are known.
        scorers: the networks that measure; none unless given.
        edit_name: a ToonFaces edit whose success the judge can see.
    """
    edited = Edited(_images(source), result, truth)
    if edit_name is not None and edit_name not in TRUTHS:
        raise ValueError(f"ToonFaces has no edit {edit_name!r}; it has {', '.join(TRUTHS)}")
    known = TRUTHS[edit_name] if edit_name else None
    return _measure(edited, Metric(), scorers or Scorers(), texts, known).values
