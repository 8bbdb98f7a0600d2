"""A batch's gradient by several CPU threads, each with a share of the images.

One network call on a few small images leaves a processor's cores waiting for each other at every
layer; as many calls side by side do not. What a share computes does not depend on the others, and
shares are added in their order: the same batch gives the same gradient, bit for bit, on the same
number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from dclip.methods.diffusionclip.loss import Terms
from dclip.methods.diffusionclip.objectives import Objective, Work


@dataclass(frozen=True)
class Update:
    """One update's terms and gradients, of a share of the batch.

    Attributes:
        weight: the share of the batch.
        gradients: one a parameter; None where the loss does not depend on it.
    """

    weight: float
    terms: Terms
    gradients: Sequence[Tensor | None]


class BatchThreads:
    """One thread an image, at most as many as torch uses; with fewer images, each gets several."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def _pool(self, size: int) -> ThreadPoolExecutor:
        if size not in self._pools:
            each = (self.threads // size,)
            self._pools[size] = ThreadPoolExecutor(size, "share", torch.set_num_threads, each)
        return self._pools[size]

    def updates(
        self, objective: Objective, work: Work, trained: Sequence[nn.Parameter]
    ) -> Iterator[Terms]:
        """The objective's terms, update by update, with the gradient of each in ``trained``.

        The caller makes the optimiser's step.
        """
        parts = split(work, min(self.threads, len(work.index)))
        weights = [len(part.index) / len(work.index) for part in parts]
        iterators = [objective(part) for part in parts]

        def advance(iterator: Iterator[Terms], weight: float) -> Update | None:
            terms = next(iterator, None)
            if terms is None:
                return None
            gradients = torch.autograd.grad(terms["total"], trained, allow_unused=True)
            return Update(weight, terms, gradients)

        pool = self._pool(len(parts))
        while True:
            done = [
                update for update in pool.map(advance, iterators, weights) if update is not None
            ]
            if len(done) < len(parts):
                return
            _set_gradients(trained, done)
            yield _mean_terms(done)


def split(work: Work, count: int) -> list[Work]:
    """The batch in ``count`` parts, as even as can be."""
    cuts = [round(i * len(work.index) / count) for i in range(count + 1)]
    parts = []
    for a, b in pairwise(cuts):
        parts.append(replace(work, index=work.index[a:b], latents=work.latents[a:b]))
    return parts


def _set_gradients(trained: Sequence[nn.Parameter], updates: Sequence[Update]) -> None:
    """The gradient of the whole batch: the mean over its shares."""
    for i, parameter in enumerate(trained):
        gradients = []
        for update in updates:
            gradient = update.gradients[i]
            if gradient is not None:
                gradients.append((update.weight, gradient))
        parameter.grad = _sum(gradients, parameter) if gradients else None


def _mean_terms(updates: Sequence[Update]) -> Terms:
    means = {}
    for name, like in updates[0].terms.items():
        values = [(update.weight, update.terms[name].detach()) for update in updates]
        means[name] = _sum(values, like)
    return means


def _sum(terms: Sequence[tuple[float, Tensor]], like: Tensor) -> Tensor:
    """Weighted, in the memory layout of ``like``.

    A fused optimiser takes for granted that a gradient lies in memory as its weights do.
    """
    total = torch.zeros_like(like, requires_grad=False)
    for weight, value in terms:
        total.add_(value, alpha=weight)
    return total
