"""Distances between sets of images, from their features [N, D]: KID, FID, and how sure they are. All in float64.

KID (Binkowski et al. 2018): squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased. Published tables
average it over random subsets and print the spread over *subsets*, which says nothing about how many samples there
were. The interval here is a bootstrap over samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SEED = 2020  # torch-fidelity's


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Kernels:
    """The kernel's values between real [M, D] and generated [N, D] features, computed once for all subsets."""

    real: Tensor
    fake: Tensor
    cross: Tensor

    @classmethod
    def of(cls, real: Tensor, fake: Tensor) -> Kernels:
        """From features."""
        x, y = real.double(), fake.double()
        return cls(_kernel(x, x), _kernel(y, y), _kernel(x, y))


def _mean_off_diagonal(kernel: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over pairs of different samples."""
    pairs = weights[:, None] * weights[None]
    pairs.fill_diagonal_(0)
    return (pairs * kernel).sum() / pairs.sum()


def kid(kernels: Kernels, real: Tensor | None = None, fake: Tensor | None = None) -> float:
    """Unbiased KID; ``real`` [M] and ``fake`` [N] say how often each sample counts (unset: once)."""
    w = kernels.cross.new_ones(kernels.cross.shape[0]) if real is None else real.double()
    v = kernels.cross.new_ones(kernels.cross.shape[1]) if fake is None else fake.double()
    cross = w @ kernels.cross @ v / (w.sum() * v.sum())
    return float(
        _mean_off_diagonal(kernels.real, w) + _mean_off_diagonal(kernels.fake, v) - 2 * cross
    )


def subset_kid(kernels: Kernels, size: int, subsets: int = 100) -> tuple[float, float]:
    """Mean and standard deviation of KID over random subsets, as published. ValueError if there are fewer samples."""
    m, n = kernels.cross.shape
    if size > min(m, n):
        raise ValueError(f"{min(m, n)} images are fewer than the subset size {size}")
    random = torch.Generator().manual_seed(SEED)
    found = []
    for _ in range(subsets):
        i, j = (
            torch.randperm(m, generator=random)[:size],
            torch.randperm(n, generator=random)[:size],
        )
        part = Kernels(kernels.real[i][:, i], kernels.fake[j][:, j], kernels.cross[i][:, j])
        found.append(kid(part))
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), float(values.std(correction=0))


def _interval(values: list[float]) -> tuple[float, float]:
    """Middle 95 %; a draw that holds one sample only has no pairs and no value (nan), and does not count."""
    low, high = torch.tensor(values, dtype=torch.float64).nanquantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return float(low), float(high)


def _counts(n: int, random: torch.Generator) -> Tensor:
    return torch.bincount(torch.randint(n, (n,), generator=random), minlength=n)


def kid_interval(kernels: Kernels, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of KID over real and generated samples. A sample drawn twice is not compared with itself."""
    random = torch.Generator().manual_seed(SEED)
    m, n = kernels.cross.shape
    return _interval([kid(kernels, _counts(m, random), _counts(n, random)) for _ in range(draws)])


def mean_interval(values: Tensor, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values [N], over samples."""
    random = torch.Generator().manual_seed(SEED)
    picks = torch.randint(len(values), (draws, len(values)), generator=random)
    return _interval(values.double()[picks].mean(1).tolist())


def frechet(real: Tensor, fake: Tensor) -> float:
    """FID's distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two feature sets (Heusel et al. 2017).

    Biased upward by few samples (thousands are usual): compare only sets of the same size. With C = A^T A, the root's
    trace is the sum of the singular values of A1 A2^T, which is as small as the number of samples.
    """
    x, y = real.double(), fake.double()
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    return float(
        (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * root
    )
