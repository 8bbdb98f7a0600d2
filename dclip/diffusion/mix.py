"""Several denoisers as one: degree of change, and (time-dependent) mixtures of edits.

Mixing is linear in all that a denoiser predicts: eps, the variance, the noise of x0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from dclip.diffusion.sampler import EpsFn, Prediction

Weights = Callable[[int], Sequence[float]]


def mix(eps_fns: Sequence[EpsFn], weights: Weights | Sequence[float]) -> EpsFn:
    """eps = sum_i w_i(t) eps_i (DiffusionCLIP, Eq. 15-16). A network of weight 0 is not called."""

    def eps_fn(x: Tensor, t: Tensor) -> Prediction:
        at_t = weights(int(t[0])) if callable(weights) else weights
        terms = []
        for weight, fn in zip(at_t, eps_fns, strict=True):
            if weight != 0:
                terms.append(_scaled(fn(x, t), weight))
        if not terms:
            raise ValueError(f"all weights are 0 at t={int(t[0])}")
        return reduce(add, terms)

    return eps_fn


def _scaled(prediction: Prediction, weight: float) -> Prediction:
    return prediction.map(lambda part: weight * part)


def degree(original: EpsFn, tuned: EpsFn, gamma: float) -> EpsFn:
    """From the original (gamma = 0) to the tuned model (1), and beyond (DiffusionCLIP, Fig. 9)."""
    return mix([original, tuned], [1 - gamma, gamma])


def degrees(original: EpsFn, tuned: EpsFn, gammas: Sequence[float]) -> EpsFn:
    """Several degrees of change at once: x holds K rows an image, one for each of the ``gammas``.

    Each network sees the rows that need it in one call: the original all but gamma = 1, the tuned
    all but gamma = 0.
    """

    def eps_fn(x: Tensor, t: Tensor) -> Prediction:
        gamma = torch.tensor(gammas, dtype=x.dtype, device=x.device).repeat(len(x) // len(gammas))
        terms = []
        for fn, weights in ((original, 1 - gamma), (tuned, gamma)):
            rows = weights.nonzero().flatten()
            if len(rows):
                prediction = fn(x[rows], t[rows])
                terms.append(_spread(prediction, rows, weights))
        return reduce(add, terms)

    return eps_fn


def regional(
    original: EpsFn,
    eps_fns: Sequence[EpsFn],
    weights: Weights,
    regions: Sequence[Tensor],
    gammas: Sequence[float],
) -> EpsFn:
    """Several edits, each in its own region: eps = eps_0 + gamma sum_i w_i(t) m_i (eps_i - eps_0).

    Where regions overlap, that is Eq. 16 of DiffusionCLIP; elsewhere one edit acts, or none.

    Args:
        weights: w(t), one weight an edit.
        regions: m, one [N,1,H,W] an edit, in [0, 1].
        gammas: x holds a row an image for each of them, next to each other.
    """

    def eps_fn(x: Tensor, t: Tensor) -> Prediction:
        gamma = torch.tensor(gammas, dtype=x.dtype, device=x.device)
        gamma = gamma.repeat(len(x) // len(gammas)).view(-1, 1, 1, 1)
        rest, terms = torch.ones_like(gamma), []
        for weight, fn, region in zip(weights(int(t[0])), eps_fns, regions, strict=True):
            share = weight * gamma * region.to(x).repeat_interleave(len(gammas), 0)
            rest = rest - share
            if bool((share != 0).any()):
                terms.append(_shared(fn(x, t), share))
        return reduce(add, terms, _shared(original(x, t), rest))

    return eps_fn


def side_by_side(eps_fns: Sequence[EpsFn]) -> EpsFn:
    """Several denoisers at once: x holds a row of each, next to each other, for every image."""

    def eps_fn(x: Tensor, t: Tensor) -> Prediction:
        terms = []
        for k, fn in enumerate(eps_fns):
            rows = torch.arange(k, len(x), len(eps_fns), device=x.device)
            terms.append(_spread(fn(x[rows], t[rows]), rows, torch.ones_like(x[:, 0, 0, 0])))
        return reduce(add, terms)

    return eps_fn


def _shared(prediction: Prediction, share: Tensor) -> Prediction:
    """A prediction in which each pixel has its own weight."""
    return prediction.map(lambda part: share * part)


def _spread(prediction: Prediction, rows: Tensor, weights: Tensor) -> Prediction:
    """A weighted prediction for some rows as one for all, 0 in the others."""
    scale = weights[rows].view(-1, 1, 1, 1)

    def spread(part: Tensor) -> Tensor:
        total = part.new_zeros(len(weights), *part.shape[1:])
        return total.index_add(0, rows, scale * part)

    return prediction.map(spread)
