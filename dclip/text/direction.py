"""Where an edit goes in CLIP's space: from one text to another, or from some images to others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip import losses
from dclip.config import Config
from dclip.data.domains import domain_of
from dclip.data.images import read_files
from dclip.errors import DclipError
from dclip.models.clip import ClipModel
from dclip.types import Images

# (source, target) text, or clip -> unit direction [D]
Direction = tuple[str, str] | Callable[[ClipModel], Tensor]


def direction_of(cfg: Config, images: Images) -> Direction:
    """The edit's direction: its texts or, with ``edit.examples``, from images to the examples.

    The former are ``edit.source_examples``, or the images at hand. DclipError if there is no
    picture among the examples.
    """
    edit, size = cfg.edit, images.pixels.shape[-1]
    if edit.examples is None:
        return edit.source, edit.target
    after = read_files(Path(edit.examples), size, setting="edit.examples").pixels
    before = images.pixels
    if edit.source_examples is not None:
        before = read_files(Path(edit.source_examples), size, setting="edit.source_examples").pixels
    return partial(_between, before, after, edit.examples)


@torch.no_grad()
def feature_direction(direction: Direction, clip: ClipModel, templates: str = "none") -> Tensor:
    """The direction as CLIP sees it, a unit vector [D]. DclipError if it sees no difference."""
    if callable(direction):
        return direction(clip)
    forms = losses.templates(templates)
    try:
        return losses.text_direction(clip.text_features, *direction, forms)
    except ValueError as error:
        raise DclipError(str(error)) from error


@torch.no_grad()
def _between(before: Tensor, after: Tensor, examples: str, clip: ClipModel) -> Tensor:
    """Unit direction [D] from images [N,3,H,W] to others [M,3,H,W]. DclipError if there is none."""
    device = clip.mean.device
    source = clip.image_features(before.to(device))
    target = clip.image_features(after.to(device))
    try:
        return losses.image_direction(source, target)
    except ValueError as error:
        raise DclipError(f"edit.examples={examples}: {error}") from error


def texts_to_keep(cfg: Config) -> list[str]:
    """What must stay, in words: ``edit.keep``, else what the domain says.

    Of the domain's texts, those that name an attribute which the target names too are left out:
    nothing keeps hair black that shall be red.
    """
    if cfg.edit.keep is not None:
        return list(cfg.edit.keep)
    domain = domain_of(cfg.dataset)
    changed = set(domain.grammar.attributes(cfg.edit.target))
    changed |= set(domain.grammar.attributes(cfg.edit.source))
    kept = []
    for text in domain.keep:
        if not changed & set(domain.grammar.attributes(text)):
            kept.append(text)
    return kept


def texts_against(cfg: Config) -> list[str]:
    """What the target competes with: ``edit.against``, else its siblings, else the source text.

    A sibling is the same text with another value of an attribute that it names.
    """
    if cfg.edit.against is not None:
        return list(cfg.edit.against)
    return list(domain_of(cfg.dataset).grammar.siblings(cfg.edit.target)) or [cfg.edit.source]


@torch.no_grad()
def keep_directions(cfg: Config, clip: ClipModel, direction: Tensor) -> Tensor | None:
    """An orthonormal basis [K,D] of what must stay, orthogonal to the edit's unit direction [D].

    None where nothing is named.
    """
    texts = texts_to_keep(cfg)
    if not texts:
        return None
    features = clip.text_features(texts) - clip.text_features([cfg.edit.source])
    return losses.keep_basis(F.normalize(features, dim=1), direction)
