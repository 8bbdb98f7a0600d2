"""dclip in a notebook: load, invert, generate, finetune, sample, edit, measure.

Images are float [N,3,H,W] in [-1, 1]; t is 0-based.

Examples:
    >>> import dclip
    >>> model = dclip.load_model("toonfaces")
    >>> latents = dclip.invert(model, images, t0=500, steps=40)  # doctest: +SKIP
    >>> again = dclip.generate(model, latents, t0=500, steps=40)  # doctest: +SKIP
    >>> texts = ("person", "person with red hair")
    >>> run = dclip.finetune(images, *texts, "recipe=toonfaces")  # doctest: +SKIP
    >>> red = dclip.edit(model, images, run)  # doctest: +SKIP
    >>> like = "experiment=toonfaces_contrastive"
    >>> faces = dclip.sample("a person with a beard", like, count=8)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dclip.config import OPTIONS, Config, Encode, FinalStep, Grid, Metrics, Mix, SampleTask
from dclip.data.domains import domain_named
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import Ddim, Sampler, inverter_of, pairs_of, sampler_named, solver_of
from dclip.diffusion.sampler import EpsFn
from dclip.diffusion.sampler import sample as denoise
from dclip.diffusion.schedule import check_steps
from dclip.edits.edit import keep
from dclip.edits.header import common_steps
from dclip.edits.saved import read_edit
from dclip.encode.invert import encode_splits, noised
from dclip.encode.start import start_of
from dclip.errors import DclipError
from dclip.methods.contract import method_of
from dclip.methods.load import join_edits
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure as measure_edit
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.networks import build_networks
from dclip.models.unet import DiffusionModel
from dclip.prepare.compose import configured
from dclip.prepare.needs import obtain
from dclip.prepare.networks import networks
from dclip.record.record import Record, recording
from dclip.run import Run
from dclip.types import Edited, Images

__all__ = [
    "edit",
    "finetune",
    "generate",
    "invert",
    "load_clip",
    "load_model",
    "measure",
    "sample",
]


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

    Args:
        solver: ``ddim``, ``ab2`` or ``dpmpp_2m`` (``steps - 1`` network calls), ``heun`` (twice as
            many), ``fixed_point``, which inverts a generation of these ``steps`` with this
            ``final_step`` (up to 7 calls a step), or ``belm``, whose latents are two states
            [N,2,3,H,W]: ``generate`` with the same steps makes exactly these images of them.
        grid: how timesteps are spread: ``uniform`` (published), ``quadratic``, ``log_snr``, ``rho``.

    Raises:
        ValueError: images of the wrong shape or range, or impossible t0 or steps.
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

    Args:
        eta: above 0 it adds noise to DDIM, drawn per image from ``seed`` and its id, so that a
            batch never changes a picture.
        final_step: ``to_clean`` as in the papers' code (ends at the predicted x0), ``to_t0`` as in
            the paper.
    """
    options = _options(t0, steps, solver, eta, final_step, grid)
    return _generate(model, model.predict, latents, options, ids, seed)


def finetune(images: Tensor, source: str, target: str, *settings: str) -> Path:
    """Learn an edit from images [N,3,H,W] in [-1, 1] (DiffusionCLIP); returns the run's folder.

    ``edit`` takes the folder as its ``adapter``.

    Args:
        source: what the images show, such as "person".
        target: what they shall show, such as "person with red hair".
        settings: anything of the command line, such as "preset=quick" or "method.epochs=3"; the
            checkpoint too (ToonFaces unless set).

    Raises:
        DclipError: a setting that cannot be, or images of another size than the model's.
    """
    texts = [f"edit.source={quoted(source)}", f"edit.target={quoted(target)}"]
    cfg = configured(["task=finetune", *texts, *settings])
    obtain([cfg])
    mine = _images(images)
    with recording(cfg) as record:
        run = Run(cfg, build_networks(cfg, networks(cfg)), record)
        _check_size(run.model, images)
        method = method_of(cfg)
        method.check_networks(cfg, run.networks)
        splits = {"train": mine, "validation": mine.take([]), "test": mine.take([])}
        starts = encode_splits(run, splits, method.needs_latents)
        with record.timing("adapt"):
            edit = method.adapt(run, starts)
        keep(run, edit)
        record.metrics(record.seconds)
    return record.folder


def sample(target: str | Sequence[str] | None = None, *settings: str, count: int = 8) -> Tensor:
    """Images [count,3,H,W] from noise, under CLIP guidance towards ``target`` (none: freely).

    Args:
        target: a text, or several that are followed at once.
        settings: anything of the command line, such as "guidance=spherical", "guidance.scale=0.5"
            or "sampler=ddpm"; contrastive guidance unless set.

    Raises:
        DclipError: a setting that cannot be.
    """
    words = ["task=sample", "method=none", f"task.count={count}"]
    if target is not None:
        texts = [target] if isinstance(target, str) else list(target)
        listed = ",".join(quoted(text) for text in texts)
        words += ["guidance=contrastive", f"guidance.targets=[{listed}]"]
    run = _quiet(configured([*words, *settings]))
    edit = method_of(run.cfg).adapt(run, {})
    return edit.apply(run, start_of(run, run.task(SampleTask)), run.cfg.gamma)


@torch.no_grad()
def edit(
    model: DiffusionModel,
    images: Tensor,
    adapter: str | Path | Sequence[str | Path],
    gamma: float = 1.0,
    weights: object = None,
    soup: bool = False,
    seed: int = 0,
) -> Tensor:
    """Apply one or several learned edits to images [N,3,H,W], with the steps they were made with.

    Args:
        adapter: a run's folder or its adapter.safetensors, or a list of these.
        gamma: the degree of change; 0 is the original model.
        weights: how several edits are weighted, as in ``mix.weights``.
        soup: merge several into one network, as ``mix.soup`` does.

    Raises:
        DclipError: an edit belongs to another base checkpoint, or weights do not sum to one.
    """
    names = [adapter] if isinstance(adapter, str | Path) else list(adapter)
    if not names:
        raise DclipError(
            "adapter=[] names no edit; give a run's folder or its adapter.safetensors, or several"
        )
    saved = [read_edit(str(name)) for name in names]
    common_steps([one.header for one in saved])  # refuses edits made with different steps
    options = saved[0].sampler
    joined = join_edits(model, saved, Mix(weights, soup), options.t0, gamma)
    latents = _encode(model, images, options, seed)
    return _generate(model, joined.denoiser(gamma), latents, options, None, seed)


def measure(
    source: Tensor,
    result: Tensor,
    texts: tuple[str, str] | None = None,
    truth: Tensor | None = None,
    scorers: Scorers | None = None,
    edit_name: str | None = None,
) -> dict[str, float | str]:
    """Metrics of an edit, images [N,3,H,W] in [-1, 1]: a flat dict.

    What cannot be computed is there as ``NAME_absent: reason``.

    Args:
        texts: (source, target) text, for S_dir.
        truth: the true edited images where they are known.
        scorers: the networks that measure (``dclip.metrics.scorers.Scorers``); none unless given.
        edit_name: a ToonFaces edit whose success the judge can see.

    Raises:
        ValueError: ToonFaces has no edit of that name.
    """
    edited = Edited(_images(source), result, truth)
    toonfaces = domain_named("toonfaces")
    meaning = toonfaces.truth(edit_name) if edit_name else None
    if edit_name is not None and meaning is None:
        known = ", ".join(toonfaces.edits)
        raise ValueError(f"ToonFaces has no edit {edit_name!r}; it has {known}")
    return measure_edit(edited, Metrics(), scorers or Scorers(), texts, meaning).values


def quoted(text: str) -> str:
    """A text as Hydra's command line takes it, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quiet(cfg: Config) -> Run:
    """The networks of these settings, with a record that writes nothing."""
    obtain([cfg])
    return Run(cfg, build_networks(cfg, networks(cfg)), Record.quiet(cfg))


def _check_size(model: DiffusionModel, images: Tensor) -> None:
    size, wanted = tuple(images.shape[-2:]), (model.image_size, model.image_size)
    if size != wanted:
        raise DclipError(
            f"the images are {size[0]}x{size[1]}, but checkpoint {model.info.name!r} takes "
            f"{wanted[0]}x{wanted[1]}; resize them, or choose another checkpoint="
        )


def _images(pixels: Tensor, ids: Sequence[str] | None = None) -> Images:
    return Images(pixels, tuple(ids or _ids(len(pixels))))


def _ids(count: int) -> list[str]:
    return [f"image_{i:05d}" for i in range(count)]


def _options(
    t0: int, steps: int, solver: str, eta: float, final_step: FinalStep | str, grid: Grid | str
) -> Sampler:
    check_steps(t0, steps)
    if solver not in OPTIONS["sampler"]:
        choices = ", ".join(OPTIONS["sampler"])
        raise ValueError(f"no solver is called {solver!r}; choose from {choices}")
    option = sampler_named(solver)
    try:
        options = option(t0, steps, steps, FinalStep(final_step), Grid(grid))
        if eta == 0:
            return options
        if not isinstance(options, Ddim):
            raise ValueError(f"eta={eta} adds noise to DDIM; choose solver='ddim', not {solver!r}")
        return replace(options, eta=eta)
    except DclipError as error:
        raise ValueError(str(error)) from error


def _invert(model: DiffusionModel, images: Tensor, options: Sampler) -> Tensor:
    x = _images(images).pixels.to(model.device)
    up, solver = pairs_of(options)[0], inverter_of(options)
    return denoise(model.predict, x, up, model.schedule, solver=solver)


def _generate(
    model: DiffusionModel,
    eps_fn: EpsFn,
    latents: Tensor,
    options: Sampler,
    ids: Sequence[str] | None,
    seed: int,
) -> Tensor:
    noise = ImageNoise(list(ids or _ids(len(latents))), seed)
    down, rule = pairs_of(options)[1], solver_of(options, model.info.variance)
    x = latents.to(model.device)
    return denoise(eps_fn, x, down, model.schedule, solver=rule, noise=noise)


def _encode(model: DiffusionModel, images: Tensor, options: Sampler, seed: int) -> Tensor:
    if options.encode == Encode.stochastic:
        return noised(_images(images), model.schedule.alpha_bar(options.t0), seed).to(model.device)
    return _invert(model, images, options)
