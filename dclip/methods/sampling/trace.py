"""What guidance saw while sampling, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """What CLIP saw of one batch in one step.

    Attributes:
        t: the timestep.
        views: how many pictures CLIP looked at.
        probabilities: [N, 1 + M_k] of every prompt and its distractors; empty where nothing
            competes.
    """

    t: int
    views: int
    probabilities: Sequence[Tensor] = ()


Observe = Callable[[Observation], None]


@dataclass
class Trace:
    """Probabilities of all prompts while sampling, and the pictures that CLIP looked at.

    Attributes:
        sums: over images: t -> [n, sum, sum of squares], a number for each text.
    """

    sums: dict[int, tuple[int, Tensor, Tensor]] = field(default_factory=dict)
    views: int = 0

    def observe(self, seen: Observation) -> None:
        """Add what was seen in one step."""
        self.views += seen.views
        if seen.probabilities:
            self.add(seen.t, seen.probabilities)

    def add(self, t: int, probabilities: Sequence[Tensor]) -> None:
        """Add probabilities [N, 1 + M_k] of every prompt at step t."""
        p = torch.cat(list(probabilities), 1).detach().double().cpu()
        self._add(t, len(p), p.sum(0), p.square().sum(0))

    def _add(self, t: int, count: int, total: Tensor, squares: Tensor) -> None:
        if t in self.sums:
            n, old, old_squares = self.sums[t]
            count, total, squares = n + count, old + total, old_squares + squares
        self.sums[t] = count, total, squares

    @classmethod
    def merged(cls, traces: Sequence[Trace]) -> Trace:
        """All processes' traces as one."""
        whole = cls()
        for trace in traces:
            whole.views += trace.views
            for t, (count, total, squares) in trace.sums.items():
                whole._add(t, count, total, squares)
        return whole
