"""How training pictures [N,C,H,W] are varied. All randomness comes from the generator given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def draw_shift(rng: torch.Generator) -> tuple[int, int]:
    """A shift of up to 2 px, (right, down)."""
    dx, dy = torch.randint(-2, 3, (2,), generator=rng).tolist()
    return dx, dy


def shifted(x: Tensor, by: tuple[int, int]) -> Tensor:
    """Pictures moved by up to 2 whole pixels; the border is repeated."""
    (dx, dy), (h, w) = by, x.shape[-2:]
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    return padded[..., 2 + dy : 2 + dy + h, 2 + dx : 2 + dx + w]


def _uniform(x: Tensor, rng: torch.Generator) -> Tensor:
    """One random number in [0, 1) per picture."""
    return torch.rand(len(x), 1, 1, 1, generator=rng)


def degrade(x: Tensor, rng: torch.Generator, noise: float = 0.15) -> Tensor:
    """Mild imperfections: blur on a quarter, and noise on half of the pictures.

    Generated images are never as clean as drawn ones; a network that only ever saw clean ones
    misreads them.
    """
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(_uniform(x, rng) < 1 / 4, blurred, x)
    amount = noise * _uniform(x, rng) * (_uniform(x, rng) < 0.5)
    return x + amount * torch.randn(x.shape, generator=rng)


def tinted(x: Tensor, rng: torch.Generator, most: float = 0.2) -> Tensor:
    """Half of the pictures under soft coloured light (a smooth random field, at most ``most``).

    A network that has seen it does not take a red cast over everything for red hair.
    """
    corners = 2 * torch.rand(len(x), 3, 3, 3, generator=rng) - 1
    field = F.interpolate(corners, x.shape[-2:], mode="bicubic", align_corners=True)
    return x + most * _uniform(x, rng) * (_uniform(x, rng) < 0.5) * field


SMEARS = 3  # at most, on one picture


def smeared(x: Tensor, rng: torch.Generator, share: float = 0.5) -> Tensor:
    """Pictures, of which a share has one to three soft smears of paint, half transparent or more.

    A network that has seen them does not take a dark smear over a chin for a beard.
    """
    h, w = x.shape[-2:]
    down = torch.arange(h).view(1, 1, h, 1)
    right = torch.arange(w).view(1, 1, 1, w)
    touched = _uniform(x, rng) < share
    for _ in range(SMEARS):
        center_y, center_x = h * _uniform(x, rng), w * _uniform(x, rng)
        high, wide = (0.03 + 0.15 * _uniform(x, rng)) * h, (0.03 + 0.15 * _uniform(x, rng)) * w
        far = ((down - center_y) / high).square() + ((right - center_x) / wide).square()
        strength = 0.5 * _uniform(x, rng) * (_uniform(x, rng) < 2 / 3) * touched
        cover = strength * torch.exp(-far / 2)
        color = 2 * torch.rand(len(x), 3, 1, 1, generator=rng) - 1
        x = x + cover * (color - x)
    return x


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures, each turned left to right with even odds."""
    return torch.where(_uniform(x, rng) < 0.5, x.flip(-1), x)


def channels_last(x: Tensor) -> Tensor:
    """In the memory layout that convolutions are fast in."""
    return x.contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------- adversarial training


def adversarial_step(x: Tensor, length: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Pictures, each moved ``length`` [N] (L2) along the gradient of their summed ``loss``."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(x), x)
    norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    step = gradient / norms.view(-1, 1, 1, 1)
    return channels_last((x + length.view(-1, 1, 1, 1) * step).detach())


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, but its running statistics are left alone."""
    momenta: list[tuple[nn.BatchNorm1d | nn.BatchNorm2d, float | None]] = []
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            momenta.append((module, module.momentum))
            module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in momenta:
            module.momentum = momentum
