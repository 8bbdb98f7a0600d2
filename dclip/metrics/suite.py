"""Everything that a run measures of its edits, from one pass over the images.

A metric that cannot be computed is absent, with its reason under ``NAME_absent``; never zero,
never a look-alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dclip.config import Metrics, ParserName
from dclip.data.domain import Truth
from dclip.metrics.contract import Metric
from dclip.metrics.contract import Scores as Scores
from dclip.metrics.distribution import FeatureSets
from dclip.metrics.intervals import add_intervals
from dclip.metrics.names import metrics_of, set_metrics_of
from dclip.metrics.scorers import Scorers as Scorers
from dclip.metrics.sets import too_few
from dclip.metrics.words import Beside, Need, ReaderName
from dclip.models.judge import Judge
from dclip.models.parser import Parser
from dclip.text.direction import Direction
from dclip.types import Edited

Reasons = Mapping[Need, str]
"""Why a metric is absent where something that it needs is not there; empty: it is not mentioned."""

REASONS: Reasons = {
    "clip": "no CLIP is set",
    "heldout": "no held-out CLIP is set (clip.heldout)",
    "identity": "no identity network for this data set",
    "judge": "",
    "parts": "no network finds the parts of these images (metric.parser)",
    "direction": "",
    "texts": "the edit has no texts",
    "truth": "",
    "goal": "the edit's true meaning is not known",
    "distractors": "",
    "true_pictures": "",
    "region": "",
}


def why_absent(metric: Metric, scorers: Scorers, reasons: Reasons) -> str | None:
    """Why a metric cannot be computed; None if nothing is missing."""
    for need in metric.needs:
        if scorers.lacks(need):
            return reasons[need]
    return None


def measure_each(
    metrics: Iterable[Metric], edited: Edited, scorers: Scorers, reasons: Reasons
) -> Scores:
    """The scores of these metrics, with the reasons of those that are absent."""
    scores = Scores()
    for metric in metrics:
        reason = why_absent(metric, scorers, reasons)
        if reason is None:
            scores.take(metric.name, metric.compute(edited, scorers))
        elif reason:
            scores.absent(metric.name, reason)
    return scores


def measure(
    edited: Edited,
    options: Metrics,
    scorers: Scorers,
    direction: Direction | None = None,
    truth: Truth | None = None,
    variants: int = 1,
) -> Scores:
    """Every metric of an edit that is asked for.

    Args:
        direction: (source, target) text, or a CLIP's direction by other means; without it there
            is no S_dir.
        truth: the edit's true meaning, where it is known.
        variants: how many results of one image lie next to each other.
    """
    if len(edited.source) == 0:
        return Scores()
    scorers = replace(
        scorers,
        parts=_parts(options, scorers),
        direction=direction,
        truth=truth,
        goal=None if truth is None else truth.goal,
        variants=variants,
        beside=comes_with(edited),
        compare=options.features,
    )
    switched_on = {**options.switches(), "parts": options.judge or scorers.parser is not None}
    chosen = [metric for metric in metrics_of("edits") if switched_on[metric.switch]]
    scores = measure_each(chosen, edited, scorers, REASONS)
    add_intervals(scores, options.bootstrap, variants)
    if scorers.parser is not None and "sc" in scores.values:
        scores.values["sc_parser"] = scorers.parser.name
    if options.kid:
        scores.merge(_measure_sets(edited, options, scorers, variants))
    return scores


def comes_with(edited: Edited) -> frozenset[Beside]:
    """What is there besides the pictures before and after."""
    there: set[Beside] = set()
    if edited.truth is not None:
        there.add("true_pictures")
    if edited.region is not None:
        there.add("region")
    return frozenset(there)


def _parts(options: Metrics, scorers: Scorers) -> Parser | Judge | None:
    """The network that finds the parts of a picture."""
    if options.parser is ParserName.none:
        return None
    return scorers.parser or scorers.judge


def _measure_sets(edited: Edited, options: Metrics, scorers: Scorers, variants: int) -> Scores:
    """Distances of the edited images to the true ones or, where there are none, to the sources.

    Of an image's variants, the first counts: an image that is there twice is no second one.
    """
    count = len(edited.source) // variants
    sizes = {"kid": min(options.kid_subset, count // 2)}
    reason = too_few(count)
    if reason is not None:
        return absent_sets("edits", sizes, reason)
    extractor = scorers.extractor()
    if isinstance(extractor, str):
        return absent_sets("edits", sizes, extractor)
    reference, named = edited.source.pixels, "sources"
    if edited.truth is not None:
        reference, named = edited.truth, "truth"
    real, fake = extractor(reference[::variants]), extractor(edited.result[::variants])
    sets = FeatureSets(
        real, fake, sizes, "metric.kid_subset", options.kid_subsets, options.bootstrap
    )
    scores = compare_sets("edits", sets)
    label = f"{extractor.label}, {sizes['kid']} of {count}, against {named}"
    scores.values["kid_features"] = label
    return scores


def compare_sets(reader: ReaderName, sets: FeatureSets) -> Scores:
    """The distances between two sets that a reader measures."""
    scores = Scores()
    for metric in set_metrics_of(reader):
        scores.take(metric.name, metric.compare(sets))
    return scores


def absent_sets(reader: ReaderName, sizes: Iterable[str], reason: str) -> Scores:
    """No distance can be measured, for one reason."""
    scores = Scores()
    for metric in set_metrics_of(reader):
        for name in metric.columns(sizes):
            scores.absent(name, reason)
    return scores
