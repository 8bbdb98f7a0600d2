"""The difference of a score between two runs on the same pictures, with its bootstrap interval.

Pictures are drawn in pairs, so that what makes a picture hard for both runs cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.data.masks import VARIANT
from dclip.metrics.distribution import bootstrap_picks, mean_interval, middle

RATIOS = {"counterfactual_ratio": ("truth_distance", "truth_distance_untouched")}
"""Scores that are the mean of one row over that of another."""

DRAWS = 500

Row = Mapping[str, float | None]
Rows = Mapping[str, Row]  # picture -> metric -> value


@dataclass(frozen=True)
class Difference:
    """Another run's score minus this one's.

    Attributes:
        value: of the pictures that both have.
        interval: 95 %, over pictures; None of a single one.
        count: how many pictures those are; variants of a picture are one.
    """

    value: float
    interval: tuple[float, float] | None
    count: int


def difference(name: str, this: Rows, that: Rows, variants: bool = False) -> Difference | None:
    """``that`` minus ``this``; None where no picture has the score in both.

    With ``variants``, names that end in _v1, _v2, ... are one picture's.
    """
    columns = RATIOS.get(name, (name,))
    values = _values(columns, this, that, variants)
    if not len(values):
        return None
    if len(columns) == 2:
        found = _of_ratios(values)
        return found if math.isfinite(found.value) else None
    apart = values[:, 1, 0] - values[:, 0, 0]
    bounds = mean_interval(apart) if len(apart) > 1 else None
    return Difference(float(apart.mean()), bounds, len(apart))


def _of_ratios(values: Tensor) -> Difference:
    """The difference of two ratios of means; values [N,2,2]: of both runs, above and below."""

    def apart(means: Tensor) -> Tensor:
        return means[..., 1, 0] / means[..., 1, 1] - means[..., 0, 0] / means[..., 0, 1]

    bounds = None
    if len(values) > 1:
        bounds = middle(apart(values[bootstrap_picks(len(values), DRAWS)].mean(1)))
    return Difference(float(apart(values.mean(0))), bounds, len(values))


def _values(columns: tuple[str, ...], this: Rows, that: Rows, variants: bool) -> Tensor:
    """Values [N,2,K] of the pictures that have all of them in both; variants are averaged."""
    pictures: dict[str, list[list[list[float]]]] = {}
    for name, row in this.items():
        both = [_known(columns, row), _known(columns, that.get(name, {}))]
        if all(both):
            picture = VARIANT.sub("", name) if variants else name
            pictures.setdefault(picture, []).append(both)
    if not pictures:
        return torch.empty(0, 2, len(columns), dtype=torch.float64)
    means = [torch.tensor(one, dtype=torch.float64).mean(0) for one in pictures.values()]
    return torch.stack(means)


def _known(columns: tuple[str, ...], row: Row) -> list[float]:
    """A picture's values; empty where one is missing."""
    values = [row.get(column) for column in columns]
    known = [value for value in values if value is not None]
    return known if len(known) == len(columns) else []
