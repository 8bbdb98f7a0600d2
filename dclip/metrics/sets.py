"""The metrics that compare two sets of images by their features. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.data.domains import domain_named
from dclip.metrics.contract import Scores, set_metric

if TYPE_CHECKING:
    from dclip.metrics.distribution import FeatureSets
    from dclip.metrics.presets import Choices


def _network(domain: str) -> str:
    usual = "2,048 features of torch-fidelity's Inception at 299 px"
    return domain_named(domain).notes.get("features", usual)


def _kid_details(choices: Choices, domain: str) -> str:
    return (
        f"unbiased, kernel (x.y/d + 1)^3, {_network(domain)}; mean over {choices.kid_subsets} "
        f"subsets of {choices.kid_subset} (seed 2020), times 1; kid_std is over subsets, "
        "the interval a bootstrap over images of all of them"
    )


@set_metric(
    "kid",
    "lower",
    "Kernel distance (KID) between the images and the reference set; kid_N: over subsets of N.",
    readers=("edits", "folders", "samples"),
    details=_kid_details,
    sized=True,
)
def kid(sets: FeatureSets) -> Scores:
    """KID over random subsets of every size asked for, and an interval of KID over all samples."""
    from dclip.metrics.distribution import Kernels, kid_interval, subset_kid

    scores, kernels = Scores(), Kernels.of(sets.real, sets.fake)
    for name, size in sets.subset_sizes.items():
        if size > sets.fewest:
            reason = f"{sets.fewest} images are fewer than a subset of {size}; lower {sets.setting}"
            scores.absent(name, reason)
            continue
        mean, spread = subset_kid(kernels, size, sets.subsets)
        scores.values |= {name: mean, f"{name}_std": spread}
    if sets.bootstrap and sets.fewest > 3:
        low, high = kid_interval(kernels, sets.bootstrap)
        scores.values |= {"kid_low": low, "kid_high": high}
    return scores


@set_metric(
    "fid",
    "lower",
    "Frechet distance (FID) between the images and the reference set.",
    details=lambda choices, domain: (
        f"Frechet distance, {_network(domain)}; no interval: a bootstrap would be biased"
    ),
)
def fid(sets: FeatureSets) -> Scores:
    """FID of all samples."""
    from dclip.metrics.distribution import frechet

    if sets.fewest < 2:
        return Scores()
    return Scores({"fid": frechet(sets.real, sets.fake)})
