"""dclip in a notebook: load, invert, generate, finetune, sample, edit, measure, save.

Images are float [N,3,H,W] in [-1, 1], as ``load_images`` reads them; t is 0-based.

Examples:
    >>> import dclip
    >>> model = dclip.load_model("toonfaces")
    >>> images = dclip.load_images("photos", model.image_size)  # doctest: +SKIP
    >>> latents = dclip.invert(model, images, t0=500, steps=40)  # doctest: +SKIP
    >>> again = dclip.generate(model, latents, t0=500, steps=40)  # doctest: +SKIP
    >>> texts = ("person", "person with red hair")
    >>> run = dclip.finetune(images, *texts, "recipe=toonfaces")  # doctest: +SKIP
    >>> red = dclip.edit(model, images, run)  # or by its name: "red_hair"  # doctest: +SKIP
    >>> dclip.save_images(red, "red")  # doctest: +SKIP
    >>> like = "experiment=toonfaces_contrastive"
    >>> faces = dclip.sample("a person with a beard", like, count=8)  # doctest: +SKIP
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dclip.config import (
    OPTIONS,
    Carry,
    Config,
    Encode,
    FinalStep,
    Grid,
    Metrics,
    Mix,
    SampleTask,
)
from dclip.config.edit import Edit as EditOptions
from dclip.data.domains import domain_named
from dclip.data.folders import find_images
from dclip.data.images import exact, read_files, save_png
from dclip.data.pictures import decode
from dclip.diffusion.carry import states_up, times_down
from dclip.diffusion.mix import regional
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import Ddim, Sampler, inverter_of, pairs_of, sampler_named, solver_of
from dclip.diffusion.sampler import EpsFn
from dclip.diffusion.sampler import sample as denoise
from dclip.diffusion.timesteps import check_steps
from dclip.edits.carried import WAYS, branches_of, unchanged
from dclip.edits.degree import calibrated
from dclip.edits.edit import Edit, Mixture, keep
from dclip.edits.header import common_steps
from dclip.edits.located import located
from dclip.edits.named import edit_of_epoch, edits_of
from dclip.edits.place import Place, acted_apart, mean_weights
from dclip.edits.refine import Finish
from dclip.edits.region import EVERYWHERE, found_region, where_of
from dclip.edits.saved import SavedEdit, described, read_edit
from dclip.edits.seen import seen_region
from dclip.encode.invert import encode_splits, noised, straight_states
from dclip.encode.start import start_of
from dclip.errors import DclipError, need
from dclip.methods.contract import method_of
from dclip.methods.load import join_edits, tell_of_colors
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure as measure_edit
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.needed import clip_of
from dclip.models.networks import build_networks
from dclip.models.unet import DiffusionModel
from dclip.prepare.compose import configured
from dclip.prepare.needs import obtain
from dclip.prepare.networks import networks
from dclip.prepare.quoting import in_quotes
from dclip.record.record import Record, recording
from dclip.run import Run
from dclip.text.direction import Direction, direction_of, feature_direction
from dclip.text.known import warn_of_words
from dclip.text.lengths import check_texts
from dclip.types import Edited, Images

log = logging.getLogger("dclip")

__all__ = [
    "edit",
    "finetune",
    "generate",
    "invert",
    "load_clip",
    "load_images",
    "load_model",
    "measure",
    "sample",
    "save_images",
]


class BadImagesError(DclipError, ValueError):
    """Images that are no float tensor [N,3,H,W] in [-1, 1] of the right size."""


def load_images(path: str | Path, size: int | None = None) -> Tensor:
    """The pictures of a folder, or the one of a file, as float32 [N,3,H,W] in [-1, 1], by name.

    Args:
        size: the shorter side is scaled to it and the middle square kept, as a run does with
            ``input=`` (``model.image_size``); None: as the pictures are.

    Raises:
        DclipError: there is no readable picture, or, without ``size``, they differ in size.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise DclipError(f"{path} does not exist; give a picture or a folder of pictures")
    if size is not None:
        return read_files(place, size, setting="load_images").pixels
    files = find_images(place)
    if not files:
        raise DclipError(
            f"{path} holds no pictures; give a file, or a folder with PNG or JPEG files"
        )
    pictures = [exact(decode(file, str(file))) for file in files]
    sizes = {tuple(one.shape[1:]) for one in pictures}
    if len(sizes) > 1:
        shown = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:4])
        raise DclipError(
            f"the pictures of {path} differ in size ({shown}); "
            "give one, such as load_images(path, size=model.image_size)"
        )
    return torch.stack(pictures)


def save_images(images: Tensor, path: str | Path, names: Sequence[str] | None = None) -> list[Path]:
    """Write images [N,3,H,W] in [-1, 1] as PNG files; returns their paths.

    Args:
        path: a folder, which is made where it is not there, or, of one image, a file such as
            ``red.png``.
        names: of the files in the folder, without .png; image_00000 and so on unless given.

    Raises:
        DclipError: images of another kind, or not as many names as images.
    """
    place = Path(path).expanduser()
    pixels = check_images(images, bounded=False)
    if place.suffix:
        if len(pixels) != 1 or place.suffix.lower() != ".png":
            raise DclipError(f"{path}: one image is saved as NAME.png, {len(pixels)} in a folder")
        paths = [place]
    else:
        stems = list(names or _ids(len(pixels)))
        if len(set(stems)) != len(pixels):
            raise DclipError(f"names has {len(set(stems))} different ones for {len(pixels)} images")
        paths = [place / f"{stem}.png" for stem in stems]
    for one, file in zip(pixels, paths, strict=True):
        save_png(one, file)
    return paths


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
    texts = [f"edit.source={in_quotes(source)}", f"edit.target={in_quotes(target)}"]
    cfg = configured(["task=finetune", *texts, *settings])
    mine = _images(images)
    obtain([cfg])
    with recording(cfg) as record:
        warn_of_words(cfg)
        run = Run(cfg, build_networks(cfg, networks(cfg)), record)
        check_texts(cfg, run.networks)
        check_size(run.model, images)
        method = method_of(cfg)
        method.check_networks(cfg, run.networks)
        splits = {"train": mine, "validation": mine.take([]), "test": mine.take([])}
        starts = encode_splits(run, splits, method.needs_latents)
        with record.timing("adapt"):
            edit = method.adapt(run, starts)
        placed = located(run, edit, starts)
        keep(run, calibrated(run, placed, starts["validation"]))
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
        listed = ",".join(map(in_quotes, texts))
        words += ["guidance=contrastive", f"guidance.targets=[{listed}]"]
    run = _quiet(configured([*words, *settings]))
    warn_of_words(run.cfg)
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
    output: str = "outputs",
    region: str | None = None,
    epoch: int | None = None,
) -> Tensor:
    """Apply one or several learned edits to images [N,3,H,W], with the steps they were made with.

    Args:
        adapter: a run's folder, its adapter.safetensors or its name (``red_hair``: the newest
            finished run of that experiment under ``output``), or a list of these.
        gamma: the degree of change; 0 is the original model.
        weights: how several edits are weighted, as in ``mix.weights``.
        soup: merge several into one network, as ``mix.soup`` does. For one after the other
            (``mix.in_turn``), call this with each.
        output: where edits are looked for by their names.
        epoch: the edits as they were after this epoch of their runs (1 is the first); None: the
            last.
        region: where they may act: "auto", "quantile", "clip" or "none" (everywhere); None: each as it was
            learned with, a soup as the first of its edits. Outside, images stay as they are, bit for
            bit.

    Raises:
        DclipError: no such edit, images of another size, an edit belongs to another base checkpoint,
            or weights do not sum to one.
    """
    names = [adapter] if isinstance(adapter, str | Path) else list(adapter)
    if not names:
        raise DclipError(
            "adapter=[] names no edit; give a run's folder or its adapter.safetensors, or several"
        )
    check_images(images)
    paths = edits_of(map(str, names), output)
    if epoch is not None:
        paths = [edit_of_epoch(path, epoch) for path in paths]
    saved = [read_edit(path) for path in paths]
    for one in saved:
        log.info("%s", described(one.card))
    common_steps([one.header for one in saved])  # refuses edits made with different steps
    check_size(model, images)
    options = saved[0].sampler
    regions = [where_of(one.header["edit"], region) for one in saved]
    joined = join_edits(model, saved, Mix(weights, soup), options.t0, gamma)
    known = joined.edits if isinstance(joined, Mixture) else [joined]
    tell_of_colors([where or EVERYWHERE for where in regions], known, soup)
    source, made = images.to(model.device), _maker(model, images, options, seed)
    if gamma == 0 and options.carry is not Carry.none:
        return source
    beside, weight = options.carry in WAYS, options.carry_weight
    finish = Finish(
        _ids(len(images)),
        seed,
        model,
        lambda x, pairs: denoise(model.predict, x, pairs, model.schedule),
    )

    def plainly() -> Tensor:
        return source if beside else made(model.predict)

    if isinstance(joined, Mixture) and any(regions):
        plain = plainly()
        places = [
            _place_of(where, one, each, source, made(each.denoiser(weight)), plain)
            if where is not None
            else Place.everywhere(source)
            for where, one, each in zip(regions, saved, joined.edits, strict=True)
        ]
        mixed = _mixed(joined, places, plain, made, gamma * weight)
        degrees = [gamma * mean for mean in mean_weights(joined.weights, options)]
        acted = acted_apart(places, source, mixed, plain, degrees)
        for place in places:
            acted = finish.refined(place.options, place.region, acted, gamma)
        return acted
    edited, where = made(joined.denoiser(gamma * weight)), regions[0]
    if where is None:
        if options.carry is Carry.residual:
            return unchanged(source, edited, plainly())
        return edited
    plain, whole = plainly(), edited
    if gamma != 1:
        whole = made(joined.denoiser(weight))
    place = _place_of(where, saved[0], joined, source, whole, plain)
    acted = place.acted(source, edited, plain, gamma)
    return finish.refined(where, place.region, acted, gamma)


def _place_of(
    where: EditOptions, saved: SavedEdit, edit: Edit, source: Tensor, whole: Tensor, plain: Tensor
) -> Place:
    """Where one edit acts, found as it was learned with."""

    def find(change: Tensor) -> Tensor:
        return _found(where, saved, edit, source, change)

    return Place.of(where, edit, source, whole, plain, find)


def _mixed(
    mixture: Mixture,
    places: Sequence[Place],
    plain: Tensor,
    made: Callable[[EpsFn], Tensor],
    gamma: float,
) -> Tensor:
    """A mixture's images [N,3,H,W], without the shapes that are laid over them."""
    if all(place.matte is not None for place in places):
        return plain
    regions = [place.mixed_region for place in places]
    eps_fns = [edit.denoiser(1.0) for edit in mixture.edits]
    return made(regional(mixture.original.predict, eps_fns, mixture.weights, regions, [gamma]))


def _found(
    where: EditOptions, saved: SavedEdit, edit: Edit, source: Tensor, change: Tensor
) -> Tensor:
    """The region [N,1,H,W] of an edit's change, found as it was learned with."""
    if where.region != "clip":
        return found_region(where, source, change, edit.usual.change)
    options = saved.header.get("clip")
    if options is None:
        raise DclipError(
            f"region=clip asks the CLIP that an edit was learned with, and {saved.path} names none; "
            "choose region=auto"
        )
    clip = load_clip(clip_of(options["name"]), options["antialias"], options.get("arch"))
    clip.to(source.device)
    templates = saved.header["loss"]["templates"]
    direction = feature_direction(_direction(where, saved, source), clip, templates)
    return seen_region(where, clip, direction, source, change, edit.usual.seen)


def _direction(where: EditOptions, saved: SavedEdit, source: Tensor) -> Direction:
    """Where an edit goes in CLIP's space, as it was learned: by its texts, or to its examples.

    Raises:
        DclipError: the examples are not there any more.
    """
    learned = saved.header["edit"]
    paths = {name: learned.get(name) for name in ("examples", "source_examples")}
    for path in filter(None, paths.values()):
        need(
            Path(path).exists(),
            f"region=clip needs the examples that {saved.path} was learned from, and {path} does "
            "not exist; choose region=auto",
        )
    return direction_of(Config(edit=replace(where, **paths)), _images(source))


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
    edited = Edited(_images(source), check_images(result, "result", bounded=False), truth)
    toonfaces = domain_named("toonfaces")
    meaning = toonfaces.truth(edit_name) if edit_name else None
    if edit_name is not None and meaning is None:
        known = ", ".join(toonfaces.edits)
        raise ValueError(f"ToonFaces has no edit {edit_name!r}; it has {known}")
    return measure_edit(edited, Metrics(), scorers or Scorers(), texts, meaning).values


def _quiet(cfg: Config) -> Run:
    """The networks of these settings, with a record that writes nothing."""
    obtain([cfg])
    return Run(cfg, build_networks(cfg, networks(cfg)), Record.quiet(cfg))


def check_images(images: object, name: str = "images", bounded: bool = True) -> Tensor:
    """Images as they must be.

    Args:
        bounded: whether they must be in [-1, 1]; what a model has made may be a little outside.

    Raises:
        BadImagesError: they are no float tensor [N,3,H,W] in [-1, 1].
    """
    how = "dclip.load_images(path, model.image_size) reads files as such"
    if not isinstance(images, Tensor):
        raise BadImagesError(
            f"{name} must be a float tensor [N,3,H,W] in [-1, 1], not {_kind_of(images)}; {how}"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise BadImagesError(f"{name} must be [N,3,H,W], not {list(images.shape)}; {how}")
    if not images.is_floating_point() or (bounded and _outside(images)):
        raise BadImagesError(
            f"{name} must be floats in [-1, 1], not {_values_of(images)}; "
            f"divide bytes by 127.5 and subtract 1 ({how})"
        )
    return images


def _outside(images: Tensor) -> bool:
    """Whether some value is outside [-1, 1], rounding aside."""
    return len(images) > 0 and bool(images.min() < -1.001 or images.max() > 1.001)


def _values_of(images: Tensor) -> str:
    """The values of a tensor that are none of an image."""
    kind = str(images.dtype).removeprefix("torch.")
    if len(images) == 0:
        return kind
    return f"{kind} from {float(images.min()):g} to {float(images.max()):g}"


def _kind_of(value: object) -> str:
    """What was given in place of a tensor of images."""
    kind = type(value)
    words = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
    if isinstance(value, np.ndarray | Tensor):
        words += f" {value.dtype} {list(value.shape)}".replace("torch.", "")
    return words


def check_size(model: DiffusionModel, images: object) -> Tensor:
    """Images of the model's size.

    Raises:
        BadImagesError: they are of another, or no images.
    """
    pixels, side = check_images(images), model.image_size
    size = list(pixels.shape[-2:])
    if size != [side, side]:
        raise BadImagesError(
            f"the images are {size[0]}x{size[1]}, but checkpoint {model.info.name!r} takes "
            f"{side}x{side}; resize them (dclip.load_images(path, {side})), "
            "or choose another checkpoint="
        )
    return pixels


def _check_latents(model: DiffusionModel, latents: object) -> None:
    """BadImagesError for latents that ``invert`` cannot have made for this model."""
    side = model.image_size
    if isinstance(latents, Tensor) and list(latents.shape[-3:]) == [3, side, side]:
        return
    raise BadImagesError(
        f"latents must be a float tensor [N,3,{side},{side}], as dclip.invert makes them, "
        f"not {_kind_of(latents)}"
    )


def _images(pixels: Tensor, ids: Sequence[str] | None = None) -> Images:
    return Images(check_images(pixels), tuple(ids or _ids(len(pixels))))


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
    model.check_schedule(options.grid)
    x = check_size(model, images).to(model.device)
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
    model.check_schedule(options.grid)
    _check_latents(model, latents)
    noise = ImageNoise(list(ids or _ids(len(latents))), seed)
    down, rule = pairs_of(options)[1], solver_of(options, model.info.variance)
    x = latents.to(model.device)
    return denoise(eps_fn, x, down, model.schedule, solver=rule, noise=noise)


def _maker(
    model: DiffusionModel, images: Tensor, options: Sampler, seed: int
) -> Callable[[EpsFn], Tensor]:
    """What makes edited images of a denoiser, beside the source's branch where ``options`` say so."""
    carry = options.carry
    if carry not in WAYS:
        latents = _encode(model, images, options, seed)
        return lambda eps_fn: _generate(model, eps_fn, latents, options, None, seed)
    start, ids = images.to(model.device), _ids(len(images))
    if carry.inverts:
        start = _states(model, images, options, seed)

    def made(eps_fn: EpsFn) -> Tensor:
        return WAYS[carry](branches_of(options, model, eps_fn, ids, seed), start)

    return made


def _states(model: DiffusionModel, images: Tensor, options: Sampler, seed: int) -> Tensor:
    """The states of the way to the latents, [N,S+1,3,H,W]."""
    source, (up, down) = images.to(model.device), pairs_of(options)
    if options.encode is Encode.stochastic:
        latents = _encode(model, images, options, seed)
        return straight_states(options, source, latents, model.schedule)
    model.check_schedule(options.grid)
    solver, times = inverter_of(options), times_down(down)
    return states_up(model.predict, source, up, model.schedule, solver, times)


def _encode(model: DiffusionModel, images: Tensor, options: Sampler, seed: int) -> Tensor:
    if options.encode == Encode.stochastic:
        return noised(_images(images), model.schedule.alpha_bar(options.t0), seed).to(model.device)
    return _invert(model, images, options)
