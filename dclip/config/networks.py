"""The diffusion model and the CLIPs: ``checkpoint`` and ``clip``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import STORE, check_positive
from dclip.errors import need


class DomainName(StrEnum):
    """What the images of a diffusion model show."""

    faces = "faces"
    dogs = "dogs"
    scenes = "scenes"
    objects = "objects"


class Prediction(StrEnum):
    """What a diffusion model predicts."""

    epsilon = "epsilon"  # the noise
    v = "v"  # sqrt(a) noise - sqrt(1 - a) image
    x0 = "x0"  # the image


class NoiseSchedule(StrEnum):
    """How the noise of a diffusion model grows."""

    linear = "linear"
    scaled_linear = "scaled_linear"
    cosine = "cosine"
    sigmoid = "sigmoid"
    sigmoid_beta = "sigmoid_beta"


@dataclass
class Checkpoint:
    """The diffusion model.

    Attributes:
        name: a known one (``dclip weights list``), or a path: ours, a ddim or ADM
            file, a diffusers folder, rosinality's or lucidrains' DDPM.
        domain: decides identity network and parser; null: as the known names say.
        head_dim: channels per attention head of an ADM checkpoint, whose keys cannot tell.
        image_size: of a checkpoint of unknown shape.
        heads: attention heads of every layer, where they are as many on all levels; null: by
            ``head_dim``.
        label: the class, from 0, that a class-conditional checkpoint draws.
        prediction, schedule, timesteps: how a checkpoint was trained, where its file does not say;
            null: as the file says, or as known of it, else noise on Ho et al.'s linear schedule.
    """

    name: str = "toonfaces"
    domain: DomainName | None = None
    head_dim: int = 64
    image_size: int | None = None
    heads: int | None = None
    label: int | None = None
    prediction: Prediction | None = None
    schedule: NoiseSchedule | None = None
    timesteps: int | None = None

    def __post_init__(self) -> None:
        check_positive("checkpoint", head_dim=self.head_dim)
        if self.heads is not None:
            check_positive("checkpoint", heads=self.heads)
        need(
            self.label is None or self.label >= 0,
            f"checkpoint.label={self.label} is no class; classes count from 0",
        )
        need(
            self.timesteps is None or self.timesteps >= 2,
            f"checkpoint.timesteps={self.timesteps} is no schedule; give 2 or more",
        )


@dataclass
class Clip:
    """The CLIP that guides, and the one that only scores.

    Attributes:
        name, heldout: known ones (``dclip weights list``), or paths: ours, a folder of open_clip,
            OpenAI's file, weights of open_clip.
        arch: which of open_clip's networks ``name`` holds, where the file does not say it.
    """

    name: str = "toonfaces"
    heldout: str | None = "toonfaces_heldout"
    antialias: bool = True
    arch: str | None = None


STORE.store(group="checkpoint", name="base", node=Checkpoint, provider="dclip")
STORE.store(group="clip", name="base", node=Clip, provider="dclip")
