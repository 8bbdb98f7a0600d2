"""The only place where timesteps are chosen. Imports no torch, so that a plan can count them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dclip.config import FinalStep, Grid

CLEAN = -1  # the timestep of the clean image
STEPS = 1000  # timesteps of every model that is known; settings such as t0 count in these
BETAS = 1e-4, 0.02  # the first and the last of Ho et al. 2020

Pair = tuple[int, int]

# grids are chosen on the schedule that all known models share
_ALPHA_BARS = np.cumprod(1 - np.linspace(*BETAS, STEPS))


def check_steps(t0: int, steps: int, what: str = "steps", total: int = STEPS) -> None:
    """ValueError unless 0 < t0 <= T-1 and 2 <= steps <= t0 + 1 (more would visit a timestep twice)."""
    if not 0 < t0 < total:
        raise ValueError(
            f"t0={t0} is outside the schedule of {total} steps; choose 1 to {total - 1}"
        )
    if not 2 <= steps <= t0 + 1:
        raise ValueError(f"{what}={steps} is impossible with t0={t0}: choose 2 to {t0 + 1}")


def grid(t0: int, steps: int, kind: Grid | str = Grid.uniform) -> list[int]:
    """``steps`` different timesteps from 0 to t0, both included, spread as ``kind`` says.

    ``uniform`` in t as published: truncated ``linspace(0, 1, S) * t0``; ``quadratic``: in the square root of t;
    ``log_snr``: in lambda = log(a / (1 - a)) / 2; ``rho``: in rho = sqrt((1 - a) / a). Timesteps that rounding makes equal are
    moved apart.
    """
    check_steps(t0, steps)
    share = np.linspace(0, 1, steps)
    if Grid(kind) is Grid.uniform:
        taus = [int(v) for v in share * t0]
    elif Grid(kind) is Grid.quadratic:
        taus = [round(v) for v in share**2 * t0]
    else:
        a = _ALPHA_BARS[: t0 + 1]
        scale = np.sqrt((1 - a) / a) if Grid(kind) is Grid.rho else np.log((1 - a) / a)
        taus = [
            round(v)
            for v in np.interp(scale[0] + share * (scale[-1] - scale[0]), scale, np.arange(t0 + 1))
        ]
    for i in range(1, steps):
        taus[i] = max(taus[i], taus[i - 1] + 1)
    for i in range(steps - 1, -1, -1):
        taus[i] = min(taus[i], t0 - (steps - 1 - i))
    return taus


def pairs_up(t0: int, steps: int, kind: Grid | str = Grid.uniform) -> list[Pair]:
    """Inversion: ``steps - 1`` pairs (t, t_next) from 0 up to t0. The clean image is taken as x at t = 0, as published."""
    return list(pairwise(grid(t0, steps, kind)))


def pairs_down(
    t0: int,
    steps: int,
    final_step: FinalStep | str = FinalStep.to_clean,
    kind: Grid | str = Grid.uniform,
) -> list[Pair]:
    """Generation: pairs (t, t_next) from t0 down to 0, then (0, -1) unless ``final_step`` is ``to_t0``."""
    down = mirrored(pairs_up(t0, steps, kind))
    return [*down, (0, CLEAN)] if FinalStep(final_step) is FinalStep.to_clean else down


def mirrored(pairs: Sequence[Pair]) -> list[Pair]:
    """The same way back."""
    return [(b, a) for a, b in reversed(pairs)]


def pairs_above(t0: int, top: int, steps: int) -> list[Pair]:
    """The way from ``top`` down to exactly t0: the pairs of ``pairs_down(top, steps)`` that begin above t0, the last cut there."""
    return [(t, max(t_next, t0)) for t, t_next in pairs_down(top, steps) if t > t0]
