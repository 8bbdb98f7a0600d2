"""Denoisers with known answers."""

import torch

from dclip.diffusion.sampler import Prediction


def start(n=2, seed=0):
    return torch.randn(
        n, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def constant(value):
    return lambda x, t: Prediction(torch.full_like(x, value))


def wavy(x, t):
    return Prediction(0.5 * torch.sin(2 * x) + t.view(-1, 1, 1, 1) / 2000)


def asymmetric(x, t):
    """x0 is predicted from another noise than the one that points back."""
    return Prediction(wavy(x, t).eps, x0_eps=0.9 * wavy(x, t).eps - 0.1)
