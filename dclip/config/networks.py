"""The diffusion model and the CLIPs: ``checkpoint`` and ``clip``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import STORE, check_positive


class DomainName(StrEnum):
    """What the images of a diffusion model show."""

    faces = "faces"
    dogs = "dogs"
    scenes = "scenes"
    objects = "objects"


@dataclass
class Checkpoint:
    """The diffusion model.

    Attributes:
        name: a known one (``dclip weights list``), or a path: ours, a ddim or ADM
            file, a diffusers folder.
        domain: decides identity network and parser; null: as the known names say.
        head_dim: channels per attention head of an ADM checkpoint, whose keys cannot tell.
        image_size: of a checkpoint of unknown shape.
    """

    name: str = "toonfaces"
    domain: DomainName | None = None
    head_dim: int = 64
    image_size: int | None = None

    def __post_init__(self) -> None:
        check_positive("checkpoint", head_dim=self.head_dim)


@dataclass
class Clip:
    """The CLIP that guides, and the one that only scores."""

    name: str = "toonfaces"
    heldout: str | None = "toonfaces_heldout"
    antialias: bool = True


STORE.store(group="checkpoint", name="base", node=Checkpoint, provider="dclip")
STORE.store(group="clip", name="base", node=Clip, provider="dclip")
