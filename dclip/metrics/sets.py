"""The metrics that compare two sets of images by their features. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.data.domains import domain_named
from dclip.metrics.contract import Scores, set_metric

if TYPE_CHECKING:
    from dclip.metrics.distribution import FeatureSets
    from dclip.metrics.presets import Choices


FEWEST = 50  # images of a set, below which a distance between sets says next to nothing
USUAL = 2048  # Inception's features: with fewer images FID's covariances are not even full


def too_few(count: int) -> str | None:
    """Why a distance between sets says nothing of so few images; None where it does."""
    if count >= FEWEST:
        return None
    return f"{count} images are too few: chance decides it; give {FEWEST} or more"


def _network(choices: Choices, domain: str) -> str:
    resize = "TensorFlow's bilinear resize, as in torch-fidelity"
    if choices.inception_antialias:
        resize = "anti-aliased bilinear resize, as in torchmetrics"
    usual = f"2,048 features of torch-fidelity's Inception at 299 px ({resize})"
    return domain_named(domain).notes.get("features", usual)


def _kid_details(choices: Choices, domain: str) -> str:
    return (
        f"unbiased, kernel (x.y/d + 1)^3, {_network(choices, domain)}; mean over "
        f"{choices.kid_subsets} subsets of {choices.kid_subset} (seed 2020), times 1; kid_std is "
        "over subsets, the interval a bootstrap over images of all of them; never without its "
        f"interval, nor of fewer than {FEWEST} images"
    )


def _fid_details(choices: Choices, domain: str) -> str:
    return (
        f"Frechet distance, {_network(choices, domain)}; no interval: a bootstrap would be biased; "
        f"not of fewer than {FEWEST} images, and marked as too high below {USUAL:,}"
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

    scores, reason = Scores(), too_few(sets.fewest)
    if reason is None and not sets.bootstrap:
        reason = f"it says nothing without its interval; set {sets.bootstrap_setting} above 0"
    if reason is not None:
        for name in sets.subset_sizes:
            scores.absent(name, reason)
        return scores
    kernels = Kernels.of(sets.real, sets.fake)
    for name, size in sets.subset_sizes.items():
        if size > sets.fewest:
            reason = f"{sets.fewest} images are fewer than a subset of {size}; lower {sets.setting}"
            scores.absent(name, reason)
            continue
        mean, spread = subset_kid(kernels, size, sets.subsets)
        scores.values |= {name: mean, f"{name}_std": spread}
    measured = [name for name in sets.subset_sizes if name in scores.values]
    if measured:
        low, high = kid_interval(kernels, sets.bootstrap)
        for name in dict.fromkeys(["kid", *measured]):
            scores.values |= {f"{name}_low": low, f"{name}_high": high}
    return scores


@set_metric(
    "fid",
    "lower",
    "Frechet distance (FID) between the images and the reference set.",
    details=_fid_details,
)
def fid(sets: FeatureSets) -> Scores | str:
    """FID of all samples; with a note where they are so few that it is far too high."""
    from dclip.metrics.distribution import frechet

    reason = too_few(sets.fewest)
    if reason is not None:
        return reason
    scores = Scores({"fid": frechet(sets.real, sets.fake)})
    if sets.fewest < USUAL:
        scores.values["fid_note"] = (
            f"of {sets.fewest} images, so it is too high; compare only sets of this size"
        )
    return scores
