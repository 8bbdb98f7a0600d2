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

from dclip.config import Encode, FinalStep, Grid, Metrics, Mix, Sampler, Solver
from dclip.data.toonfaces.truths import TRUTHS
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import EpsFn, sample
from dclip.diffusion.schedule import check_steps
from dclip.diffusion.solvers import inverter_of, pairs_of, solver_of
from dclip.edits.editor import editor_from
from dclip.edits.header import common_steps
from dclip.edits.saved import read_edit
from dclip.encode.invert import noised
from dclip.errors import DclipError
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure as _measure
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.unet import DiffusionModel
from dclip.types import Edited, Images

__all__ = ["edit", "generate", "invert", "load_clip", "load_model", "measure"]


def _images(pixels: Tensor, ids: Sequence[str] | None = None) -> Images:
    return Images(pixels, tuple(ids or (f"image_{i:05d}" for i in range(len(pixels)))))


def _options(
    t0: int, steps: int, solver: str, eta: float, final_step: FinalStep | str, grid: Grid | str
) -> Sampler:
    check_steps(t0, steps)
    if solver not in list(Solver):
        raise ValueError(f"no solver is called {solver!r}; choose from {', '.join(Solver)}")
    try:
        return Sampler(Solver(solver), t0, steps, steps, eta, FinalStep(final_step), Grid(grid))
    except DclipError as error:
        raise ValueError(str(error)) from error


def _invert(model: DiffusionModel, images: Tensor, options: Sampler) -> Tensor:
    x = _images(images).pixels.to(model.device)
    return sample(
        model.predict, x, pairs_of(options)[0], model.schedule, solver=inverter_of(options)
    )


def _generate(
    model: DiffusionModel,
    eps_fn: EpsFn,
    latents: Tensor,
    options: Sampler,
    ids: Sequence[str] | None,
    seed: int,
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
    grid: Grid | str = Grid.uniform,
) -> Tensor:
    """Latents [N,3,H,W] at t0 of images [N,3,H,W] in [-1, 1], by deterministic inversion.

    ``solver``: ``ddim``, ``ab2`` or ``dpmpp_2m`` (``steps - 1`` network calls), ``heun`` (twice as many), ``fixed_point``,
    which inverts a generation of these ``steps`` with this ``final_step`` (up to 7 calls a step), or ``belm``, whose latents are
    two states [N,2,3,H,W]: ``generate`` with the same steps makes exactly these images of them.
    ``grid``: how the timesteps are spread: ``uniform`` (published), ``quadratic``, ``log_snr``, ``rho``.
    ValueError for images of the wrong shape or range, or for impossible t0 or steps.
    """
    return _invert(model, images, _options(t0, steps, solver, 0.0, final_step, grid))


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
    grid: Grid | str = Grid.uniform,
) -> Tensor:
    """Images [N,3,H,W] from latents at t0.

    ``eta`` > 0 adds noise to DDIM, drawn per image from ``seed`` and its id, so that a batch never changes a picture.
    ``final_step``: ``to_clean`` as in the papers' code (ends at the predicted x0), ``to_t0`` as in the paper.
    """
    return _generate(
        model, model.predict, latents, _options(t0, steps, solver, eta, final_step, grid), ids, seed
    )


@torch.no_grad()
def edit(
    model: DiffusionModel,
    images: Tensor,
    adapter: str | Sequence[str],
    gamma: float = 1.0,
    weights: object = None,
    soup: bool = False,
    seed: int = 0,
) -> Tensor:
    """Apply one or several fine-tuned edits to images [N,3,H,W] in [-1, 1], with the steps they were made with.

    ``adapter`` is a run's folder or its adapter.safetensors, or a list of these; ``gamma`` the degree of change (0: the
    original model). ``weights`` and ``soup`` say how several are put together, as ``mix.weights`` and ``mix.soup`` do.
    DclipError if an edit belongs to another base checkpoint, or if the weights do not sum to one.
    """
    names = [adapter] if isinstance(adapter, str) else list(adapter)
    if not names:
        raise DclipError(
            "adapter=[] names no edit; give a run's folder or its adapter.safetensors, or several"
        )
    edits = [read_edit(name) for name in names]
    common_steps([one.header for one in edits])  # refuses edits that were made with different steps
    options = edits[0].sampler
    editor = editor_from(model, edits, Mix(weights, soup), options.t0, gamma)
    return _generate(
        model, editor.at(gamma), _encode(model, images, options, seed), options, None, seed
    )


def _encode(model: DiffusionModel, images: Tensor, options: Sampler, seed: int) -> Tensor:
    if options.encode == Encode.stochastic:
        return noised(_images(images), model.schedule.alpha_bar(options.t0), seed).to(model.device)
    return _invert(model, images, options)


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
    return _measure(edited, Metrics(), scorers or Scorers(), texts, known).values
