"""Inversion: images to latents, cached."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dclip.config import Carry, Encode, SamplerOption
from dclip.diffusion.carry import states_between, states_up, times_down
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.options import inverter_of, pairs_of
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import CLEAN, Pair
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.files import UNREADABLE, cache_dir
from dclip.models.unet import DiffusionModel
from dclip.run import Run
from dclip.runtime import parallel
from dclip.runtime.cache import can_keep, keep
from dclip.types import Images


def encode(run: Run, images: Images, what: str = "images") -> Encoded:
    """Images with their latents at ``sampler.t0``, by inversion; known ones come from the cache.

    With ``sampler.encode=stochastic`` images are noised in closed form instead. Images that were
    made from latents keep theirs.
    """
    with run.record.timing("invert"):
        return Encoded(images.ids, _latents(run, images, what), images)


def encode_to_edit(run: Run, images: Images, what: str = "images") -> Encoded:
    """Images as an edit starts from them under ``sampler.carry``.

    With latents; with all states of the way to them; or, where nothing is inverted, as they are.
    """
    carry = run.cfg.sampler.carry
    if not carry.inverts:
        with run.record.timing("invert"):  # of none, but the record says so
            return Encoded(images.ids, images.pixels[:0], images)
    if carry is not Carry.offset:
        return encode(run, images, what)
    with run.record.timing("invert"):
        return _with_states(run, images, what)


def _with_states(run: Run, images: Images, what: str) -> Encoded:
    if len(images) == 0:
        return Encoded(images.ids, images.pixels, images)
    cfg, schedule = run.cfg, run.model.schedule
    inverts = cfg.sampler.encode is Encode.invert and images.latents is None
    if inverts:
        states = _invert(run, images, what, states=True)
        latents = states[:, :2] if cfg.sampler.two_states else states[:, 0]
        return Encoded(images.ids, latents, images, states)
    latents = _latents(run, images, what)
    states = straight_states(cfg.sampler, images.pixels, latents, schedule)
    return Encoded(images.ids, latents, images, states)


def straight_states(
    options: SamplerOption, source: Tensor, latents: Tensor, schedule: Schedule
) -> Tensor:
    """States [N,S+1,3,H,W] on the straight line from images to latents that were not inverted."""
    nodes = [(CLEAN, source), (options.t0, latents)]
    return states_between(nodes, source, times_down(pairs_of(options)[1]), schedule)


def _latents(run: Run, images: Images, what: str) -> Tensor:
    if images.latents is not None:
        return images.latents
    if run.cfg.sampler.encode == Encode.stochastic:
        a = run.model.schedule.alpha_bar(run.cfg.sampler.t0)
        return noised(images, a, run.cfg.seed)
    return _invert(run, images, what)


def encode_splits(
    run: Run, images: Mapping[str, Images], train_latents: bool
) -> dict[str, Encoded]:
    """The images of every split with their latents; those of "train" only where a method needs them.

    Those of "test" will be edited, as ``sampler.carry`` says; of the others the edit is learned.
    """
    starts = {}
    with run.record.timing("invert"):
        for split, part in images.items():
            if split == "train" and not train_latents:
                starts[split] = Encoded(part.ids, part.pixels[:0], part)
            else:
                encoder = encode_to_edit if split == "test" else encode
                starts[split] = encoder(run, part, f"{split} images")
    return starts


def encode_variants(run: Run, images: Images, what: str = "images") -> Encoded:
    """``variants`` copies of every image to edit, each with its own name and therefore its own noise.

    They share their image's latent, unless encoding is stochastic.
    """
    variants = run.cfg.variants
    several = images.repeat(variants)
    if run.cfg.sampler.encode == Encode.stochastic:
        return encode_to_edit(run, several, what)
    return encode_to_edit(run, images, what).repeat(several, variants)


def noised(images: Images, a: float, seed: int) -> Tensor:
    """Images noised to alpha_bar = a in closed form, each with noise other than its sampling's.

    The start of SDEdit (Meng et al., ICLR 2022), ``sampler.encode=stochastic``.
    """
    noise = ImageNoise([f"encode/{name}" for name in images.ids], seed)
    return add_noise(images.pixels, noise.like(images.pixels), a)


def latent_path(
    model: DiffusionModel, pixels: Tensor, pairs: Sequence[Pair], solver: str = "DDIM(eta=0.0)"
) -> Path:
    """Cache file of one image's latent, named by a hash of all that decides the latent."""
    kind = "bfloat16" if model.fast else "float32"
    digest = hashlib.sha256(
        f"{model.digest}/{solver}/{list(pairs)}/{kind}/{tuple(pixels.shape)}".encode()
    )
    digest.update(pixels.numpy().tobytes())
    name = digest.hexdigest()
    return cache_dir() / "latents" / name[:2] / f"{name}.npy"


class StatesUp(Trajectory):
    """A trajectory up that keeps the states [N,S+1,3,H,W] at the timesteps of the way down."""

    def __init__(self, down: Sequence[Pair], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.times = times_down(down)

    def carried(self, ids: Sequence[str], x: Tensor) -> Tensor:
        """Images [N,3,H,W] -> states on the CPU."""
        states = states_up(
            self.eps_fn,
            x.contiguous(memory_format=torch.channels_last),
            self.pairs,
            self.noise_schedule,
            self.solver,
            self.times,
            lambda step: self.observe(ids, step),
        )
        return self.finished(states)


def _invert(run: Run, images: Images, what: str, states: bool = False) -> Tensor:
    """Latents, or all ``states`` of the way down."""
    if len(images) == 0:
        return images.pixels
    cfg, model = run.cfg, run.model
    (pairs, down), solver = pairs_of(cfg.sampler), inverter_of(cfg.sampler)
    paths: list[Path] = []
    if model.digest and cfg.trainer.cache:
        kind = f"{solver!r}/states at {times_down(down)}" if states else repr(solver)
        paths = [latent_path(model, x, pairs, kind) for x in images.pixels]
    latents = [_read(path) for path in paths] or [None] * len(images)
    absent = [i for i, latent in enumerate(latents) if latent is None]
    absent = sorted(set().union(*parallel.all_gather_objects(absent)))
    if absent:
        if paths:
            can_keep()
        trajectory = Trajectory(model.predict, [model], pairs, model.schedule, solver)
        if states:
            trajectory = StatesUp(down, model.predict, [model], pairs, model.schedule, solver)
        ids = [images.ids[i] for i in absent]
        pixels = images.pixels[absent]
        fresh = run_trajectory(cfg.trainer, trajectory, ids, pixels, f"inverting {what}")
        for i, latent in zip(absent, fresh, strict=True):
            latents[i] = latent
            if paths and parallel.rank() == 0:
                _write(paths[i], latent)
    return torch.stack([latent for latent in latents if latent is not None])


def _read(path: Path) -> Tensor | None:
    try:
        return torch.from_numpy(np.load(io.BytesIO(path.read_bytes())))
    except UNREADABLE:
        return None


def _write(path: Path, latent: Tensor) -> None:
    array = latent.numpy()
    keep(path, lambda temporary: np.save(temporary, array))
