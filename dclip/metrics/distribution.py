"""Distances between sets of images from their features [N, D]: KID, FID and intervals, in float64.

KID (Binkowski et al. 2018): squared maximum mean discrepancy with the kernel (x.y / D + 1)^3,
unbiased. Published tables average it over random subsets and print the spread over *subsets*,
which says nothing about how many samples there were. The interval here is a bootstrap over samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SEED = 2020  # torch-fidelity's


@dataclass(frozen=True)
class FeatureSets:
    """Features of real [M, D] and generated [N, D] images, and how they are compared.

    Attributes:
        subset_sizes: images a KID subset, by the name of the result.
        subsets: how many KID subsets are averaged.
        setting: where the sizes are set.
        bootstrap: draws behind an interval; 0 leaves it out.
        bootstrap_setting: where they are set.
    """

    real: Tensor
    fake: Tensor
    subset_sizes: Mapping[str, int]
    setting: str
    subsets: int
    bootstrap: int
    bootstrap_setting: str = "metric.bootstrap"

    @property
    def fewest(self) -> int:
        """Images of the smaller set."""
        return min(len(self.real), len(self.fake))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Kernels:
    """The kernel's values between real [M, D] and generated [N, D] features, for all subsets."""

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
    """Unbiased KID; ``real`` [M] and ``fake`` [N]: how often each sample counts (unset: once)."""
    m, n = kernels.cross.shape
    w = _weights(real, m, kernels.cross)
    v = _weights(fake, n, kernels.cross)
    cross = w @ kernels.cross @ v / (w.sum() * v.sum())
    within = _mean_off_diagonal(kernels.real, w) + _mean_off_diagonal(kernels.fake, v)
    return float(within - 2 * cross)


def _weights(counts: Tensor | None, size: int, like: Tensor) -> Tensor:
    return like.new_ones(size) if counts is None else counts.double()


def subset_kid(kernels: Kernels, size: int, subsets: int = 100) -> tuple[float, float]:
    """Mean and standard deviation of KID over random subsets, as published.

    ValueError if there are fewer samples than a subset needs.
    """
    m, n = kernels.cross.shape
    if size > min(m, n):
        raise ValueError(f"{min(m, n)} images are fewer than the subset size {size}")
    random = torch.Generator().manual_seed(SEED)
    values = torch.zeros(subsets, dtype=torch.float64)
    for k in range(subsets):
        i = torch.randperm(m, generator=random)[:size]
        j = torch.randperm(n, generator=random)[:size]
        part = Kernels(kernels.real[i][:, i], kernels.fake[j][:, j], kernels.cross[i][:, j])
        values[k] = kid(part)
    return float(values.mean()), float(values.std(correction=0))


def middle(values: Tensor) -> tuple[float, float]:
    """Middle 95 % of values [K].

    A draw that holds one sample only has no pairs and no value (nan), and does not count.
    """
    low, high = values.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)


def _counts(n: int, random: torch.Generator) -> Tensor:
    return torch.bincount(torch.randint(n, (n,), generator=random), minlength=n)


def kid_interval(kernels: Kernels, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of KID over real and generated samples.

    A sample that is drawn twice is not compared with itself.
    """
    random = torch.Generator().manual_seed(SEED)
    m, n = kernels.cross.shape
    values = torch.zeros(draws, dtype=torch.float64)
    for k in range(draws):
        real = _counts(m, random)
        values[k] = kid(kernels, real, _counts(n, random))
    return middle(values)


def mean_interval(values: Tensor, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values [N], over samples; those that are nan are left out."""
    return middle(values.double()[bootstrap_picks(len(values), draws)].nanmean(1))


def ratio_interval(above: Tensor, below: Tensor, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of two means, of values [N] and [N] of the same samples."""
    picks = bootstrap_picks(len(above), draws)
    return middle(above.double()[picks].mean(1) / below.double()[picks].mean(1))


def bootstrap_picks(count: int, draws: int) -> Tensor:
    """The samples of every draw [draws, count]."""
    random = torch.Generator().manual_seed(SEED)
    return torch.randint(count, (draws, count), generator=random)


def frechet(real: Tensor, fake: Tensor) -> float:
    """FID's distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two feature sets.

    Biased upward by few samples (thousands are usual): compare only sets of the same size. With
    C = A^T A, the root's trace is the sum of the singular values of A1 A2^T, which is as small as
    the number of samples (Heusel et al. 2017).
    """
    x, y = real.double(), fake.double()
    a = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    b = (y - y.mean(0)) / (len(y) - 1) ** 0.5
    root = torch.linalg.svdvals(a @ b.T).sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    return float(means + a.square().sum() + b.square().sum() - 2 * root)
