"""Metrics as pure functions. Images are [N,3,H,W] in [-1, 1]; every function returns one number an image [N].

Pixel metrics measure what a PNG file would hold: images are clamped and rounded to 8 bits first, and scaled to [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from dclip.metrics.names import HIGHER_IS_BETTER as HIGHER_IS_BETTER
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
    """A mean squared error as PSNR in dB, peak 1; 100 where it would be infinite or more than that."""
    return (-10 * error.clamp_min(1e-10).log10()).clamp(max=100.0)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, peak 1; 100 for identical images."""
    return decibels(mse(a, b))


LUMA = (0.299, 0.587, 0.114)  # Y of YIQ


SSIM_RADIUS = 5  # of its window


def ssim(
    a: Tensor, b: Tensor, color: str = "rgb", border: str = "mirror", span: str = "one"
) -> Tensor:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, k1 0.01, k2 0.03 (torchmetrics).

    Args:
        color: ``rgb``: the mean over channels; ``luma``: of the brightness alone.
        border: ``mirror``: over all pixels, the picture mirrored at its edges; ``valid``: where the window fits.
        span: data range: ``one``, or ``pair``: the larger range of the two pictures' own values, at least 1/255.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = unit(a).double(), unit(b).double()
    if color == "luma":
        weights = x.new_tensor(LUMA).view(1, 3, 1, 1)
        x, y = (x * weights).sum(1, keepdim=True), (y * weights).sum(1, keepdim=True)
    values = []
    for i in range(len(x)):
        one, other = x[i : i + 1], y[i : i + 1]
        reach = max(float(z.max() - z.min()) for z in (one, other)) if span == "pair" else 1.0
        _, pixels = structural_similarity_index_measure(
            one, other, data_range=max(reach, 1 / 255), reduction="none", return_full_image=True
        )
        inside = slice(SSIM_RADIUS, -SSIM_RADIUS) if border == "valid" else slice(None)
        values.append(pixels[..., inside, inside].mean())
    return torch.stack(values).float() if values else a.new_zeros(0)


def part_agreement(a: Tensor, b: Tensor) -> Tensor:
    """SC: share of pixels whose part is the same in both maps [N,H,W] (DiffusionCLIP, Supplement D.3)."""
    return (a == b).float().flatten(1).mean(1)


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


def truth_distance(result: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute distance to the true edited image, pixels in [0, 1]."""
    return mae(result, truth)


def counterfactual_ratio(result: Tensor, source: Tensor, truth: Tensor) -> float:
    """Distance of edited images to the true ones over the untouched sources'; below 1 is better than doing nothing."""
    return float(truth_distance(result, truth).mean() / truth_distance(source, truth).mean())


def variety(made: Tensor, variants: int) -> float:
    """Mean absolute difference between the variants of one image (next to each other in [N*variants,3,H,W]), over all images."""
    several = made.reshape(-1, variants, *made.shape[1:])
    return float(
        torch.stack(
            [mae(several[:, i], several[:, j]).mean() for i, j in combinations(range(variants), 2)]
        ).mean()
    )
