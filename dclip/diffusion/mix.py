"""Several denoisers as one: degree of change, and (time-dependent) mixtures of edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Weights = Callable[[int], Sequence[float]]


def mix(
    eps_fns: Sequence[Callable[[Tensor, Tensor], Tensor]], weights: Weights | Sequence[float]
) -> Callable[[Tensor, Tensor], Tensor]:
    """eps = sum_i w_i(t) eps_i (DiffusionCLIP, Eq. 15-16). A network whose weight is 0 is not called."""

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        w = weights(int(t[0])) if callable(weights) else weights
        parts = [weight * fn(x, t) for weight, fn in zip(w, eps_fns, strict=True) if weight != 0]
        if not parts:
            raise ValueError(f"all weights are 0 at t={int(t[0])}")
        return sum(parts[1:], parts[0])

    return eps_fn


def degree(
    original: Callable[[Tensor, Tensor], Tensor], tuned: Callable[[Tensor, Tensor], Tensor], gamma: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Between the original (gamma = 0) and the fine-tuned model (gamma = 1), and beyond (DiffusionCLIP, Fig. 9)."""
    return mix([original, tuned], [1 - gamma, gamma])
