"""Metrics as pure functions. Images are [N,3,H,W] in [-1, 1]; a Tensor is one number an image.

Pixel metrics measure what a PNG file would hold: images are clamped and rounded to 8 bits first,
and scaled to [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dclip.runtime.imports import lightly
from dclip.types import to_uint8


def unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], as an 8-bit file would hold it."""
    return to_uint8(x).float() / 255


def mae(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of pixels in [0, 1]."""
    return (unit(a) - unit(b)).abs().flatten(1).mean(1)


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of pixels in [0, 1]."""
    return (unit(a) - unit(b)).square().flatten(1).mean(1)


def decibels(error: Tensor) -> Tensor:
    """A mean squared error as PSNR in dB, peak 1, at most 100 dB."""
    return (-10 * error.clamp_min(1e-10).log10()).clamp(max=100.0)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, peak 1; 100 for identical images."""
    return decibels(mse(a, b))


LUMA = (0.299, 0.587, 0.114)  # Y of YIQ


SSIM_RADIUS = 5  # of its window


def ssim(
    a: Tensor, b: Tensor, color: str = "rgb", border: str = "mirror", span: str = "one"
) -> Tensor:
    """Structural similarity (Wang et al. 2004) by torchmetrics.

    The window is an 11x11 Gaussian of sigma 1.5, with k1 0.01 and k2 0.03.

    Args:
        color: ``rgb``: the mean over channels; ``luma``: of the brightness alone.
        border: ``mirror``: over all pixels, the picture mirrored at its edges; ``valid``: only
            where the window fits.
        span: data range: ``one``, or ``pair``: the larger range of the two pictures' own values,
            at least 1/255.
    """
    inside = slice(None)
    if border == "valid":
        inside = slice(SSIM_RADIUS, -SSIM_RADIUS)
    similarity = ssim_map(a, b, span, color)
    return similarity[..., inside, inside].flatten(1).mean(1).float()


def ssim_map(a: Tensor, b: Tensor, span: str = "one", color: str = "rgb") -> Tensor:
    """Structural similarity of every pixel and channel [N,C,H,W], in double precision.

    Arguments as for :func:`ssim`.
    """
    x, y = unit(a).double(), unit(b).double()
    if color == "luma":
        weights = x.new_tensor(LUMA).view(1, 3, 1, 1)
        x, y = (x * weights).sum(1, keepdim=True), (y * weights).sum(1, keepdim=True)
    maps = []
    for one, other in zip(x.split(1), y.split(1), strict=True):
        data_range = 1.0
        if span == "pair":
            data_range = max(_range(one), _range(other), 1 / 255)
        maps.append(_ssim_map(one, other, data_range))
    return torch.cat(maps)


def _range(x: Tensor) -> float:
    return float(x.max() - x.min())


def _ssim_map(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    with lightly():
        from torchmetrics.functional.image import structural_similarity_index_measure

    _, pixels = structural_similarity_index_measure(
        a, b, data_range=data_range, reduction="none", return_full_image=True
    )
    assert isinstance(pixels, Tensor)
    return pixels


def clipped(x: Tensor) -> Tensor:
    """Share of values at an end of the range or beyond it, where a file clips them."""
    return (x.abs() >= 1).float().flatten(1).mean(1)


def part_agreement(a: Tensor, b: Tensor) -> Tensor:
    """SC (DiffusionCLIP, Supplement D.3): share of pixels of the same part in both maps [N,H,W]."""
    return (a == b).float().flatten(1).mean(1)


def counterfactual_ratio(result: Tensor, source: Tensor, truth: Tensor) -> float:
    """Distance of edited images to the true ones over the untouched sources'.

    Below 1 is better than doing nothing.
    """
    return float(mae(result, truth).mean() / mae(source, truth).mean())


def variety(results: Tensor, variants: int) -> float:
    """Mean absolute difference between the variants of one image, over all images.

    ``results`` [N*variants,3,H,W] holds the variants of an image next to each other.
    """
    grouped = results.reshape(-1, variants, *results.shape[1:])
    differences = []
    for i, j in combinations(range(variants), 2):
        differences.append(mae(grouped[:, i], grouped[:, j]).mean())
    return float(torch.stack(differences).mean())


def coarse_mae(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of 8x8 averages, pixels in [0, 1]."""
    coarse_a = adaptive_avg_pool2d(a.clamp(-1, 1), 8)
    coarse_b = adaptive_avg_pool2d(b.clamp(-1, 1), 8)
    return float((coarse_a - coarse_b).abs().mean() / 2)


# ------------------------------------------------------------------- what the judge has seen


def judged_success(seen: Sequence[Mapping[str, str]], goal: Sequence[tuple[str, str]]) -> Tensor:
    """1 where the judge sees every attribute of the goal as it should be, else 0."""
    return torch.tensor([float(_shows(one, goal)) for one in seen])


def _shows(seen: Mapping[str, str], goal: Sequence[tuple[str, str]]) -> bool:
    return all(seen[name] == value for name, value in goal)


def judged_preservation(
    seen: Sequence[Mapping[str, str]], kept: Sequence[Mapping[str, str]]
) -> Tensor:
    """Share of the attributes that should stay which the judge still sees as they truly were."""
    shares = []
    for one, facts in zip(seen, kept, strict=True):
        right = sum(one[name] == value for name, value in facts.items())
        shares.append(right / len(facts))
    return torch.tensor(shares)
