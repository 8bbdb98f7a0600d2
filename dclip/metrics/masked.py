"""What an edit did outside the region where it may act: pure functions, one number an image.

Images are [N,3,H,W] in [-1, 1], regions [N,1,H,W] from 0 (nowhere) to 1. ``background_*`` measure
the pixels outside and nothing else; nan where there are none. ``piebench_*`` repeat PIE-Bench's
``*_unedit_part`` (Ju et al., ICLR 2024), which blackens the region in both pictures and then
averages over *all* pixels, so that every pixel of the region counts as a perfect one: a large
region makes any edit look good.
"""

from __future__ import annotations

from torch import Tensor

from dclip.metrics import functional
from dclip.metrics.functional import decibels, unit


def background_mse(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """Mean squared error of the pixels outside, in [0, 1]."""
    error = (unit(result) - unit(source)).square().mean(1, keepdim=True)
    return _mean_outside(error, region)


def background_psnr(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """PSNR of the pixels outside in dB, at most 100."""
    return decibels(background_mse(result, source, region))


def background_ssim(result: Tensor, source: Tensor, region: Tensor, span: str = "one") -> Tensor:
    """SSIM, mean over the pixels outside; what was changed inside reaches no window."""
    similarity = functional.ssim_map(pasted(result, source, region), source, span)
    return _mean_outside(similarity.mean(1, keepdim=True), region)


def pasted(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """The edit outside the region, the source inside."""
    return region * source + (1 - region) * result


def share_outside(region: Tensor) -> Tensor:
    """Share [N] of the picture that lies outside."""
    return (1 - region).flatten(1).mean(1)


def per_outside(value: Tensor, region: Tensor) -> Tensor:
    """A mean over whole pictures [N] that are equal inside, as a mean over the pixels outside."""
    share = share_outside(region)
    return value / share.where(share > 0, float("nan"))


def _mean_outside(values: Tensor, region: Tensor) -> Tensor:
    """Mean of values [N,1,H,W] over the pixels outside."""
    outside = (1 - region).to(values.dtype)
    return per_outside((values * outside).flatten(1).mean(1), region)


# ------------------------------------------------------------------------------------ PIE-Bench


def piebench_region(region: Tensor) -> Tensor:
    """A region as PIE-Bench reads it: all or nothing, with the picture's outermost pixels in it."""
    marked = (region >= 0.5).to(region.dtype)
    marked[..., 0, :] = 1
    marked[..., -1, :] = 1
    marked[..., 0] = 1
    marked[..., -1] = 1
    return marked


def blackened(images: Tensor, region: Tensor) -> Tensor:
    """Images whose region, as PIE-Bench reads it, is black."""
    outside = 1 - piebench_region(region)
    return unit(images) * outside * 2 - 1


def piebench_mse(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """Mean squared error over all pixels, the region black."""
    return functional.mse(blackened(result, region), blackened(source, region))


def piebench_psnr(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """PSNR over all pixels, the region black."""
    return decibels(piebench_mse(result, source, region))


def piebench_ssim(result: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """SSIM over all pixels, the region black."""
    return functional.ssim(blackened(result, region), blackened(source, region))
