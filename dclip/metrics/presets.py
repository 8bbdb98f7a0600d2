"""What a metric's name leaves open, said: three sets of choices for ``dclip metrics``, and each of them in words.

``dclip``: as in this project's tables. ``piebench``: as PIE-Bench (PnPInversion) has it. ``torchmetrics``: that library's defaults.
Numbers of different presets do not belong into one table. Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass

from dclip.errors import DclipError


@dataclass(frozen=True)
class Choices:
    """What the presets differ in.

    Attributes:
        ssim_range: data range of SSIM: ``one``, or ``pair``, which is the larger range of the two pictures' own values.
        psnr_over: ``images``: the mean of every image's PSNR; ``set``: the PSNR of all images' mean squared error.
        lpips_trunk: ``alex`` or ``squeeze``, both of LPIPS version 0.1.
        kid_subset, kid_subsets: images a subset, and how many subsets are averaged.
        clip: the network of S_dir and clip_text, as ``dclip weights list`` calls it.
        templates: prompt templates of S_dir, as in ``loss.templates``.
    """

    ssim_range: str = "one"
    psnr_over: str = "images"
    lpips_trunk: str = "alex"
    kid_subset: int = 50
    kid_subsets: int = 100
    clip: str = "openai_vit_b_16"
    templates: str = "none"


PRESETS: dict[str, Choices] = {
    "dclip": Choices(),
    "piebench": Choices(lpips_trunk="squeeze", clip="openai_vit_l_14"),
    "torchmetrics": Choices(
        ssim_range="pair", psnr_over="set", kid_subset=1000, clip="openai_vit_l_14"
    ),
}


NOTES = {
    "dclip": "S_dir, SC and ID by the formulas of DiffusionCLIP (CVPR 2022), whose own metric code was never published",
    "piebench": "whole pictures: PIE-Bench also masks out the edited part, and has a DINO structure distance that is not here; "
    "KID, FID, S_dir, SC and ID are none of PIE-Bench's and are dclip's",
    "torchmetrics": "its defaults for 1.9; its SSIM takes the data range from a whole batch, here from one pair, so that the batch "
    "size changes nothing; its CLIPScore is 100 x clip_text, never below 0; S_dir, SC and ID are dclip's",
}


WINDOW = "11x11 Gaussian window of sigma 1.5, k1 0.01, k2 0.03"


def preset(name: str) -> Choices:
    """The choices of a preset. DclipError with the names there are."""
    if name not in PRESETS:
        raise DclipError(f"--preset {name} does not exist; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def described(choices: Choices, domain: str, size: int | None) -> dict[str, str]:
    """Every choice behind every metric, in words."""
    span = {
        "one": "data range 1",
        "pair": "data range: the larger range of the two pictures' values (at least 1/255)",
    }
    over = {
        "images": "mean of the images' values",
        "set": "of the mean squared error over all images",
    }
    resized = (
        f"shorter side to {size} pixels (Lanczos), middle square, back to 8 bits"
        if size
        else "as they are; a pair has one size"
    )
    features = {"toonfaces": "128 features of ToonFaces' judge"}.get(
        domain, "2,048 features of torch-fidelity's Inception at 299 px"
    )
    parts = {
        "toonfaces": "ToonFaces' judge, 7 parts at 64x64",
        "scenes": "ade20k, 150 classes at 512x512",
    }
    crop = "rows 35:223 and columns 32:220 of 256 (faces aligned as in CelebA-HQ), pooled to 112x112, IR-SE50 (arcface)"
    return {
        "pixels": f"8-bit RGB, scaled to [0, 1]; transparent pixels on white; EXIF orientation applied; pictures {resized}",
        "mae": "mean absolute difference over pixels and channels",
        "mse": "mean squared difference over pixels and channels",
        "psnr": f"RGB, peak 1, at most 100 dB; {over[choices.psnr_over]}",
        "ssim": f"RGB, mean over channels; {WINDOW}; borders mirrored; {span[choices.ssim_range]}",
        "ssim_luma": f"Y = 0.299 R + 0.587 G + 0.114 B, not rounded; {WINDOW}; only where the window fits; data range 1",
        "lpips": f"version 0.1, {choices.lpips_trunk} trunk, pictures in [-1, 1]",
        "s_dir": f"cos(E(edited) - E(real), E(target) - E(source)), unit features of {choices.clip}, its own preprocessing "
        f"(bicubic, anti-aliased, middle square); prompt templates: {choices.templates}; mean over pairs",
        "clip_text": f"cos(E(edited), E(target text)) by {choices.clip}; not scaled, not clipped at 0",
        "id": "cosine of identity features; "
        + ("ToonFaces' identity network, whole picture" if domain == "toonfaces" else crop),
        "sc": f"share of pixels in the same part before and after; {parts.get(domain, 'bisenet, 19 parts at 512x512')}",
        "kid": f"unbiased, kernel (x.y/d + 1)^3, {features}; mean over {choices.kid_subsets} subsets of {choices.kid_subset} "
        "(seed 2020), times 1; kid_std is over subsets, the interval a bootstrap over images of all of them",
        "fid": f"Frechet distance, {features}; no interval: a bootstrap would be biased",
    }
