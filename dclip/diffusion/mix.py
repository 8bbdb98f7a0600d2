"""Several denoisers as one: degree of change, and (time-dependent) mixtures of edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
            return _sum([(weight, eps) for weight, eps, _ in pairs]), _sum([(weight, share) for weight, _, share in pairs])
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
