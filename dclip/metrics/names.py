"""Every metric, and whether more of it is better. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.models.networks import Scorers
    from dclip.types import Edited

HIGHER_IS_BETTER: dict[str, bool] = {
    "s_dir": True,
    "s_dir_heldout": True,
    "id": True,
    "sc": True,
    "clip_text": True,
    "mae": False,
    "mse": False,
    "psnr": True,
    "ssim": True,
    "ssim_luma": True,
    "lpips": False,
    "kid": False,
    "judge_success": True,
    "judge_preservation": True,
    "counterfactual_ratio": False,
    "judge_domain": True,
    "judge_domain_before": True,
    "judge_painted": True,
    "coarse_mae": False,
    "variety": True,
    "seconds_translate": False,
    "p_target_guide": True,
    "p_target_heldout": True,
    "kid_10": False,
    "kid_50": False,
    "kid_100": False,
    "fid": False,
    "time_ratio": False,
    "seconds_per_image": False,
    "seconds_invert": False,
    "seconds_adapt": False,
    "seconds_edit": False,
    "peak_memory_mb": False,
}


Measure = Callable[["Edited", "Scorers"], "Tensor | str"]


METRICS: dict[str, Measure] = {}  # name -> what measures it


def metric(name: str, higher_is_better: bool) -> Callable[[Measure], Measure]:
    """Make a function a metric of every edit that is measured (but with ``metric=none``).

    It gets the images before and after and the networks at hand, and returns one number an image [N], or, where it cannot,
    the reason as a text.
    """

    def register(measure: Measure) -> Measure:
        METRICS[name] = measure
        HIGHER_IS_BETTER[name] = higher_is_better
        return measure

    return register


MEANING = {
    "s_dir": "cosine of the change in CLIP's image features with the change in the texts",
    "s_dir_heldout": "the same by a CLIP that did not guide",
    "id": "cosine of identity features before and after",
    "sc": "share of pixels whose face part is unchanged",
    "clip_text": "cosine of the edited picture with the target text",
    "mae": "mean absolute change of pixels in [0, 1]",
    "mse": "mean squared change of pixels in [0, 1]",
    "psnr": "dB, edited against source",
    "ssim": "structural similarity, edited against source",
    "ssim_luma": "the same of the brightness alone",
    "lpips": "perceptual distance, edited against source",
    "kid": "kernel distance of the edited images to the reference set",
    "judge_success": "share of images that show the edit, by a network no loss has seen",
    "judge_preservation": "share of all other attributes that are as they were",
    "counterfactual_ratio": "distance to the true edited picture, over the untouched source's (below 1: closer to the truth)",
    "judge_domain": "share of translated images that look like the domain to the judge",
    "judge_domain_before": "the same of the sources",
    "judge_painted": "share of a stroke picture's colours (hair, skin, clothes, background) that its translation has",
    "coarse_mae": "mean absolute change of 8x8 averages, translation against source: what the source's layout lost",
    "variety": "mean absolute difference between variants of one image",
    "seconds_translate": "bringing the images into the domain",
    "p_target_guide": "probability of the target among its distractors, by the CLIP that guides",
    "p_target_heldout": "the same by a CLIP that did not guide",
    "kid_10": "kernel distance to true pictures of what was asked for, subsets of 10",
    "kid_50": "subsets of 50",
    "kid_100": "subsets of 100",
    "fid": "Frechet distance to the same pictures",
    "time_ratio": "time with guidance over time without",
    "seconds_per_image": "drawing one image",
    "seconds_invert": "inverting all images that were not cached",
    "seconds_adapt": "fine-tuning",
    "seconds_edit": "applying the edit to the test images",
    "peak_memory_mb": "most memory held by the process",
}
