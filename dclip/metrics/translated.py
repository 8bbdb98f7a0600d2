"""Scores of translated images: domain fit, distance from the source, diversity."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dclip.data.toonfaces.faces import ATTRIBUTES
from dclip.metrics.functional import variety
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
    device, toon = next(judge.parameters()).device, ATTRIBUTES["style"].index("toon")
    before, after = (judge.attributes(x.to(device)) for x in (sources.pixels, made))
    scores["judge_domain_before"] = float((before["style"] == toon).float().mean())
    scores["judge_domain"] = float((after["style"] == toon).float().mean())
    if sources.faces:
        seen = {name: after[name].tolist() for name in PAINTED}
        kept = [
            seen[k][i] == ATTRIBUTES[k].index(face[k])
            for i, face in enumerate(sources.faces)
            for k in PAINTED
        ]
        scores["judge_painted"] = sum(kept) / len(kept)
    return scores


def _coarse(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x.clamp(-1, 1), 8)
