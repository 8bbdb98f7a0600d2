"""The metrics that know the right answer: edited pictures against the true ones.

They cannot be gamed: painting over a face pleases a judge, and takes the picture further away.
Imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.metrics.contract import Scores, metric

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.metrics.counterfactual import Agreement
    from dclip.metrics.scorers import Scorers
    from dclip.types import Edited

WITHIN = "right: within CIE76 0, 1, ..., 10 of the truth, mean over these (PaintBench)"


def _pictures(edited: Edited) -> tuple[Tensor, Tensor, Tensor]:
    """Result, source and truth. ValueError where the truth is not known."""
    if edited.truth is None:
        raise ValueError("a metric of true pictures must declare needs=['true_pictures']")
    return edited.result, edited.source.pixels, edited.truth


@metric(
    "closer",
    "higher",
    "Share of pictures that are nearer to the true edited picture than the untouched source.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: "nearer: by mean absolute difference over pixels and channels",
    untouched=0,
    truth=1,
)
def closer(edited: Edited, scorers: Scorers) -> Tensor:
    """Is it better than doing nothing?"""
    from dclip.metrics import counterfactual

    return counterfactual.closer(*_pictures(edited))


@metric(
    "counterfactual_ratio",
    "lower",
    "Distance to the true edited picture over that of the untouched source; below 1 is closer.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: (
        "mean absolute difference to the truth: mean over the edited pictures, "
        "divided by the mean over the real ones"
    ),
    untouched=1,
    truth=0,
)
def counterfactual_ratio(edited: Edited, scorers: Scorers) -> Scores:
    """A ratio of means, with both distances per image."""
    from dclip.metrics.functional import mae

    result, source, truth = _pictures(edited)
    scores = Scores()
    scores.ratio(
        "counterfactual_ratio",
        "truth_distance",
        "truth_distance_untouched",
        mae(result, truth),
        mae(source, truth),
    )
    return scores


@metric(
    "true_success",
    "higher",
    "Share of pictures that show the edit to the judge and are nearer to the truth than the source.",
    needs=("true_pictures", "judge", "goal"),
    switch="judge",
    untouched=0,
)
def true_success(edited: Edited, scorers: Scorers) -> Tensor:
    """What the judge believes, and the truth confirms."""
    from dclip.metrics import counterfactual
    from dclip.metrics.functional import judged_success

    seen = judged_success(scorers.judged(edited.result), scorers.goal or ())
    return seen * counterfactual.closer(*_pictures(edited)).cpu()


@metric(
    "effectiveness",
    "higher",
    "How much of the true change was made: 0 none, 1 all of it, above 1 too much.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: (
        "<made change, true change> / |true change|^2 of pixels in [0, 1] (TEA)"
    ),
    untouched=0,
    truth=1,
)
def effectiveness(edited: Edited, scorers: Scorers) -> Tensor:
    """Too weak, or enough?"""
    from dclip.metrics import counterfactual

    return counterfactual.effectiveness(*_pictures(edited))


@metric(
    "amplification",
    "lower",
    "How much else was changed, as a multiple of the true change; 0 is nothing else.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: (
        "length of the made change's part that is orthogonal to the true change, over the length "
        "of the true change (TEA)"
    ),
    untouched=0,
    truth=0,
)
def amplification(edited: Edited, scorers: Scorers) -> Tensor:
    """What was spilled."""
    from dclip.metrics import counterfactual

    return counterfactual.amplification(*_pictures(edited))


def _agreement(edited: Edited) -> Agreement:
    from dclip.metrics import counterfactual

    return counterfactual.agreement(*_pictures(edited))


@metric(
    "edit_accuracy",
    "higher",
    "Share of the pixels that should change which have the true colour, over CIE76 0 to 10.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: f"pixels where truth and real picture differ; {WITHIN}",
    truth=1,
)
def edit_accuracy(edited: Edited, scorers: Scorers) -> Tensor:
    """What should change, and has."""
    return _agreement(edited).edit


@metric(
    "preservation_accuracy",
    "higher",
    "Share of the pixels that should not change which have kept their colour, over CIE76 0 to 10.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: f"pixels where truth and real picture are equal; {WITHIN}",
    untouched=1,
    truth=1,
)
def preservation_accuracy(edited: Edited, scorers: Scorers) -> Tensor:
    """What should stay, and has."""
    return _agreement(edited).preservation


@metric(
    "edit_iou",
    "higher",
    "Pixels that are rightly changed, over those that should change or are wrongly changed.",
    needs=("true_pictures",),
    switch="pixels",
    details=lambda choices, domain: (
        f"right ones that should change / (those that should change + wrong others); {WITHIN}"
    ),
    truth=1,
)
def edit_iou(edited: Edited, scorers: Scorers) -> Tensor:
    """Both in one number: intersection over union."""
    return _agreement(edited).iou
