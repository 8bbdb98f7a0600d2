"""The images of a run: from ``input``, from the data set, or drawn by the checkpoint itself."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dclip.config import Config, option_name
from dclip.data.domains import UNKNOWN, domain_named
from dclip.data.load import load_images, load_input
from dclip.data.masks import read_masks
from dclip.data.sampled import Sampled
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.timesteps import Pair, pairs_above, pairs_down
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.files import UNREADABLE, cache_dir
from dclip.models.needed import shown_domain
from dclip.run import Run
from dclip.runtime import parallel
from dclip.runtime.cache import can_keep, keep
from dclip.types import Images

log = logging.getLogger("dclip")


def images_to_edit(run: Run) -> Images:
    """Those of ``input``, else the data set's test images."""
    images = _input(run) if run.cfg.input else source_images(run, "test")
    scored_region(run.cfg, images)  # refused here, not after the work
    return images


def images_to_learn(run: Run) -> dict[str, Images]:
    """Images by split. Those of ``input`` are learned from and edited, with none to validate."""
    if run.cfg.input:
        mine = _input(run)
        splits = {"train": mine, "validation": mine.take([]), "test": mine}
    else:
        splits = {split: source_images(run, split) for split in ("train", "validation", "test")}
    scored_region(run.cfg, splits["test"])
    return splits


def scored_region(cfg: Config, images: Images) -> Tensor | None:
    """The region [N,1,H,W] of ``metric.region``; None without one. DclipError if an image has none."""
    if cfg.metric.region is None:
        return None
    size = images.pixels.shape[-1]
    return read_masks(cfg.metric.region, images.ids, size, "metric.region")


def _input(run: Run) -> Images:
    """The images of ``input``."""
    images = load_input(run.cfg, run.model.image_size)
    _warn_of_foreign(run, images, f"input={run.cfg.input}")
    return images


def _warn_of_foreign(run: Run, images: Images, where: str) -> None:
    """Say it once where images are none of the model's kind, and the task is not to bring them in."""
    note = "" if run.cfg.task.foreign else foreign_note(run, images)
    if note:
        log.warning("%s: %s", where, note)


def foreign_note(run: Run, images: Images) -> str:
    """What to say of images that the model's domain surely does not have; else empty."""
    domain, side = domain_named(run.cfg.checkpoint.name), run.model.image_size
    if domain is UNKNOWN:
        domain = shown_domain(run.cfg)
    count = len(domain.foreign(images.pixels))
    if not count:
        return ""
    which = "this picture is" if len(images) == 1 else f"{count} of {len(images)} pictures are"
    each = "it" if len(images) == 1 else "them"
    size = f"comes back at {side} x {side} pixels (paste_back=true keeps the picture's own size)"
    if run.cfg.paste_back:
        size = f"is made at {side} x {side} pixels"
    return (
        f"{which} outside the domain of checkpoint={run.cfg.checkpoint.name} ({domain.pictures}): "
        f"the edit may do anything to {each}, and {size}"
    )


def source_images(run: Run, split: str) -> Images:
    """The images of a split: read, drawn as cartoons, or drawn from noise by the model itself."""
    data = run.cfg.dataset
    if isinstance(data, Sampled):
        return drawn_images(run, data, split)
    images = load_images(run.cfg, split, run.model.image_size)
    if split == "test" and not data.drawn:
        _warn_of_foreign(run, images, f"dataset={option_name('dataset', data)}")
    return images


def drawn_images(run: Run, data: Sampled, split: str) -> Images:
    """``dataset=sampled``: each image from its own noise, whatever the other counts; cached.

    With ``dataset.invert=false`` they know their latents at ``sampler.t0``: the way down passes
    there, and from there on is plain DDIM in ``sampler.s_for`` steps.
    """
    model = run.model
    ids = tuple(f"{split}_{i:05d}" for i in range(data.count(split)))
    if not ids:
        return Images(torch.zeros(0, model.channels, model.image_size, model.image_size), ())
    path = _path(run, data, ids)
    arrays = _read(path) if path else None
    if not all(parallel.all_gather_objects(arrays is not None)) or arrays is None:
        if path:
            can_keep()
        arrays = _draw(run, data, ids)
        if path and parallel.rank() == 0:
            _write(path, arrays)
    return Images(arrays["pixels"], ids, latents=arrays.get("latents"))


def _draw(run: Run, data: Sampled, ids: tuple[str, ...]) -> dict[str, Tensor]:
    cfg, model = run.cfg, run.model
    shape = (len(ids), model.channels, model.image_size, model.image_size)
    noise = ImageNoise(ids, cfg.seed).like(torch.empty(shape))
    top = model.schedule.steps - 1
    if data.invert:
        pixels = _descend(run, data, ids, noise, pairs_down(top, data.steps))
        return {"pixels": pixels.clamp(-1, 1)}
    upper = pairs_above(cfg.sampler.t0, top, data.steps)
    latents = _descend(run, data, ids, noise, upper) if upper else noise
    lower = pairs_down(cfg.sampler.t0, cfg.sampler.s_for)
    down = Trajectory(model.predict, [model], lower, model.schedule)
    pixels = run_trajectory(cfg.trainer, down, ids, latents, "drawing images")
    return {"pixels": pixels.clamp(-1, 1), "latents": latents}


def _descend(run: Run, data: Sampled, ids: tuple[str, ...], x: Tensor, pairs: list[Pair]) -> Tensor:
    model = run.model
    down = Trajectory(model.predict, [model], pairs, model.schedule, clip_x0=data.clip_x0)
    return run_trajectory(run.cfg.trainer, down, ids, x, "drawing images")


def _path(run: Run, data: Sampled, ids: tuple[str, ...]) -> Path | None:
    """Cache file, named by all that decides the pictures."""
    cfg, model = run.cfg, run.model
    if not model.digest:
        return None
    way = "inverted later"
    if not data.invert:
        way = f"latents at {cfg.sampler.t0} of {cfg.sampler.s_for} steps"
    name = f"{model.digest}/{cfg.seed}/{ids}/{data.steps}/{data.clip_x0}/{way}"
    return cache_dir() / "drawn" / f"{hashlib.sha256(name.encode()).hexdigest()}.npz"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except UNREADABLE:
        return None


def _write(path: Path, arrays: dict[str, Tensor]) -> None:
    plain = {name: value.numpy() for name, value in arrays.items()}
    keep(path, lambda temporary: np.savez(temporary, **plain))  # type: ignore[arg-type]
