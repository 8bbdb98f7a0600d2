"""Colours as people see them: L*a*b* (CIE 1976) of sRGB pixels, and the distance CIE76."""

from __future__ import annotations

import torch
from torch import Tensor

from dclip.metrics.functional import unit

# linear sRGB -> XYZ, and XYZ of white, under the illuminant D65
XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
WHITE = (0.95047, 1.0, 1.08883)

KNEE = 6 / 29  # below its cube L*a*b*'s root is a straight line


def lab(images: Tensor) -> Tensor:
    """L*a*b* [N,3,H,W] of images [N,3,H,W] in [-1, 1], as an 8-bit file would hold them."""
    x = unit(images)
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,njhw->nihw", x.new_tensor(XYZ), linear)
    xyz = xyz / x.new_tensor(WHITE).view(1, 3, 1, 1)
    line = xyz / (3 * KNEE**2) + 4 / 29
    root = torch.where(xyz > KNEE**3, xyz.clamp_min(0) ** (1 / 3), line)
    lightness = 116 * root[:, 1] - 16
    green_red = 500 * (root[:, 0] - root[:, 1])
    blue_yellow = 200 * (root[:, 1] - root[:, 2])
    return torch.stack([lightness, green_red, blue_yellow], 1)


def cie76(a: Tensor, b: Tensor) -> Tensor:
    """Distance [N,H,W] of the colours of two images; about 2 is just noticeable."""
    return (lab(a) - lab(b)).square().sum(1).sqrt()


NOTICEABLE = 2.0


def changed_share(a: Tensor, b: Tensor) -> Tensor:
    """Share of pixels [N] whose colours differ noticeably."""
    return (cie76(a, b) > NOTICEABLE).float().flatten(1).mean(1)
