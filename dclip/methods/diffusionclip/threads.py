"""A batch's gradient by several CPU threads, each with a share of the images.

One network call on a few small images leaves a processor's cores waiting for each other at every layer; as many calls side by
side do not. What a share computes does not depend on the others, and shares are added in their order: the same batch gives the
same gradient, bit for bit, on the same number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from dclip.methods.diffusionclip.objectives import OBJECTIVES, Terms, Work, needs_latents


class Crew:
    """As many threads as torch uses; for a batch of fewer images, that many, each of which computes with several."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def _pool(self, size: int) -> ThreadPoolExecutor:
        if size not in self._pools:
            self._pools[size] = ThreadPoolExecutor(
                size, "share", torch.set_num_threads, (self.threads // size,)
            )
        return self._pools[size]

    def updates(self, work: Work, trained: Sequence[nn.Parameter]) -> Iterator[Terms]:
        """The objective's terms, update by update, with the gradient of each in ``trained``. The caller makes the step."""
        parts = shares(work, min(self.threads, len(work.index)))
        weights = [len(part.index) / len(work.index) for part in parts]
        makers = [OBJECTIVES[work.options.objective](part) for part in parts]

        def advance(maker: Iterator[Terms]) -> tuple[Terms, Sequence[Tensor | None]] | None:
            terms = next(maker, None)
            return (
                None
                if terms is None
                else (terms, torch.autograd.grad(terms["total"], trained, allow_unused=True))
            )

        pool = self._pool(len(parts))
        while all(made := list(pool.map(advance, makers))):
            done = [one for one in made if one is not None]
            for parameter, *grads in zip(trained, *(grads for _, grads in done), strict=True):
                known = [
                    (weight, grad)
                    for weight, grad in zip(weights, grads, strict=True)
                    if grad is not None
                ]
                parameter.grad = _sum(known, parameter) if known else None
            yield {
                name: _sum(
                    [(w, one[name].detach()) for w, (one, _) in zip(weights, done, strict=True)]
                )
                for name in done[0][0]
            }


def shares(work: Work, count: int) -> list[Work]:
    """The batch in ``count`` parts, as even as can be."""
    cuts = [round(i * len(work.index) / count) for i in range(count + 1)]
    latents = needs_latents(work.options.objective)
    return [
        replace(work, index=work.index[a:b], latents=work.latents[a:b] if latents else work.latents)
        for a, b in pairwise(cuts)
    ]


def _sum(terms: Sequence[tuple[float, Tensor]], like: Tensor | None = None) -> Tensor:
    """Weighted, in the memory layout of ``like``: a fused optimiser takes for granted that a gradient lies as its weights do."""
    total = torch.zeros_like(terms[0][1] if like is None else like, requires_grad=False)
    for weight, value in terms:
        total.add_(value, alpha=weight)
    return total
