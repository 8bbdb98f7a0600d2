"""What is measured of images drawn from noise.

Do they show what was asked for, and do they look like pictures that do?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dclip.config import Metrics
from dclip.metrics.contract import Scores
from dclip.metrics.distribution import FeatureSets
from dclip.metrics.intervals import add_intervals
from dclip.metrics.names import metrics_of
from dclip.metrics.scorers import Scorers
from dclip.metrics.sets import too_few
from dclip.metrics.suite import REASONS, Reasons, absent_sets, compare_sets, measure_each
from dclip.metrics.words import Role
from dclip.models.judge import Judge
from dclip.text.features import PromptFeatures
from dclip.text.prompts import Prompt, attributes_of
from dclip.types import Edited, Images

SAMPLES: Reasons = {
    **REASONS,
    "clip": "no held-out CLIP is set (clip.heldout)",
    "judge": "there is a judge for ToonFaces only",
    "goal": "the prompts name no attribute of ToonFaces",
    "distractors": "nothing competes with the target; give guidance.distractors",
}


def measure_samples(
    images: Tensor,
    prompts: Sequence[Prompt],
    options: Metrics,
    readers: Mapping[str, PromptFeatures | None],
    judge: Judge | None,
    reference: Tensor | str,
) -> Scores:
    """Every metric of drawn images [N,3,H,W] in [-1, 1] that is asked for.

    Args:
        readers: the CLIPs that have read the prompts: ``guide`` and ``heldout``.
        judge: ToonFaces' judge; None for photographs.
        reference: true pictures [M,3,H,W] of what is asked for, or why there are none.
    """
    scorers = _scorers(prompts, options, readers, judge)
    scores = Scores()
    if prompts:
        scores = _measure_prompts(images, options, scorers)
    if options.kid:
        scores.merge(_measure_sets(images, options, scorers, reference))
    return scores


def _scorers(
    prompts: Sequence[Prompt],
    options: Metrics,
    readers: Mapping[str, PromptFeatures | None],
    judge: Judge | None,
) -> Scorers:
    guide, heldout = readers.get("guide"), readers.get("heldout")
    readings: dict[Role, PromptFeatures] = {}
    if guide is not None:
        readings["clip"] = guide
    if heldout is not None:
        readings["heldout"] = heldout
    goal = tuple(attributes_of(prompts).items()) if options.judge else ()
    scorers = Scorers(judge=judge, prompts=prompts, readings=readings, compare=options.features)
    scorers.goal = goal or None
    if guide is not None:
        scorers.clip = guide.clip
    if heldout is not None:
        scorers.heldout = heldout.clip
    return scorers


def _measure_prompts(images: Tensor, options: Metrics, scorers: Scorers) -> Scores:
    """Do the images show what the prompts say?"""
    ids = tuple(f"sample_{i}" for i in range(len(images)))
    # Nothing came before a sample: its source is blank, and no metric of samples looks at it.
    drawn = Edited(Images(torch.zeros_like(images), ids), images)
    switched_on = options.switches()
    chosen = [metric for metric in metrics_of("samples") if switched_on[metric.switch]]
    scores = measure_each(chosen, drawn, scorers, SAMPLES)
    add_intervals(scores, options.bootstrap)
    return scores


def _measure_sets(
    images: Tensor, options: Metrics, scorers: Scorers, reference: Tensor | str
) -> Scores:
    """Do the images look like true pictures of what was asked for?"""
    sizes = {f"kid_{size}": size for size in options.kid_sizes}
    if isinstance(reference, str):
        return absent_sets("samples", sizes, reference)
    reason = too_few(min(len(reference), len(images)))
    if reason is not None:
        return absent_sets("samples", sizes, reason)
    extractor = scorers.extractor()
    if isinstance(extractor, str):
        return absent_sets("samples", sizes, extractor)
    real, fake = extractor(reference), extractor(images)
    sets = FeatureSets(
        real, fake, sizes, "metric.kid_sizes", options.kid_subsets, options.bootstrap
    )
    scores = compare_sets("samples", sets)
    label = f"{extractor.label}, {len(fake)} images against {len(real)} true ones"
    scores.values["kid_features"] = label
    return scores
