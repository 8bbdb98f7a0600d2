"""Where sampling starts: noise of each sample's own, or the latents of images."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dclip.config import SampleTask
from dclip.data.load import load_images
from dclip.diffusion.noise import ImageNoise
from dclip.encode.encoded import Encoded
from dclip.encode.invert import encode
from dclip.encode.source import images_to_edit
from dclip.errors import DclipError
from dclip.run import Run


def start_of(run: Run, task: SampleTask) -> Encoded:
    """Noise that belongs to each sample, or the inverted latents of images."""
    if task.from_images:
        return encode(run, images_to_edit(run))
    with run.record.timing("invert"):
        return _noise(run, task)


def _noise(run: Run, task: SampleTask) -> Encoded:
    model = run.model
    ids = tuple(f"sample_{i:05d}" for i in range(task.count))
    shape = (len(ids), model.channels, model.image_size, model.image_size)
    noise = ImageNoise(ids, run.cfg.seed).like(torch.empty(shape))
    return Encoded(ids, _leaked(run, task.leak, noise) if task.leak else noise)


def _leaked(run: Run, count: int, noise: Tensor) -> Tensor:
    """Noise [N,C,H,W] as training images end at t0: with the mean of ``count`` of them in it.

    Raises:
        DclipError: there are no training images.
    """
    cfg, model = run.cfg, run.model
    if cfg.dataset.needs_model:
        raise DclipError(
            "task.leak needs training images, and dataset=sampled has none; "
            "choose another dataset, or task.leak=0"
        )
    dataset = cfg.dataset.everything().resized(train=count)
    images = load_images(replace(cfg, dataset=dataset), "train", model.image_size)
    a = model.schedule.alpha_bar(cfg.sampler.t0)
    return math.sqrt(1 - a) * noise + math.sqrt(a) * images.pixels.mean(0)
