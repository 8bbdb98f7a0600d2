"""New shapes in a colour that the picture has, such as beards: laid over it with a matte.

    z = x + m a (o - x),    a = clamp(gamma gain s, 0, 1)
    s = (<c, o - x> + TRUST S) / (|o - x|^2 + TRUST)

=======  ===============================================================================
symbol   meaning
=======  ===============================================================================
x        colours of the source; in z, of a mixture, as the other edits left them
o        the colour that the picture has where the edit usually takes its own from
c        the change that the edit makes to this picture
S        how far the edit usually goes to o: <c, o - x> / (|o - x|^2 + FLAT), both summed
         over a few images first, so that a pixel counts where the colours differ
s        the same of this picture, and where x is nearly o, the usual one
gain     ``edit.region_gain``; where gain s is below ``edit.region_low``, nothing is drawn
m        a mask, where ``edit.region`` names one; else 1
=======  ===============================================================================

An edit of few steps draws a shape faintly, blurred and in another colour. Over a few aligned
pictures these faults are averaged away, and S is the sharp matte of the shape (alpha matting, Porter
and Duff 1984). So S decides with the picture's own change: an edit that does nothing to a picture
still draws a part of the usual shape there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.edits.colors import closeness, some_of

TRUST = 3.0  # squared distance of x and o at which a picture counts as much as the usual one
ORIGIN = 0.01  # smaller values of where a colour comes from are none
FLAT = 0.03  # squared distance of x and o below which a pixel says little
STEEP = 20  # an origin that explains a tenth less counts an eighth
SHIFTS = 3  # steps of mean shift to a common colour


@dataclass(frozen=True)
class Palette:
    """Which colour a picture has for a new shape.

    Attributes:
        origin: where it usually comes from, [1,1,S,S] in [0, 1].
        width: distance of colours, in [-1, 1], that count as one.
    """

    origin: Tensor
    width: float

    def colors(self, pictures: Tensor) -> Tensor:
        """The most common colour of each picture [N,3,H,W] at the origin, [N,3]."""
        origin = _sized(self.origin, pictures)[0, 0]
        return torch.stack([_common_color(x, origin, self.width) for x in pictures])


@dataclass(frozen=True)
class Matte:
    """The shape that an edit adds to images, as its whole change (gamma = 1) says.

    Attributes:
        palette: of its colour.
        share: gain s, how far each pixel goes to that colour, [N,1,H,W] from 0 on.
    """

    palette: Palette
    share: Tensor

    @classmethod
    def of(
        cls,
        palette: Palette,
        usual: Tensor,
        source: Tensor,
        change: Tensor,
        gain: float,
        low: float,
    ) -> Matte:
        """The matte of a change [N,3,H,W] to source images.

        Args:
            usual: S, [1,1,S,S] in [0, 1].
            low: smaller values of gain s are 0, so that the rest stays bit for bit.
        """
        usual = _sized(usual, source)
        toward = palette.colors(source)[:, :, None, None] - source
        made = (change * toward).sum(1, keepdim=True)
        share = gain * (made + TRUST * usual) / (toward.square().sum(1, keepdim=True) + TRUST)
        return cls(palette, torch.where(share < low, 0.0, share))

    @property
    def region(self) -> Tensor:
        """Where the shape is, [N,1,H,W], 1 or 0."""
        return (self.share > 0).to(self.share)

    def laid_over(self, picture: Tensor, region: Tensor, gamma: float) -> Tensor:
        """Pictures [N,3,H,W] with the shape in a region [N,1,H,W]; the rest stays bit for bit.

        Args:
            picture: the source, perhaps with other edits.
            gamma: the degree; at 0 and below, nothing is drawn.
        """
        alpha = region * (gamma * self.share).clamp(0, 1)
        toward = self.palette.colors(picture)[:, :, None, None] - picture
        return torch.where(alpha > 0, picture + alpha * toward, picture)


def origin_of(source: Tensor, change: Tensor, region: Tensor) -> Tensor:
    """Where images have the colour that explains their changes: [1,1,H,W] in [0, 1], the most 1.

    If o is the colour of one pixel, s (o - x) can explain some of the changes c in the region; for the
    best s of each pixel x, that is the sum of <c, o - x>^2 / |o - x|^2, images and channels summed
    before they are squared or divided. It counts with the power ``STEEP``. The region is no origin.

    Args:
        source, change: [N,3,H,W].
        region: what the edit usually changes, [1,1,H,W] of truth values.
    """
    colors = source.flatten(2)
    where = region.flatten()
    x, c = colors[..., where], change.flatten(2)[..., where]
    made = torch.einsum("ncp,ncq->qp", c, colors) - (c * x).sum((0, 1))
    apart = colors.square().sum((0, 1))[:, None] + x.square().sum((0, 1))
    apart = apart - 2 * torch.einsum("ncp,ncq->qp", x, colors)
    explained = (made.clamp_min(0).square() / apart.clamp_min(1e-3)).sum(1).masked_fill(where, 0.0)
    return (explained / explained.max().clamp_min(1e-12)).pow(STEEP).view_as(source[:1, :1])


def usual_share(palette: Palette, source: Tensor, change: Tensor) -> Tensor:
    """S, how far a change [N,3,H,W] goes to the pictures' own colours, [1,1,H,W] in [0, 1]."""
    toward = palette.colors(source)[:, :, None, None] - source
    made = (change * toward).sum((0, 1), keepdim=True)
    apart = toward.square().sum((0, 1), keepdim=True)
    return (made / (apart + FLAT * len(source))).clamp(0, 1)


def _common_color(picture: Tensor, weights: Tensor, width: float) -> Tensor:
    """The most common colour [3] of a picture [3,H,W] whose pixels count by weights [H,W].

    All count if none does. From the densest colour, mean shift leads to it (Comaniciu and Meer
    2002).
    """
    if weights.max() <= ORIGIN:
        weights = torch.ones_like(weights)
    chosen = some_of((weights.flatten() > ORIGIN).nonzero()[:, 0])
    colors, counted = picture.flatten(1).T[chosen], weights.flatten()[chosen]
    color = colors[(closeness(colors, colors, width) @ counted).argmax()]
    for _ in range(SHIFTS):
        near = closeness(color[None], colors, width)[0] * counted
        color = near @ colors / near.sum().clamp_min(1e-12)
    return color


def _sized(values: Tensor, like: Tensor) -> Tensor:
    """A map [1,1,S,S] at the size of images."""
    return F.interpolate(values.to(like), like.shape[-2:], mode="bilinear", align_corners=False)
