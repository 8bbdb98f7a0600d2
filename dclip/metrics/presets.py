"""What the names of metrics leave open, settled in three ways: the presets of ``dclip metrics``.

``dclip``: as in this project's tables. ``piebench``: as PIE-Bench (PnPInversion) has it.
``torchmetrics``: that library's defaults. Numbers of different presets cannot be compared.
Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass

from dclip.errors import DclipError, choose


@dataclass(frozen=True)
class Choices:
    """What the presets differ in.

    Attributes:
        ssim_range: data range of SSIM: ``one``, or ``pair``: the larger range of both pictures.
        psnr_over: ``images``: the mean of every image's PSNR; ``set``: the PSNR of all images'
            mean squared error.
        lpips_trunk: ``alex`` or ``squeeze``, both of LPIPS version 0.1.
        inception_antialias: whether pictures are anti-aliased on their way to Inception's 299
            pixels; not in torch-fidelity (and TensorFlow's FID), but in torchmetrics.
        kid_subset, kid_subsets: images a subset, and how many subsets are averaged.
        clip: the network of S_dir and clip_text, as ``dclip weights list`` calls it.
        templates: prompt templates of S_dir, as in ``loss.templates``.
    """

    ssim_range: str = "one"
    psnr_over: str = "images"
    lpips_trunk: str = "alex"
    inception_antialias: bool = False
    kid_subset: int = 50
    kid_subsets: int = 100
    clip: str = "openai_vit_b_16"
    templates: str = "none"


PRESETS: dict[str, Choices] = {
    "dclip": Choices(),
    "piebench": Choices(lpips_trunk="squeeze", clip="openai_vit_l_14"),
    "torchmetrics": Choices(
        ssim_range="pair",
        psnr_over="set",
        inception_antialias=True,
        kid_subset=1000,
        clip="openai_vit_l_14",
    ),
}


NOTES = {
    "dclip": (
        "S_dir, SC and ID by the formulas of DiffusionCLIP (CVPR 2022), "
        "whose own metric code was never published"
    ),
    "piebench": (
        "PIE-Bench's *_unedit_part are piebench_psnr, _mse, _ssim and _lpips, with --mask; its DINO "
        "structure distance is missing; KID, FID, S_dir, SC and ID are dclip's, not PIE-Bench's"
    ),
    "torchmetrics": (
        "its defaults for 1.9; its SSIM takes the data range from a whole batch, here from one "
        "pair, so that the batch size changes nothing; its CLIPScore is 100 x clip_text, never "
        "below 0; S_dir, SC and ID are dclip's"
    ),
}


def preset(name: str) -> Choices:
    """The choices of a preset. DclipError with the names there are."""
    if name not in PRESETS:
        raise DclipError(f"--preset {name} does not exist{choose(name, list(PRESETS))}")
    return PRESETS[name]
