"""Inversion: images to latents, cached."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dclip.config import Config, Encode
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.schedule import Pair
from dclip.diffusion.solvers import inverter_of, pairs_of
from dclip.encode.walk import Walk, run_walk
from dclip.files import atomic_save, cache_dir
from dclip.models.unet import DiffusionModel
from dclip.runtime import parallel
from dclip.types import Images


def latent_path(
    model: DiffusionModel, pixels: Tensor, pairs: Sequence[Pair], solver: str = "DDIM(eta=0.0)"
) -> Path:
    """Cache file of one image's latent: its name is a hash of all that decides it, so that a stale hit is impossible."""
    kind = "bfloat16" if model.fast else "float32"
    digest = hashlib.sha256(
        f"{model.digest}/{solver}/{list(pairs)}/{kind}/{tuple(pixels.shape)}".encode()
    )
    digest.update(pixels.numpy().tobytes())
    name = digest.hexdigest()
    return cache_dir() / "latents" / name[:2] / f"{name}.npy"


def _read(path: Path) -> Tensor | None:
    try:
        return torch.from_numpy(np.load(io.BytesIO(path.read_bytes())))
    except (OSError, ValueError, EOFError):
        return None


def noised(images: Images, a: float, seed: int) -> Tensor:
    """Images noised in closed form to alpha_bar = a, each with its own noise (not that of its sampling)."""
    noise = ImageNoise([f"encode/{name}" for name in images.ids], seed)
    return add_noise(images.pixels, noise.like(images.pixels), a)


def encode(cfg: Config, model: DiffusionModel, images: Images, what: str = "images") -> Tensor:
    """Latents [N,3,H,W] of images at ``sampler.t0`` by inversion; what was inverted before comes from the cache.

    With ``sampler.encode=stochastic`` they are noised in closed form instead. Images that were made from latents keep theirs.
    """
    if images.latents is not None:
        return images.latents
    if cfg.sampler.encode == Encode.stochastic:
        return noised(images, model.schedule.alpha_bar(cfg.sampler.t0), cfg.seed)
    pairs, solver = pairs_of(cfg.sampler)[0], inverter_of(cfg.sampler)
    paths = (
        [latent_path(model, x, pairs, repr(solver)) for x in images.pixels]
        if model.digest and cfg.trainer.cache
        else []
    )
    found: list[Tensor | None] = [_read(p) for p in paths] if paths else [None] * len(images)
    missing = [i for i, latent in enumerate(found) if latent is None]
    missing = sorted(set().union(*parallel.all_gather_objects(missing)))
    if missing:
        walk = Walk(model.predict, [model], pairs, model.schedule, solver)
        fresh = run_walk(
            cfg, walk, [images.ids[i] for i in missing], images.pixels[missing], f"inverting {what}"
        )
        for i, latent in zip(missing, fresh, strict=True):
            found[i] = latent
            if paths and parallel.rank() == 0:
                array = latent.numpy()
                atomic_save(paths[i], lambda p, a=array: np.save(p, a))  # type: ignore[misc]
    return (
        torch.stack([latent for latent in found if latent is not None]) if found else images.pixels
    )
