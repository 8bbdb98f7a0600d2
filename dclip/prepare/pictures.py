"""Pictures of a kind that the diffusion model has never seen, told of in a plan.

A run looks at the pictures themselves (``Domain.foreign``). Imports nothing heavy.
"""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image

from dclip.config import Config
from dclip.data.domains import domain_named
from dclip.data.folders import find_images
from dclip.data.photographs import Folder

log = logging.getLogger("dclip")


def warn_of_pictures(cfg: Config) -> None:
    """Log a warning where somebody's own pictures go to a model of drawn ones."""
    note = pictures_note(cfg)
    if note:
        log.warning("%s", note)


def pictures_note(cfg: Config) -> str:
    """What to say of pictures that are given; empty where the first has the size of the drawn ones."""
    domain = domain_named(cfg.checkpoint.name)
    root = cfg.input
    if root is None and isinstance(cfg.dataset, Folder):
        root = cfg.dataset.root
    if not domain.drawn or root is None:
        return ""
    name, size = cfg.checkpoint.name, domain.size
    try:
        with Image.open(find_images(Path(root))[0]) as picture:
            fits = picture.size == (size, size)
    except (OSError, IndexError):
        return ""
    if fits:
        return ""
    return (
        f"checkpoint={name} knows cartoon faces of {size}x{size} only; pictures of another kind come "
        "back as smears (docs/photographs.md says which models there are)"
    )
