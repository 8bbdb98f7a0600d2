"""Weights of several edits that are applied at once, constant or changing with t. Needs no torch: bad ones are refused early.

=====================================  =======================================================================================
``mix.weights``                        weights of the edits at timestep t
=====================================  =======================================================================================
null                                   equal
``[0.3, 0.7]``                         these
``{300: [1, 0], 0: [0.3, 0.7]}``       those of the highest threshold that t reaches (DiffusionCLIP's code)
``linear``, ``cosine``                 from the first edit at t0 to the last at 0, cross-faded in between
=====================================  =======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dclip.config import Mix
from dclip.errors import DclipError, choose, counted

Weights = Callable[[int], list[float]]  # t -> one weight an edit; they sum to one at every t


SCHEDULES: dict[
    str, Callable[[float], float]
] = {  # share of the next edit, on the way u in [0, 1] from one edit to it
    "linear": lambda u: u,
    "cosine": lambda u: (1 - math.cos(math.pi * u)) / 2,
}


def weights_of(spec: Any, count: int, t0: int) -> Weights:
    """The weights of ``count`` edits as a function of t in [0, t0]. DclipError in one line for a ``spec`` that cannot be."""
    if spec is None:
        return lambda t: [1 / count] * count
    if isinstance(spec, str):
        return _scheduled(spec, count, t0)
    if isinstance(spec, Mapping):
        return _piecewise(spec, count)
    constant = _checked(spec, count, f"mix.weights={spec}")
    return lambda t: constant


def constant_weights(options: Mix, count: int) -> list[float]:
    """Weights of edits that are merged, or act one after the other. DclipError where they change with t."""
    if isinstance(options.weights, str | Mapping):
        why = (
            "mix.soup=true merges the edits once"
            if options.soup
            else "mix.in_turn=true applies each edit by itself"
        )
        raise DclipError(
            f"{why}, so mix.weights={options.weights} cannot change with t; give one weight an edit"
        )
    return weights_of(options.weights, count, 1)(0)


def _checked(values: Any, count: int, where: str) -> list[float]:
    if (
        not isinstance(values, Sequence)
        or isinstance(values, str)
        or not all(_is_number(v) for v in values)
    ):
        raise DclipError(
            f"{where} must be numbers, one an edit, such as {[round(1 / count, 2)] * count}"
        )
    if len(values) != count:
        raise DclipError(
            f"{where} has {counted(len(values), 'weight')} for {counted(count, 'edit')}; give one weight an edit, in their order"
        )
    total = math.fsum(values)
    if abs(total - 1) > 1e-6:
        raise DclipError(
            f"{where} sum to {total:g}, not to 1; scale them, and set the strength of the whole with gamma"
        )
    return [float(v) for v in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scheduled(name: str, count: int, t0: int) -> Weights:
    if name not in SCHEDULES:
        raise DclipError(
            f"mix.weights={name} does not exist{choose(name, list(SCHEDULES))}, or give one weight an edit"
        )
    if count < 2:
        raise DclipError(
            f"mix.weights={name} fades between edits, but edit.adapter names only one; give several"
        )

    def weights(t: int) -> list[float]:
        way = min(max(1 - t / t0, 0.0), 1.0) * (count - 1)
        first = min(int(way), count - 2)
        share = SCHEDULES[name](way - first)
        return [1 - share if i == first else share if i == first + 1 else 0.0 for i in range(count)]

    return weights


def _piecewise(spec: Mapping[Any, Any], count: int) -> Weights:
    if not all(isinstance(t, int) and not isinstance(t, bool) for t in spec):
        raise DclipError(
            f"mix.weights={dict(spec)} must map timesteps to weights, such as {{300: [1, 0], 0: [0.3, 0.7]}}"
        )
    steps = {
        t: _checked(spec[t], count, f"mix.weights[{t}]={spec[t]}")
        for t in sorted(spec, reverse=True)
    }
    if not steps or min(steps) > 0:
        raise DclipError(
            f"mix.weights={dict(spec)} says nothing of the last steps; add weights from 0 on, such as 0: [...]"
        )
    return lambda t: next(
        weights for threshold, weights in steps.items() if t >= threshold or threshold <= 0
    )
