"""The source's colours: where an edit acts by them, what it does to each, and what it may draw with.

The core of an edit's region says which colours the edit changes; the rest of the picture says which
it does not (back-projection, Swain and Ballard 1991). So hair is red down to its ends, and lips,
eyes and a beard in a green face stay. At a region's edge, a pixel shows both sides, and changes by
the share of the one. A beard, in turn, is drawn in a colour that the picture has: the hair's. And a
word has one colour: whatever a hair's colour was, red is the red that the edit usually draws.

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
BOLD = 1.5  # what an edit draws goes so much further to the picture's own colour
CONTRAST = 0.4  # distance of colours below which what was drawn stays in part
ORIGIN_WIDTH = 0.1  # of k, where the origin of a drawn colour is looked for
SHIFTS = 3  # steps of mean shift to a common colour
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
    chosen = _some(mask.flatten().nonzero()[:, 0])
    if len(chosen) == 0:
        return torch.zeros_like(colors[:, 0])
    return _k(colors, colors[chosen]).mean(1)


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
    chosen = _some((weights > 0).nonzero()[:, 0])
    if len(chosen) == 0:
        return change
    counted = _k(colors, colors[chosen]) * weights[chosen]
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


def in_own_color(
    source: Tensor, edited: Tensor, region: Tensor, width: float, origin: Tensor
) -> Tensor:
    """Edited images [N,3,H,W] in a region [N,1,H,W], drawn in a colour o that their pictures have.

        z = x + s (o - x) + n (y - x - s (o - x))
        s = clamp(BOLD <y - x, o - x> / |o - x|^2, 0, 1),   n = max(0, 1 - |o - x| / CONTRAST)

    x is a pixel's colour before, y as the edit drew it, z as it becomes. So the edit says how far a
    pixel goes, and the picture to which colour. Where that is nearly x, what was drawn stays in part:
    nobody would see a beard in the colour of the skin. What is not edited stays bit for bit.

    Args:
        width: of colours that count as one, images being in [-1, 1].
        origin: where o usually comes from (usual.py), [1,1,S,S].
    """
    size = source.shape[-2:]
    where_from = F.interpolate(origin.to(source), size, mode="bilinear", align_corners=False)[0, 0]
    images = zip(source, edited, region[:, 0] > 0, strict=True)
    return torch.stack([_one_in_own_color(*image, width, where_from) for image in images])


def _one_in_own_color(
    source: Tensor, edited: Tensor, where: Tensor, width: float, origin: Tensor
) -> Tensor:
    color = _common_color(edited, torch.where(where, 0.0, origin).square(), width)
    if color is None:
        return edited
    before = _but_for_this(source, edited, where)
    change, toward = edited - before, color[:, None, None] - before
    apart = toward.square().sum(0)
    share = BOLD * (change * toward).sum(0) / apart.clamp_min(ALIKE)
    own = share.clamp(0, 1) * toward
    faint = (1 - apart.sqrt() / CONTRAST).clamp_min(0)
    return torch.where(where, before + own + faint * (change - own), edited)


def _but_for_this(source: Tensor, edited: Tensor, where: Tensor) -> Tensor:
    """An image without the edit of this region: its colours changed as other edits did beside it."""
    beside = ~where & (edited != source).any(0)
    if not beside.any():
        return source
    others = _one_by_color(source, edited - source, beside.to(source))
    return torch.where(where, source + others, edited)


def _common_color(picture: Tensor, weights: Tensor, width: float) -> Tensor | None:
    """The most common colour [3] of a picture [3,H,W] whose pixels count by weights [H,W].

    None where none counts. From the densest colour, mean shift leads to it (Comaniciu and Meer 2002).
    """
    chosen = _some((weights.flatten() > FAINT**2).nonzero()[:, 0])
    if len(chosen) == 0:
        return None
    colors, counted = picture.flatten(1).T[chosen], weights.flatten()[chosen]
    color = colors[(_k(colors, colors, width) @ counted).argmax()]
    for _ in range(SHIFTS):
        near = _k(color[None], colors, width)[0] * counted
        color = near @ colors / near.sum()
    return color


def origin_of(source: Tensor, edited: Tensor, region: Tensor) -> Tensor:
    """Where images [N,3,H,W] have the colour that an edit drew in its region: [1,1,H,W] from 0 on.

    What the edit changed most counts most for its colour. The region itself is no origin.
    """
    found = torch.zeros_like(source[:1, :1])
    for x, y, where in zip(source, edited, region[:, 0] > 0, strict=True):
        weights = torch.where(where, (y - x).square().sum(0), 0.0)
        color = (y * weights).sum((1, 2)) / weights.sum().clamp_min(1e-12)
        alike = _k(x.flatten(1).T, color[None], ORIGIN_WIDTH).view(1, 1, *where.shape)
        found = found + torch.where(where, 0.0, alike) / len(source)
    return found


def _k(colors: Tensor, others: Tensor, width: float = WIDTH) -> Tensor:
    return torch.exp(-torch.cdist(colors, others).square() / (2 * width**2))


def _some(rows: Tensor) -> Tensor:
    """At most ``SEEN`` of them, evenly spread."""
    step = -(-len(rows) // SEEN)
    return rows[:: max(1, step)]
