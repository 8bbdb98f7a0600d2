"""The metrics of what an edit left alone: share of changed pixels, and the background.

For photographs, of which no true edited picture exists. Imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.metrics.contract import metric

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.metrics.presets import Choices
    from dclip.metrics.scorers import Scorers
    from dclip.types import Edited

ALL_PIXELS = "the region black in both pictures, the mean over all pixels, as PIE-Bench has it"
OUTSIDE = "the mean over the pixels outside the region"


def _pictures(edited: Edited) -> tuple[Tensor, Tensor, Tensor]:
    """Result, source and region. ValueError where no region is known."""
    if edited.region is None:
        raise ValueError("a metric of a region must declare needs=['region']")
    return edited.result, edited.source.pixels, edited.region


@metric(
    "changed_pixels",
    "lower",
    "Share of pixels whose colour has changed noticeably.",
    switch="pixels",
    details=lambda choices, domain: "CIE76 above 2, which is just noticeable",
    untouched=0,
)
def changed_pixels(edited: Edited, scorers: Scorers) -> Tensor:
    """How much of the picture is another."""
    from dclip.metrics.color import changed_share

    return changed_share(edited.result, edited.source.pixels)


# --------------------------------------------------------------------------------- as it should be


@metric(
    "background_psnr",
    "higher",
    "PSNR of the pixels outside the region where the edit may act, in dB.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: f"RGB, peak 1, at most 100 dB; of {OUTSIDE}",
)
def background_psnr(edited: Edited, scorers: Scorers) -> Tensor:
    """PSNR of the background."""
    from dclip.metrics import masked

    return masked.background_psnr(*_pictures(edited))


@metric(
    "background_mse",
    "lower",
    "Mean squared change of the pixels outside the region where the edit may act.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: OUTSIDE,
)
def background_mse(edited: Edited, scorers: Scorers) -> Tensor:
    """Mean squared error of the background."""
    from dclip.metrics import masked

    return masked.background_mse(*_pictures(edited))


@metric(
    "background_ssim",
    "higher",
    "Structural similarity outside the region where the edit may act.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: f"as ssim, {OUTSIDE}; inside, both pictures are the real one",
)
def background_ssim(edited: Edited, scorers: Scorers) -> Tensor:
    """SSIM of the background."""
    from dclip.metrics import masked

    return masked.background_ssim(*_pictures(edited), span=scorers.choices.ssim_range)


def _lpips_details(choices: Choices, domain: str) -> str:
    return (
        f"as lpips ({choices.lpips_trunk} trunk); inside the region, both pictures are the real "
        "one; over the share of pixels outside"
    )


@metric(
    "background_lpips",
    "lower",
    "Perceptual distance outside the region where the edit may act.",
    needs=("region",),
    switch="lpips",
    details=_lpips_details,
)
def background_lpips(edited: Edited, scorers: Scorers) -> Tensor | str:
    """LPIPS of the background."""
    from dclip.metrics import masked

    result, source, region = _pictures(edited)
    distance = scorers.perceptual_distance(masked.pasted(result, source, region), source)
    if isinstance(distance, str):
        return distance
    return masked.per_outside(distance, region.cpu())


# ------------------------------------------------------------------------------ as PIE-Bench has it


@metric(
    "piebench_psnr",
    "higher",
    "PSNR outside the region as PIE-Bench computes it: the region counts as perfect.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: f"RGB, peak 1, at most 100 dB; {ALL_PIXELS}",
)
def piebench_psnr(edited: Edited, scorers: Scorers) -> Tensor:
    """PIE-Bench's psnr_unedit_part."""
    from dclip.metrics import masked

    return masked.piebench_psnr(*_pictures(edited))


@metric(
    "piebench_mse",
    "lower",
    "Mean squared change outside the region as PIE-Bench computes it.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: ALL_PIXELS,
)
def piebench_mse(edited: Edited, scorers: Scorers) -> Tensor:
    """PIE-Bench's mse_unedit_part."""
    from dclip.metrics import masked

    return masked.piebench_mse(*_pictures(edited))


@metric(
    "piebench_ssim",
    "higher",
    "Structural similarity outside the region as PIE-Bench computes it.",
    needs=("region",),
    switch="pixels",
    details=lambda choices, domain: f"data range 1; {ALL_PIXELS}",
)
def piebench_ssim(edited: Edited, scorers: Scorers) -> Tensor:
    """PIE-Bench's ssim_unedit_part."""
    from dclip.metrics import masked

    return masked.piebench_ssim(*_pictures(edited))


@metric(
    "piebench_lpips",
    "lower",
    "Perceptual distance outside the region as PIE-Bench computes it.",
    needs=("region",),
    switch="lpips",
    details=lambda choices, domain: f"{choices.lpips_trunk} trunk; {ALL_PIXELS}",
)
def piebench_lpips(edited: Edited, scorers: Scorers) -> Tensor | str:
    """PIE-Bench's lpips_unedit_part."""
    from dclip.metrics import masked

    result, source, region = _pictures(edited)
    blackened = masked.blackened(result, region), masked.blackened(source, region)
    return scorers.perceptual_distance(*blackened)
