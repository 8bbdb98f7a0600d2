"""Several denoisers as one: degree of change, and (time-dependent) mixtures of edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dclip.diffusion.sampler import EpsFn

Weights = Callable[[int], Sequence[float]]


def mix(eps_fns: Sequence[EpsFn], weights: Weights | Sequence[float]) -> EpsFn:
    """eps = sum_i w_i(t) eps_i (DiffusionCLIP, Eq. 15-16). A network whose weight is 0 is not called.

    Where the networks predict a variance too, its fraction is mixed with the same weights.
    """

    def eps_fn(x: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        w = weights(int(t[0])) if callable(weights) else weights
        parts = [(weight, fn(x, t)) for weight, fn in zip(w, eps_fns, strict=True) if weight != 0]
        if not parts:
            raise ValueError(f"all weights are 0 at t={int(t[0])}")
        pairs = [(weight, *out) for weight, out in parts if isinstance(out, tuple)]
        if pairs:
            return _sum([(weight, eps) for weight, eps, _ in pairs]), _sum(
                [(weight, share) for weight, _, share in pairs]
            )
        return _sum([(weight, out) for weight, out in parts if isinstance(out, Tensor)])

    return eps_fn


def _sum(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    total = terms[0][0] * terms[0][1]
    for weight, value in terms[1:]:
        total = total + weight * value
    return total


def degree(original: EpsFn, tuned: EpsFn, gamma: float) -> EpsFn:
    """Between the original (gamma = 0) and the fine-tuned model (gamma = 1), and beyond (DiffusionCLIP, Fig. 9)."""
    return mix([original, tuned], [1 - gamma, gamma])


def degrees(original: EpsFn, tuned: EpsFn, gammas: Sequence[float]) -> EpsFn:
    """Several degrees of change at once: x holds K rows an image, one for each of the K ``gammas``, in their order.

    Each network sees the rows that need it in one call: the original all but gamma = 1, the tuned all but gamma = 0.
    """

    def eps_fn(x: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        gamma = torch.tensor(gammas, dtype=x.dtype, device=x.device).repeat(len(x) // len(gammas))
        total: Tensor | None = None
        for fn, weight in ((original, 1 - gamma), (tuned, gamma)):
            rows = weight.nonzero().flatten()
            if len(rows) == 0:
                continue
            out = fn(x[rows], t[rows])
            made = torch.cat(out, 1) if isinstance(out, tuple) else out
            total = x.new_zeros(len(x), *made.shape[1:]) if total is None else total
            total = total.index_add(0, rows, weight[rows].view(-1, 1, 1, 1) * made)
        assert total is not None
        return (
            total
            if total.shape[1] == x.shape[1]
            else (total[:, : x.shape[1]], total[:, x.shape[1] :])
        )

    return eps_fn
