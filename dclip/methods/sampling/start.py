"""Where sampling starts, and who guides it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config, Guided, SampleTask, Start, option_name
from dclip.data.load import load_images, load_input
from dclip.diffusion.noise import ImageNoise
from dclip.encode.invert import encode
from dclip.encode.source import source_images
from dclip.errors import DclipError
from dclip.methods.latent.options import LatentOpt
from dclip.methods.sampling.guidance import ClipObjective, Guide
from dclip.models import needed
from dclip.models.checkpoints import load_clip
from dclip.models.networks import Networks
from dclip.models.unet import DiffusionModel
from dclip.runtime.trainer import device_of
from dclip.text.prompts import Prompt, resolve
from dclip.text.reader import Reader, read
from dclip.types import Images


@dataclass(frozen=True)
class Origin:
    """Latents [N,C,H,W] to start from, the images' names, and the images behind the latents where there are any."""

    ids: tuple[str, ...]
    latents: Tensor
    images: Images | None = None


def origin_of(cfg: Config, model: DiffusionModel) -> Origin:
    """Noise that belongs to each sample, or the inverted latents of images."""
    task = _task(cfg)
    if task.start is Start.images:
        images = (
            load_input(cfg, model.image_size) if cfg.input else source_images(cfg, model, "test")
        )
        return Origin(images.ids, encode(cfg, model, images), images)
    ids = tuple(f"sample_{i:05d}" for i in range(task.count))
    shape = (len(ids), model.channels, model.image_size, model.image_size)
    noise = ImageNoise(ids, cfg.seed).like(torch.empty(shape))
    return Origin(ids, _leaked(cfg, model, noise) if task.leak else noise)


def _leaked(cfg: Config, model: DiffusionModel, noise: Tensor) -> Tensor:
    """Noise [N,C,H,W] as training images end at t0: with their mean in it. DclipError if there are no such images."""
    if cfg.dataset.needs_model:
        raise DclipError(
            "task.leak needs training images, and dataset=sampled has none; choose another dataset, or task.leak=0"
        )
    dataset = cfg.dataset.everything().resized(train=_task(cfg).leak)
    mean = load_images(replace(cfg, dataset=dataset), "train", model.image_size).pixels.mean(0)
    a = model.schedule.alpha_bar(cfg.sampler.t0)
    return math.sqrt(1 - a) * noise + math.sqrt(a) * mean


def _task(cfg: Config) -> SampleTask:
    assert isinstance(cfg.task, SampleTask)
    return cfg.task


# ---------------------------------------------------------------------------------------------------- who guides


@dataclass(frozen=True)
class Asked:
    """The prompts, and the CLIPs that have read them: ``guides`` pull, ``heldout`` only scores."""

    prompts: tuple[Prompt, ...] = ()
    guides: tuple[Reader, ...] = ()
    heldout: Reader | None = None

    @classmethod
    def of(cls, cfg: Config, networks: Networks) -> Asked:
        """Let every CLIP of the run read the prompts. DclipError for a text that is too long for one of them."""
        prompts = resolve(cfg)
        if not prompts:
            return cls()
        options = cfg.guidance
        temperature = options.temperature if isinstance(options, Guided) else None

        def reader(clip: Any, temperature: float | None = None) -> Reader:
            return read(
                clip,
                prompts,
                options.templates,
                temperature,
                cfg.edit.source if _needs_direction(cfg) else None,
            )

        clips = [networks.clip] if networks.clip is not None else []
        if isinstance(options, Guided) and options.clips:
            clips = [
                load_clip(name, cfg.clip.antialias).to(device_of(cfg))
                for name in needed.networks(cfg).guides
            ]
        heldout = reader(networks.heldout) if networks.heldout is not None else None
        return cls(prompts, tuple(reader(clip, temperature) for clip in clips), heldout)

    def objective(self, kind: str) -> ClipObjective:
        """What pulls. DclipError if there is no CLIP to pull."""
        if not self.guides:
            raise DclipError("no CLIP guides; set clip.name")
        return ClipObjective(kind, self.guides, [prompt.weight for prompt in self.prompts])


def _needs_direction(cfg: Config) -> bool:
    kinds = [
        option_name("guidance", cfg.guidance),
        cfg.method.objective.value if isinstance(cfg.method, LatentOpt) else "",
    ]
    return any("directional" in kind for kind in kinds)


def guide_of(cfg: Config, asked: Asked, model: DiffusionModel) -> Guide | None:
    """The run's guidance, or None."""
    if not isinstance(cfg.guidance, Guided) or cfg.guidance.scale == 0:
        return None
    objective = asked.objective(option_name("guidance", cfg.guidance))
    return Guide(cfg.guidance, objective, model.schedule, cfg.seed + 2)
