"""Hierarchical bootstrap: a method is drawn again with other faces, other seeds and other edits.

A score of one edit is a mean over a table of seeds (trainings) and faces. A draw takes as many seeds
and as many faces, each with replacement, and the mean over all their pairs. A macro score is the mean
over edits: a draw takes as many edits with replacement, and for each of them one of its own draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.metrics.distribution import SEED, middle


@dataclass(frozen=True)
class Draws:
    """How often every seed [B,S] and every face [B,F] is in each of B draws."""

    seeds: Tensor
    faces: Tensor

    @classmethod
    def of(cls, seeds: int, faces: int, draws: int) -> Draws:
        """The draws of one edit, always the same for the same numbers."""
        random = torch.Generator().manual_seed(SEED)
        return cls(_counts(seeds, draws, random), _counts(faces, draws, random))

    def means(self, values: Tensor) -> Tensor:
        """The mean [B] of values [S,F] in each draw, without those that are nan."""
        there = (~values.isnan()).double()
        above = ((self.seeds @ values.double().nan_to_num()) * self.faces).sum(1)
        below = ((self.seeds @ there) * self.faces).sum(1)
        return above / below.where(below > 0, torch.nan)


def _counts(size: int, draws: int, random: torch.Generator) -> Tensor:
    picks = torch.randint(size, (draws, size), generator=random)
    counts = torch.zeros(draws, size, dtype=torch.float64)
    return counts.scatter_add_(1, picks, torch.ones_like(picks, dtype=torch.float64))


def macro_means(edits: Sequence[Tensor]) -> Tensor:
    """The mean over edits [B] in each draw, from the draws [B] of every edit."""
    table = torch.stack(list(edits))
    count, draws = table.shape
    random = torch.Generator().manual_seed(SEED)
    drawn = torch.randint(count, (draws, count), generator=random)
    places = torch.randint(draws, (draws, count), generator=random)
    return table[drawn, places].nanmean(1)


def interval(means: Tensor) -> tuple[float, float]:
    """The middle 95 % of draws [B]."""
    return middle(means.double())
