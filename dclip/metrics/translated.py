"""Scores of translated images: domain fit, distance from the source, diversity."""

from __future__ import annotations

from torch import Tensor

from dclip.metrics.names import metrics_of
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import REASONS, measure_each
from dclip.models.judge import Judge
from dclip.types import Edited, Images


def translation_scores(
    sources: Images, translated: Tensor, judge: Judge | None, variants: int = 1
) -> dict[str, float | str]:
    """Domain fit (needs the judge of ToonFaces), distance from the source, and diversity."""
    scorers = Scorers(judge=judge, variants=variants)
    edited = Edited(sources, translated)
    return measure_each(metrics_of("translations"), edited, scorers, REASONS).values
