"""The metrics of images before and after an edit, each in one place. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.data.domains import domain_named
from dclip.metrics.contract import Scores, metric

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.metrics.presets import Choices
    from dclip.metrics.scorers import Scorers
    from dclip.metrics.words import Role
    from dclip.types import Edited

WINDOW = "11x11 Gaussian window of sigma 1.5, k1 0.01, k2 0.03"

# ------------------------------------------------------------------------------- what CLIP sees


def _direction_cosine(role: Role, edited: Edited, scorers: Scorers) -> Tensor:
    from dclip.losses import direction_cosine

    after = scorers.features(role, edited.result)
    before = scorers.features(role, edited.source.pixels)
    return direction_cosine(after, before, scorers.edit_direction(role))


def _s_dir_details(choices: Choices, domain: str) -> str:
    return (
        "cos(E(edited) - E(real), E(target) - E(source)), unit features of "
        f"{choices.clip}, its own preprocessing (bicubic, anti-aliased, middle square); "
        f"prompt templates: {choices.templates}; mean over pairs"
    )


@metric(
    "s_dir",
    "higher",
    "Cosine between the change in CLIP's image features and the change in the texts.",
    needs=("direction", "clip"),
    switch="clip",
    details=_s_dir_details,
    untouched=0,
)
def s_dir(edited: Edited, scorers: Scorers) -> Tensor:
    """S_dir (DiffusionCLIP, Eq. 30)."""
    return _direction_cosine("clip", edited, scorers)


@metric(
    "s_dir_heldout",
    "higher",
    "S_dir by a CLIP that did not guide the edit.",
    needs=("direction", "heldout"),
    readers=("edits",),
    switch="clip",
    untouched=0,
)
def s_dir_heldout(edited: Edited, scorers: Scorers) -> Tensor:
    """S_dir by the CLIP that only scores."""
    return _direction_cosine("heldout", edited, scorers)


def _id_details(choices: Choices, domain: str) -> str:
    usual = (
        "rows 35:223 and columns 32:220 of 256 (faces aligned as in CelebA-HQ), "
        "pooled to 112x112, IR-SE50 (arcface)"
    )
    network = domain_named(domain).notes.get("identity", usual)
    return f"cosine of identity features; {network}"


@metric(
    "id",
    "higher",
    "Cosine between the identity features before and after the edit.",
    needs=("identity",),
    switch="identity",
    details=_id_details,
    untouched=1,
)
def identity(edited: Edited, scorers: Scorers) -> Tensor:
    """ID: is it still the same person?"""
    after = scorers.features("identity", edited.result)
    before = scorers.features("identity", edited.source.pixels)
    return (after * before).sum(1)


def _sc_details(choices: Choices, domain: str) -> str:
    network = domain_named(domain).notes.get("parts", "bisenet, 19 parts at 512x512")
    return f"share of pixels in the same part before and after; {network}"


@metric(
    "sc",
    "higher",
    "Share of pixels that still belong to the same part of the picture.",
    needs=("parts",),
    switch="parts",
    details=_sc_details,
    untouched=1,
)
def segmentation_consistency(edited: Edited, scorers: Scorers) -> Tensor:
    """SC (DiffusionCLIP, Supplement D.3)."""
    from dclip.metrics.functional import part_agreement

    after, before = scorers.part_map(edited.result), scorers.part_map(edited.source.pixels)
    return part_agreement(after, before)


@metric(
    "clip_text",
    "higher",
    "Cosine between the edited picture and the target text, by CLIP.",
    needs=("texts", "clip"),
    readers=("folders",),
    switch="clip",
    details=lambda choices, domain: (
        f"cos(E(edited), E(target text)) by {choices.clip}; not scaled, not clipped at 0"
    ),
)
def clip_text(edited: Edited, scorers: Scorers) -> Tensor:
    """How well the target text describes the result."""
    return scorers.features("clip", edited.result) @ scorers.target_text()


# ------------------------------------------------------------------------------------- pixels


@metric(
    "mae",
    "lower",
    "Mean absolute change of the pixels, in [0, 1].",
    switch="pixels",
    details=lambda choices, domain: "mean absolute difference over pixels and channels",
    untouched=0,
)
def mae(edited: Edited, scorers: Scorers) -> Tensor:
    """Mean absolute error against the source."""
    from dclip.metrics import functional

    return functional.mae(edited.result, edited.source.pixels)


@metric(
    "mse",
    "lower",
    "Mean squared change of the pixels, in [0, 1].",
    readers=("folders",),
    switch="pixels",
    details=lambda choices, domain: "mean squared difference over pixels and channels",
    untouched=0,
)
def mse(edited: Edited, scorers: Scorers) -> Tensor:
    """Mean squared error against the source."""
    from dclip.metrics import functional

    return functional.mse(edited.result, edited.source.pixels)


PSNR_OVER = {
    "images": "mean of the images' values",
    "set": "of the mean squared error over all images",
}


@metric(
    "psnr",
    "higher",
    "Peak signal-to-noise ratio of the edited picture against its source, in dB.",
    switch="pixels",
    details=lambda choices, domain: f"RGB, peak 1, at most 100 dB; {PSNR_OVER[choices.psnr_over]}",
    untouched=100,
)
def psnr(edited: Edited, scorers: Scorers) -> Tensor:
    """PSNR against the source."""
    from dclip.metrics import functional

    return functional.psnr(edited.result, edited.source.pixels)


SSIM_RANGE = {
    "one": "data range 1",
    "pair": "data range: the larger range of the two pictures' values (at least 1/255)",
}


@metric(
    "ssim",
    "higher",
    "Structural similarity of the edited picture and its source.",
    switch="pixels",
    details=lambda choices, domain: (
        f"RGB, mean over channels; {WINDOW}; borders mirrored; {SSIM_RANGE[choices.ssim_range]}"
    ),
    untouched=1,
)
def ssim(edited: Edited, scorers: Scorers) -> Tensor:
    """SSIM against the source."""
    from dclip.metrics import functional

    span = scorers.choices.ssim_range
    return functional.ssim(edited.result, edited.source.pixels, span=span)


@metric(
    "ssim_luma",
    "higher",
    "Structural similarity of the brightness alone.",
    readers=("folders",),
    switch="pixels",
    details=lambda choices, domain: (
        f"Y = 0.299 R + 0.587 G + 0.114 B, not rounded; {WINDOW}; only where the window fits; "
        "data range 1"
    ),
    untouched=1,
)
def ssim_luma(edited: Edited, scorers: Scorers) -> Tensor:
    """SSIM of the brightness, without borders."""
    from dclip.metrics import functional

    pixels = edited.source.pixels
    return functional.ssim(edited.result, pixels, color="luma", border="valid")


@metric(
    "lpips",
    "lower",
    "Perceptual distance between the edited picture and its source.",
    switch="lpips",
    details=lambda choices, domain: (
        f"version 0.1, {choices.lpips_trunk} trunk, pictures in [-1, 1]"
    ),
    untouched=0,
)
def lpips(edited: Edited, scorers: Scorers) -> Tensor | str:
    """LPIPS against the source."""
    return scorers.perceptual_distance(edited.result, edited.source.pixels)


# ---------------------------------------------------------------------------- variants, layout


@metric(
    "variety",
    "higher",
    "Mean absolute difference between the variants of one image.",
    readers=("edits", "translations"),
    switch="pixels",
)
def variety(edited: Edited, scorers: Scorers) -> Scores:
    """How different the variants are; nothing where an image has only one."""
    from dclip.metrics import functional

    scores = Scores()
    if scorers.variants > 1:
        scores.values["variety"] = functional.variety(edited.result, scorers.variants)
    return scores


@metric(
    "coarse_mae",
    "lower",
    "Mean absolute change of 8x8 averages from source to translation: what its layout lost.",
    readers=("translations",),
)
def coarse_mae(edited: Edited, scorers: Scorers) -> Scores:
    """Distance from the source, without its details."""
    from dclip.metrics import functional

    change = functional.coarse_mae(edited.result, edited.source.pixels)
    return Scores({"coarse_mae": change})
