"""How near an edit comes to the true edited picture: pure functions, one number an image.

Images are [N,3,H,W] in [-1, 1], measured as 8-bit files would hold them. ``source`` is the picture
before, ``truth`` what it truly looks like edited, ``result`` what an edit has made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.metrics.color import cie76
from dclip.metrics.functional import mae, unit

# ------------------------------------------------------------------------- the change as a vector


def closer(result: Tensor, source: Tensor, truth: Tensor) -> Tensor:
    """1 where the edit is nearer to the truth than the untouched source, by mean absolute error.

    nan where the source is the truth: nothing can be nearer.
    """
    untouched = mae(source, truth)
    nearer = (mae(result, truth) < untouched).float()
    return nearer.where(untouched > 0, torch.nan)


def effectiveness(result: Tensor, source: Tensor, truth: Tensor) -> Tensor:
    """How much of the true change was made (TEA, MICCAI 2025): <made, true> / |true|^2.

    0: none of it; 1: all; more: too much. nan where there is nothing to change. With
    ``amplification`` a, |result - truth|^2 / |source - truth|^2 = (e - 1)^2 + a^2.
    """
    true, made = _change(source, truth), _change(source, result)
    return (true * made).sum(1) / _squared(true)


def amplification(result: Tensor, source: Tensor, truth: Tensor) -> Tensor:
    """How much else was changed, as a multiple of the true change (TEA, MICCAI 2025).

    The length of the part of the made change that is orthogonal to the true one, over the length of
    the true one. 0: nothing else. nan where there is nothing to change.
    """
    true, made = _change(source, truth), _change(source, result)
    length = _squared(true)
    share = (true * made).sum(1) / length
    beside = made - share[:, None] * true
    return (beside.square().sum(1) / length).sqrt()


def _change(before: Tensor, after: Tensor) -> Tensor:
    """A change as vectors [N, D] of pixels in [0, 1]."""
    return (unit(after) - unit(before)).flatten(1)


def _squared(change: Tensor) -> Tensor:
    """Squared lengths [N]; nan where a vector is zero."""
    squared = change.square().sum(1)
    return squared.where(squared > 0, torch.nan)


# ----------------------------------------------------------------------------- pixel by pixel

THRESHOLDS = range(11)
"""Distances (CIE76) within which a pixel counts as right; scores are means over all of them."""


@dataclass(frozen=True)
class Agreement:
    """Shares of pixels that are right (PaintBench, 2026), each [N]; of no pixels all are right.

    Attributes:
        edit: of those that should change.
        preservation: of those that should not.
        iou: right ones that should change, over these and the wrongly changed ones.
    """

    edit: Tensor
    preservation: Tensor
    iou: Tensor


def agreement(result: Tensor, source: Tensor, truth: Tensor) -> Agreement:
    """How many pixels have the colour that they should have."""
    edit, distance = should_change(source, truth), cie76(result, truth)
    edits, kept, joint = [], [], []
    for threshold in THRESHOLDS:
        right = distance <= threshold
        done, spilled = edit & right, ~edit & ~right
        edits.append(_share(done, edit))
        kept.append(_share(~edit & right, ~edit))
        joint.append(_share(done, edit | spilled))
    return Agreement(_mean(edits), _mean(kept), _mean(joint))


def should_change(source: Tensor, truth: Tensor) -> Tensor:
    """The pixels [N,H,W] in which source and truth differ."""
    return (unit(source) != unit(truth)).any(1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Pixels of a part over those of the whole, both [N,H,W]; 1 where the whole is empty."""
    counted, all_of_it = part.flatten(1).sum(1), whole.flatten(1).sum(1)
    return (counted / all_of_it).where(all_of_it > 0, 1.0)


def _mean(shares: list[Tensor]) -> Tensor:
    return torch.stack(shares).mean(0)


ERROR_COLORS = {
    "changed and right": (0, 158, 115),
    "kept and right": (225, 229, 234),
    "wrongly changed": (213, 94, 0),
    "missed": (240, 200, 40),
}
"""What the colours of ``error_map`` mean; red and green weakness see them apart."""


def fates(result: Tensor, source: Tensor, truth: Tensor, threshold: float = 10) -> Tensor:
    """Every pixel's fate as one of four masks [4,N,H,W], in the order of ``ERROR_COLORS``.

    A pixel is right if its colour is within ``threshold`` (CIE76) of the truth's. A wrong one that
    should have kept its colour is wrongly changed; one that should have changed is missed.
    """
    edit, right = should_change(source, truth), cie76(result, truth) <= threshold
    return torch.stack([edit & right, ~edit & right, ~edit & ~right, edit & ~right])


def error_map(result: Tensor, source: Tensor, truth: Tensor, threshold: float = 10) -> Tensor:
    """Every pixel in the colour of its fate (``ERROR_COLORS``): [N,3,H,W] in [-1, 1]."""
    picture = torch.zeros_like(unit(source))
    places = fates(result, source, truth, threshold)
    for color, place in zip(ERROR_COLORS.values(), places, strict=True):
        shade = picture.new_tensor(color).view(1, 3, 1, 1) / 127.5 - 1
        picture = torch.where(place[:, None], shade, picture)
    return picture
