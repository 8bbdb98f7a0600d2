"""``dataset=sampled``: images that the checkpoint draws itself, for those who have its weights but none of its images."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dclip.config import Config
from dclip.data.load import load_images
from dclip.data.sampled import Sampled
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.schedule import Pair, pairs_above, pairs_down
from dclip.encode.walk import Walk, run_walk
from dclip.files import atomic_save, cache_dir
from dclip.models.unet import DiffusionModel
from dclip.runtime import parallel
from dclip.types import Images


def source_images(cfg: Config, model: DiffusionModel, split: str) -> Images:
    """The images of a split: read, drawn as cartoons, or drawn from noise by the model itself."""
    if cfg.dataset.needs_model:
        return drawn_images(cfg, model, split)
    return load_images(cfg, split, model.image_size)


def drawn_images(cfg: Config, model: DiffusionModel, split: str) -> Images:
    """The images of a split, each from its own noise, whatever the counts of the others; kept in the cache.

    With ``dataset.invert=false`` they know their latents at ``sampler.t0``: the way down passes there, and from there on is
    plain DDIM in ``sampler.s_for`` steps.
    """
    data = cfg.dataset
    assert isinstance(data, Sampled)
    ids = tuple(f"{split}_{i:05d}" for i in range(data.count(split)))
    if not ids:
        return Images(torch.zeros(0, model.channels, model.image_size, model.image_size), ())
    path = _path(cfg, data, model, ids)
    found = _read(path) if path else None
    if not all(parallel.all_gather_objects(found is not None)) or found is None:
        found = _draw(cfg, data, model, ids)
        if path and parallel.rank() == 0:
            arrays = {name: value.numpy() for name, value in found.items()}
            atomic_save(path, lambda p: np.savez(p, **arrays))  # type: ignore[arg-type]
    return Images(found["pixels"], ids, latents=found.get("latents"))


def _draw(
    cfg: Config, data: Sampled, model: DiffusionModel, ids: tuple[str, ...]
) -> dict[str, Tensor]:
    noise = ImageNoise(ids, cfg.seed).like(
        torch.empty(len(ids), model.channels, model.image_size, model.image_size)
    )
    top = model.schedule.steps - 1
    if data.invert:
        return {
            "pixels": _walk(cfg, data, model, ids, noise, pairs_down(top, data.steps)).clamp(-1, 1)
        }
    upper = pairs_above(cfg.sampler.t0, top, data.steps)
    latents = _walk(cfg, data, model, ids, noise, upper) if upper else noise
    down = Walk(
        model.predict, [model], pairs_down(cfg.sampler.t0, cfg.sampler.s_for), model.schedule
    )
    return {
        "pixels": run_walk(cfg, down, ids, latents, "drawing images").clamp(-1, 1),
        "latents": latents,
    }


def _walk(
    cfg: Config,
    data: Sampled,
    model: DiffusionModel,
    ids: tuple[str, ...],
    x: Tensor,
    pairs: list[Pair],
) -> Tensor:
    walk = Walk(model.predict, [model], pairs, model.schedule, clip_x0=data.clip_x0)
    return run_walk(cfg, walk, ids, x, "drawing images")


def _path(cfg: Config, data: Sampled, model: DiffusionModel, ids: tuple[str, ...]) -> Path | None:
    """Cache file, named by all that decides the pictures."""
    if not model.digest:
        return None
    way = (
        "inverted later"
        if data.invert
        else f"latents at {cfg.sampler.t0} of {cfg.sampler.s_for} steps"
    )
    name = f"{model.digest}/{cfg.seed}/{ids}/{data.steps}/{data.clip_x0}/{way}"
    return cache_dir() / "drawn" / f"{hashlib.sha256(name.encode()).hexdigest()}.npz"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError):
        return None
