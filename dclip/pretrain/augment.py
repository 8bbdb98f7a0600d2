"""How training pictures [N,C,H,W] are varied.

All randomness comes from the generator given, which lives on the device of the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def draw_shift(rng: torch.Generator) -> Tensor:
    """A shift of up to 2 px, [2]: right, down."""
    return torch.randint(-2, 3, (2,), generator=rng, device=rng.device)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Pictures moved by up to 2 whole pixels, right and down; the border is repeated."""
    h, w = x.shape[-2:]
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    rows = 2 + by[1] + torch.arange(h, device=x.device)
    columns = 2 + by[0] + torch.arange(w, device=x.device)
    return padded.index_select(-2, rows).index_select(-1, columns)


def uniform(x: Tensor, rng: torch.Generator) -> Tensor:
    """One random number in [0, 1) per picture, [N,1,1,1]."""
    return torch.rand(len(x), 1, 1, 1, generator=rng, device=rng.device)


def normal_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape of the pictures."""
    return torch.randn(x.shape, generator=rng, device=rng.device)


def degrade(x: Tensor, rng: torch.Generator, noise: float = 0.15) -> Tensor:
    """Mild imperfections: blur on a quarter, and noise on half of the pictures.

    Generated images are never as clean as drawn ones; a network that only ever saw clean ones
    misreads them.
    """
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(uniform(x, rng) < 1 / 4, blurred, x)
    amount = noise * uniform(x, rng) * (uniform(x, rng) < 0.5)
    return x + amount * normal_like(x, rng)


def tinted(x: Tensor, rng: torch.Generator, most: float = 0.2) -> Tensor:
    """Half of the pictures under soft coloured light (a smooth random field, at most ``most``).

    A network that has seen it does not take a red cast over everything for red hair.
    """
    corners = 2 * torch.rand(len(x), 3, 3, 3, generator=rng, device=rng.device) - 1
    field = F.interpolate(corners, x.shape[-2:], mode="bicubic", align_corners=True)
    return x + most * uniform(x, rng) * (uniform(x, rng) < 0.5) * field


SMEARS = 3  # at most, on one picture


def smeared(x: Tensor, rng: torch.Generator, share: float = 0.5) -> Tensor:
    """Pictures, of which a share has up to three soft smears of paint, half transparent or more.

    Half of the smears are in any colour, half in one of the picture's own: a network that has seen
    them does not take a smear in the hair's colour over a chin for a beard.
    """
    h, w = x.shape[-2:]
    down = torch.arange(h, device=x.device).view(1, 1, h, 1)
    right = torch.arange(w, device=x.device).view(1, 1, 1, w)
    touched = uniform(x, rng) < share
    for _ in range(SMEARS):
        center_y, center_x = h * uniform(x, rng), w * uniform(x, rng)
        high, wide = (0.03 + 0.15 * uniform(x, rng)) * h, (0.03 + 0.15 * uniform(x, rng)) * w
        far = ((down - center_y) / high).square() + ((right - center_x) / wide).square()
        strength = 0.5 * uniform(x, rng) * (uniform(x, rng) < 2 / 3) * touched
        cover = strength * torch.exp(-far / 2)
        color = 2 * torch.rand(len(x), 3, 1, 1, generator=rng, device=rng.device) - 1
        color = torch.where(uniform(x, rng) < 0.5, _own_color(x, rng), color)
        x = x + cover * (color - x)
    return x


def _own_color(x: Tensor, rng: torch.Generator) -> Tensor:
    """The colour [N,C,1,1] of one random pixel of every picture."""
    pixels = x.flatten(2)
    at = torch.randint(pixels.shape[2], (len(x), 1, 1), generator=rng, device=rng.device)
    return pixels.gather(2, at.expand(-1, pixels.shape[1], -1)).unsqueeze(-1)


PARTLY = 0.4  # a picture that has come so far towards another is still what it was


def partly(x: Tensor, other: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """Pictures, of which a share is blended with another one, up to ``PARTLY`` of the way.

    A network that has seen them does not take a half-made edit for a whole one.
    """
    amount = PARTLY * uniform(x, rng) * (uniform(x, rng) < share)
    return x + amount * (other - x)


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures, each turned left to right with even odds."""
    return torch.where(uniform(x, rng) < 0.5, x.flip(-1), x)


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


STRIDE = 1.5  # of the steps of an attack, together, in its length


def adversarial(
    x: Tensor, length: Tensor, loss: Callable[[Tensor], Tensor], steps: int = 1
) -> Tensor:
    """Pictures moved against ``loss``, none further than its ``length`` [N] (L2).

    Projected gradient steps (Madry et al. 2018); a single one goes the whole way.
    """
    if steps == 1:
        return adversarial_step(x, length, loss)
    moved = x
    for _ in range(steps):
        moved = adversarial_step(moved, STRIDE / steps * length, loss)
        way = moved - x
        far = way.flatten(1).norm(dim=1).clamp_min(1e-12)
        moved = channels_last(x + way * (length / far).clamp(max=1).view(-1, 1, 1, 1))
    return moved


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
