"""Scores of translated images: domain fit, distance from the source, diversity."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dclip.metrics.functional import judged_success, variety
from dclip.models.judge import Judge
from dclip.types import Images

PAINTED = (
    "hair_color",
    "skin",
    "clothes_color",
    "background",
)  # what a stroke picture says of its face


def translation_scores(
    sources: Images, made: Tensor, judge: Judge | None, variants: int = 1
) -> dict[str, float]:
    """How far into the domain, how near to the source, how various. The first needs the judge of ToonFaces."""
    scores = {"coarse_mae": float((_coarse(made) - _coarse(sources.pixels)).abs().mean() / 2)}
    if variants > 1:
        scores["variety"] = variety(made, variants)
    if judge is None:
        return scores
    device, in_domain = next(judge.parameters()).device, [("style", "toon")]
    before, after = (judge.sees(x.to(device)) for x in (sources.pixels, made))
    scores["judge_domain_before"] = float(judged_success(before, in_domain).mean())
    scores["judge_domain"] = float(judged_success(after, in_domain).mean())
    if sources.facts:
        kept = 0
        for one, facts in zip(after, sources.facts, strict=True):
            kept += sum(one[name] == facts[name] for name in PAINTED)
        scores["judge_painted"] = kept / (len(after) * len(PAINTED))
    return scores


def _coarse(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x.clamp(-1, 1), 8)
