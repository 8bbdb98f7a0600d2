"""Colours in the middle of photographs: painted there, and measured. Pixels [N,3,H,W] in [-1, 1].

All randomness comes from the generator given, on whose device the pictures are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.95, 0.50, 0.05),
    "yellow": (0.92, 0.84, 0.12),
    "green": (0.15, 0.60, 0.20),
    "blue": (0.10, 0.25, 0.82),
    "purple": (0.52, 0.15, 0.68),
    "brown": (0.42, 0.25, 0.12),
    "white": (0.94, 0.94, 0.94),
    "grey": (0.50, 0.50, 0.50),
    "black": (0.08, 0.08, 0.08),
}
"""Every colour word, and red, green, blue in 0..1."""

NAMES = tuple(COLORS)
UNKNOWN = -1

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Painted:
    """Pictures of which some have been painted.

    Attributes:
        pixels: [N,3,H,W].
        color: the colour word [N] of the middle, an index of ``NAMES``; -1 where nobody knows.
        striped: bool [N], black and white stripes in the middle.
    """

    pixels: Tensor
    color: Tensor
    striped: Tensor


@dataclass(frozen=True)
class Shares:
    """Of all pictures: those with a new colour in the middle, with stripes, with a new ground."""

    middle: float
    stripes: float
    ground: float

    @classmethod
    def of(cls, colors: float) -> Shares:
        """Stripes on a tenth as many pictures as colours; a painted ground on a quarter."""
        return cls(colors, colors / 10, colors / 4)


def painted(x: Tensor, known: Tensor, shares: Shares, rng: torch.Generator) -> Painted:
    """Pictures, of which shares get another colour in the middle, stripes there, or a new ground.

    The ground's colour is never what the words say: who learns from these pictures cannot take a
    blue sky for a blue car.

    Args:
        known: the colour [N] of the middle where it is clear, else -1.
    """
    n, device = len(x), x.device
    draw = torch.rand(n, device=device, generator=rng)
    new = draw < shares.middle
    striped = (draw >= shares.middle) & (draw < shares.middle + shares.stripes)
    ground = torch.rand(n, device=device, generator=rng) < shares.ground
    middle = middles(x, rng)
    around = (1 - middles(x, rng)) * (1 - middle)
    words = torch.randint(len(NAMES), (2, n), device=device, generator=rng)
    x = torch.where(_each(ground), recolored(x, around, words[0], rng), x)
    x = torch.where(_each(new), recolored(x, middle, words[1], rng), x)
    x = torch.where(_each(striped), stripes(x, middle, rng), x)
    color = torch.where(new, words[1], known)
    return Painted(x, torch.where(striped, UNKNOWN, color), striped)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _uniform(x: Tensor, rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """A random number per picture, [N,1,1,1]."""
    drawn = torch.rand(len(x), 1, 1, 1, device=x.device, generator=rng)
    return low + (high - low) * drawn


def _places(x: Tensor) -> tuple[Tensor, Tensor]:
    """How far down [H,1] and how far right [1,W] a pixel is, from -1 to 1."""
    h, w = x.shape[-2:]
    down = torch.linspace(-1, 1, h, device=x.device).view(h, 1)
    return down, torch.linspace(-1, 1, w, device=x.device).view(1, w)


def middles(x: Tensor, rng: torch.Generator) -> Tensor:
    """A soft ellipse [N,1,H,W] around the middle of every picture, from 0 to 1."""
    down, right = _places(x)
    high, wide = _uniform(x, rng, 0.35, 0.8), _uniform(x, rng, 0.45, 0.9)
    up, left = _uniform(x, rng, -0.15, 0.15), _uniform(x, rng, -0.15, 0.15)
    far = (((down + up) / high).square() + ((right + left) / wide).square()).sqrt()
    return torch.sigmoid((1 - far) / _uniform(x, rng, 0.04, 0.15))


def lightness(pixels: Tensor) -> Tensor:
    """Luma [N,1,H,W] of red, green, blue in 0..1 (ITU-R BT.601)."""
    return (pixels * pixels.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def recolored(x: Tensor, mask: Tensor, words: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures whose ``mask`` [N,1,H,W] has the colours ``words`` [N], with light and shade kept.

    Hue and saturation are replaced; the mean lightness moves towards the colour's, for a yellow as
    dark as a blue is none, and white and black are nothing but lightness.
    """
    pixels = (x + 1) / 2
    color = x.new_tensor(list(COLORS.values()))[words].view(-1, 3, 1, 1)
    color = (color + 0.06 * _jitter(color, rng)).clamp(0.03, 0.97)
    target, light = lightness(color), lightness(pixels)
    mean = (mask * light).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1)
    level = mean + _uniform(x, rng, 0.8, 1.0) * (target - mean)
    light = (level + _uniform(x, rng, 0.4, 1.0) * (light - mean)).clamp(0.02, 0.98)
    new = light + (color - target) * _room(color - target, light)
    return x + mask * (2 * new - 1 - x)


def _jitter(color: Tensor, rng: torch.Generator) -> Tensor:
    """Random numbers from -1 to 1 a channel, of one sign for white, grey and black."""
    drawn = torch.rand(color.shape, device=color.device, generator=rng)
    plain = color.amax(1, keepdim=True) == color.amin(1, keepdim=True)
    return 2 * torch.where(plain, drawn[:, :1], drawn) - 1


def _room(chroma: Tensor, light: Tensor) -> Tensor:
    """How much of a colour fits a lightness before a channel leaves 0..1; at most all of it."""
    up, down = (1 - light) / chroma.clamp_min(1e-4), light / (-chroma).clamp_min(1e-4)
    return torch.where(chroma > 0, up, down).amin(1, keepdim=True).clamp(max=1)


def stripes(x: Tensor, mask: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures with soft black and white stripes in ``mask``: a stand-in for a zebra's coat."""
    down, right = _places(x)
    angle, phase = _uniform(x, rng, -0.9, 0.9), _uniform(x, rng, 0, 2 * math.pi)
    period = _uniform(x, rng, 3, 6) * 2 / x.shape[-1]
    along = right * angle.cos() + down * angle.sin()
    wave = torch.sigmoid(4 * torch.sin(2 * math.pi * along / period + phase))
    new = 0.8 * (0.05 + 0.9 * wave) + 0.2 * lightness((x + 1) / 2)
    return x + mask * (2 * new - 1 - x)


# ----------------------------------------------------------------------------------- measuring

_EDGES = (15.0, 45.0, 70.0, 165.0, 260.0, 335.0)  # degrees of hue between the colours
_HUES = ("red", "orange", "yellow", "green", "blue", "purple", "red")


def words_of(x: Tensor) -> Tensor:
    """The colour word [N,H,W] of every pixel; -1 where it is between two."""
    red, green, blue = ((x + 1) / 2).clamp(0, 1).unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    hue = torch.atan2(math.sqrt(3) / 2 * (green - blue), red - (green + blue) / 2)
    hues = torch.tensor([NAMES.index(name) for name in _HUES], device=x.device)
    edges = torch.tensor(_EDGES, device=x.device)
    word = hues[torch.bucketize(hue.rad2deg() % 360, edges)]
    warm = (word == NAMES.index("orange")) | (word == NAMES.index("red"))
    word = torch.where(warm & (high < 0.55), NAMES.index("brown"), word)
    word = torch.where((chroma < 0.18) | (chroma < 0.35 * high), UNKNOWN, word)
    plain = chroma < 0.07
    word = torch.where(plain, NAMES.index("grey"), word)
    word = torch.where(plain & (high > 0.8), NAMES.index("white"), word)
    return torch.where(high < 0.2, NAMES.index("black"), word)


def measured(x: Tensor, share: float = 0.6) -> Tensor:
    """The colour word [N] that at least ``share`` of the middle has; -1 where none does."""
    down, right = _places(x)
    inside = torch.exp(-2 * (down / 0.5).square() - 2 * (right / 0.6).square())
    words = words_of(x)
    counts = [(inside * (words == k)).sum((1, 2)) for k in range(len(NAMES))]
    most, word = (torch.stack(counts, 1) / inside.sum()).max(1)
    return torch.where(most >= share, word, UNKNOWN)
