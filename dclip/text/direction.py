"""Where an edit goes in CLIP's space: from one text to another, or from some images to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dclip import losses
from dclip.config import Config
from dclip.data.images import read_files
from dclip.errors import DclipError
from dclip.models.clip import ClipModel
from dclip.types import Images

Direction = (
    tuple[str, str] | Callable[[ClipModel], Tensor]
)  # (source, target) text, or clip -> unit direction [D]


def direction_of(cfg: Config, images: Images) -> Direction:
    """The edit's direction: its texts; or, with ``edit.examples``, from the mean of ``edit.source_examples`` (or of the
    images at hand) to the mean of the examples. DclipError if there is no picture among the examples."""
    if cfg.edit.examples is None:
        return cfg.edit.source, cfg.edit.target
    size = images.pixels.shape[-1]
    after = read_files(Path(cfg.edit.examples), size, setting="edit.examples").pixels
    before = images.pixels
    if cfg.edit.source_examples is not None:
        before = read_files(
            Path(cfg.edit.source_examples), size, setting="edit.source_examples"
        ).pixels

    @torch.no_grad()
    def direction(clip: ClipModel) -> Tensor:
        device = clip.mean.device
        try:
            return losses.image_direction(
                clip.image_features(before.to(device)), clip.image_features(after.to(device))
            )
        except ValueError as error:
            raise DclipError(f"edit.examples={cfg.edit.examples}: {error}") from error

    return direction
