"""The source's colours: where an edit acts by them, and what it does to each.

The core of an edit's region says which colours the edit changes; the rest of the picture says which
it does not (back-projection, Swain and Ballard 1991). So hair is red down to its ends, and lips,
eyes and a beard in a green face stay. At a region's edge, a pixel shows both sides, and changes by
the share of the one. And a word has one colour: whatever a hair's colour was, red is the red that
the edit usually draws. Shapes in a colour that the picture has: matte.py.

=======  ===============================================================================
symbol   meaning
=======  ===============================================================================
x        colours of the source image, in [-1, 1]
k        a Gaussian of the distance between two colours
p, q     mean k to the pixels of the core, and to those that the edit leaves
f, b     mean colours within and beside the region, near a pixel
=======  ===============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 0.05  # of k, where no other is given: 6 grey levels
SEEN = 1024  # pixels that say what colours a region has
FAINT = 0.05  # smaller values of a region are 0, so that the rest stays bit for bit
ALIKE = 0.01  # squared distance of colours that are not told apart
OFF = 0.1  # squared distance from which a colour is no mixture of two others
EDGE = 3  # pixels as far as which the two sides of an edge are looked for


def like_core(source: Tensor, core: Tensor, left: Tensor) -> Tensor:
    """How surely each pixel has a colour of the core: p / (p + q), [H,W] in [0, 1].

    Args:
        source: one image [3,H,W].
        core, left: its core, and what the edit leaves, [H,W] of truth values.
    """
    colors = source.flatten(1).T
    inside, beside = _nearness(colors, core), _nearness(colors, left)
    return (inside / (inside + beside).clamp_min(1e-12)).view_as(source[0])


def _nearness(colors: Tensor, mask: Tensor) -> Tensor:
    """Mean k of every colour [P,3] to those of a mask, [P]; 0 where that is empty."""
    chosen = some_of(mask.flatten().nonzero()[:, 0])
    if len(chosen) == 0:
        return torch.zeros_like(colors[:, 0])
    return closeness(colors, colors[chosen]).mean(1)


def edge_shares(source: Tensor, region: Tensor) -> Tensor:
    """A region [N,1,H,W] of 0 and 1, at whose edge a pixel has the share of it that its colour shows.

    A pixel of the edge has neighbours on both sides. Its colour x is taken for a mixture of theirs,
    and its share is (x - b)(f - b) / |f - b|^2, from 0 to 1. Where it is no such mixture, one side is
    too thin to have pixels of its own, or both look alike, the edge stays as it is.
    """
    within, beside = 1 - _spread(1 - region), 1 - _spread(region)
    f, b = _near(source, within), _near(source, beside)
    apart = (f - b).square().sum(1, keepdim=True)
    share = ((source - b) * (f - b)).sum(1, keepdim=True) / apart.clamp_min(ALIKE)
    share = torch.where(share < FAINT, 0.0, torch.where(share > 1 - FAINT, 1.0, share))
    off = (source - b - share * (f - b)).square().sum(1, keepdim=True)
    known = (_mean(within) > 0) & (_mean(beside) > 0) & (apart > ALIKE) & (off < OFF)
    return torch.where(known & (within + beside == 0), share, region)


def _spread(mask: Tensor) -> Tensor:
    """A mask and the pixels that touch it."""
    return F.max_pool2d(mask, 3, 1, 1)


def _mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2 * EDGE + 1, 1, EDGE)


def _near(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of a mask's values [N,3,H,W] near each pixel; 0 where there are none."""
    return _mean(values * mask) / _mean(mask).clamp_min(1e-6)


def by_color(source: Tensor, change: Tensor, region: Tensor) -> Tensor:
    """The change [N,3,H,W] as a function of the source's colours, for each image by itself.

    A colour gets the mean change of the region's pixels of that colour; what the edit changes most
    counts most. Where the region has no such colour, the change stays as it is. What belongs to the
    region in part changes like what is near and belongs to it.

    Args:
        region: [N,1,H,W] in [0, 1].
    """
    images = zip(source, change, region[:, 0], strict=True)
    shaped = torch.stack([_one_by_color(*image) for image in images])
    whole = (region == 1).to(shaped)
    edge = (region > 0) & (region < 1) & (_mean(whole) > 0)
    return torch.where(edge, _near(shaped, whole), shaped)


def _one_by_color(source: Tensor, change: Tensor, region: Tensor) -> Tensor:
    colors, values = source.flatten(1).T, change.flatten(1).T
    weights = region.flatten() * values.square().sum(1)
    chosen = some_of((weights > 0).nonzero()[:, 0])
    if len(chosen) == 0:
        return change
    counted = closeness(colors, colors[chosen]) * weights[chosen]
    total = counted.sum(1, keepdim=True)
    means = counted @ values[chosen] / total.clamp_min(1e-12)
    return torch.where(total > 1e-9, means, values).T.view_as(change)


@dataclass(frozen=True)
class Tint:
    """What brings the mean colours of images nearer to the one that an edit usually draws.

    Attributes:
        change: mean changes [N,3] of the whole edit, in each image's region.
        shift: what is added to them.
    """

    change: Tensor
    shift: Tensor

    @classmethod
    def towards(
        cls, color: Tensor, share: float, source: Tensor, change: Tensor, region: Tensor
    ) -> Tint:
        """A share of the way from the whole edit's mean colours to another colour [3]."""
        mean = mean_within(_in_range(source, change), region)
        return cls(mean, share * (color.to(mean) - mean_within(source, region) - mean))

    def added(self, source: Tensor, change: Tensor, region: Tensor) -> Tensor:
        """Another degree's change [N,3,H,W] with as much of the shift as it has of the whole change."""
        change = _in_range(source, change)
        degree = (mean_within(change, region) * self.change).sum(1, keepdim=True)
        degree = degree / self.change.square().sum(1, keepdim=True).clamp_min(1e-6)
        return change + (degree * self.shift)[:, :, None, None]


def _in_range(source: Tensor, change: Tensor) -> Tensor:
    """The change [N,3,H,W] as far as an image can show it."""
    return (source + change).clamp(-1, 1) - source


def mean_within(values: Tensor, region: Tensor) -> Tensor:
    """The mean of [N,3,H,W] where a region [N,1,H,W] is 1, else where it is most: [N,3]."""
    whole = (region == region.flatten(1).amax(1).view(-1, 1, 1, 1)).to(values)
    return (values * whole).sum((2, 3)) / whole.sum((2, 3))


def closeness(colors: Tensor, others: Tensor, width: float = WIDTH) -> Tensor:
    """k of every colour [P,3] to each of others [Q,3], [P,Q]."""
    return torch.exp(-torch.cdist(colors, others).square() / (2 * width**2))


def some_of(rows: Tensor) -> Tensor:
    """At most ``SEEN`` of them, evenly spread."""
    step = -(-len(rows) // SEEN)
    return rows[:: max(1, step)]
