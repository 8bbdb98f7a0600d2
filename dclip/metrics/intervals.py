"""95 % bootstrap intervals of scores, over images."""

from __future__ import annotations

import torch
from torch import Tensor

from dclip.metrics.contract import Scores
from dclip.metrics.distribution import mean_interval, ratio_interval


def add_intervals(scores: Scores, draws: int, variants: int = 1) -> None:
    """``NAME_low`` and ``NAME_high`` of every metric that is a mean over images, or a ratio of two.

    Nothing where there are no draws, or only one image. Images are drawn, with all their variants.

    Args:
        draws: how often the images are drawn.
        variants: how many rows next to each other belong to one image.
    """
    rows = {}
    for name, row in scores.rows.items():
        values = torch.tensor(row, dtype=torch.float64)
        rows[name] = values.reshape(-1, variants).nanmean(1)
    for name, values in rows.items():
        if name in scores.values and _enough(values, draws):
            _add(scores, name, mean_interval(values, draws))
    for name, (above, below) in scores.ratios.items():
        if name in scores.values and _enough(rows[above], draws):
            _add(scores, name, ratio_interval(rows[above], rows[below], draws))


def _enough(values: Tensor, draws: int) -> bool:
    return draws > 0 and len(values) > 1


def _add(scores: Scores, name: str, interval: tuple[float, float]) -> None:
    low, high = interval
    scores.values |= {f"{name}_low": low, f"{name}_high": high}
