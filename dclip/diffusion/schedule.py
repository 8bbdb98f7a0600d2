"""The noise schedule, and the only place where timesteps are chosen.

========  ==================  =====================================================================
symbol    code                meaning
========  ==================  =====================================================================
beta_t    ``betas[t]``        variance of the noise added at step t
a_t       ``alpha_bar[t]``    prod_{s<=t} (1 - beta_s): how much signal is left (paper: alpha_t)
t = -1    ``CLEAN``           the clean image; alpha_bar is 1 there
========  ==================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dclip.config import FinalStep, Grid

CLEAN = -1  # the timestep of the clean image
STEPS = 1000  # timesteps of every model that is known; settings such as t0 count in these


Pair = tuple[int, int]


@dataclass(frozen=True)
class Schedule:
    """Variance-preserving schedule with tables in float64, indexed by the 0-based t in [0, T-1].

    Ho et al. 2020: beta linear from 1e-4 to 0.02, T = 1000.

    Attributes:
        kind: how beta grows, a key of ``KINDS``; ``beta_start`` and ``beta_end`` are of those kinds
            whose formula has them.
    """

    steps: int = STEPS
    beta_start: float = 1e-4
    beta_end: float = 0.02
    kind: str = "linear"

    @property
    def betas(self) -> Tensor:
        """float64 [T]."""
        return torch.from_numpy(KINDS[self.kind](self))

    @property
    def alpha_bars(self) -> Tensor:
        """float64 [T]: cumulative products of 1 - beta."""
        return torch.cumprod(1 - self.betas, 0)

    def alpha_bar(self, t: int) -> float:
        """alpha_bar at one timestep; 1 at t = -1 (the clean image). ValueError outside [-1, T-1]."""
        if not CLEAN <= t < self.steps:
            raise ValueError(
                f"t={t} is outside the schedule: it runs from 0 to {self.steps - 1} (and -1 for the clean image)"
            )
        return 1.0 if t == CLEAN else float(self._table[t])

    def alpha_bar_at(self, t: Tensor) -> Tensor:
        """float32 [N,1,1,1]: alpha_bar at the timesteps t [N], on their device."""
        values = self._table[t.long().cpu()]
        return values.to(t.device, torch.float32)[:, None, None, None]

    @property
    def _table(self) -> Tensor:
        if self not in _TABLES:
            _TABLES[self] = self.alpha_bars
        return _TABLES[self]


HO = Schedule()  # of Ho et al. 2020, and of all networks of the papers

_TABLES: dict[Schedule, Tensor] = {}

Array = npt.NDArray[np.float64]


def _linear(schedule: Schedule) -> Array:
    return np.linspace(schedule.beta_start, schedule.beta_end, schedule.steps)


def _scaled_linear(schedule: Schedule) -> Array:
    """Linear in sqrt(beta): latent diffusion's, and rosinality's "linear"."""
    first, last = schedule.beta_start**0.5, schedule.beta_end**0.5
    return np.linspace(first, last, schedule.steps) ** 2


def _logistic(x: Array | float) -> Array:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _sigmoid_beta(schedule: Schedule) -> Array:
    """diffusers' ``sigmoid``: beta itself follows a sigmoid."""
    height = schedule.beta_end - schedule.beta_start
    return _logistic(np.linspace(-6, 6, schedule.steps)) * height + schedule.beta_start


def _from_alpha_bars(alpha_bars: Array) -> Array:
    """Betas [T] of alpha_bar at 0/T .. T/T [T+1], at most 0.999 (Nichol & Dhariwal 2021, 3.2)."""
    return np.clip(1 - alpha_bars[1:] / alpha_bars[:-1], 0, 0.999)


def _cosine(schedule: Schedule) -> Array:
    """Nichol & Dhariwal 2021, Eq. 17, with s = 0.008; diffusers' ``squaredcos_cap_v2``."""
    time = np.arange(schedule.steps + 1) / schedule.steps
    return _from_alpha_bars(np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2)


def _sigmoid(schedule: Schedule) -> Array:
    """Jabri et al. 2022, Fig. 8, from -3 to 3 with tau = 1: alpha_bar follows a sigmoid."""
    time = np.arange(schedule.steps + 1) / schedule.steps
    last = _logistic(3.0)
    alpha_bars = (last - _logistic(6 * time - 3)) / (last - _logistic(-3.0))
    return _from_alpha_bars(alpha_bars)


KINDS: dict[str, Callable[[Schedule], Array]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "cosine": _cosine,
    "sigmoid": _sigmoid,
    "sigmoid_beta": _sigmoid_beta,
}


_ALPHA_BARS = HO.alpha_bars  # grids are chosen on the schedule that all known models share


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
        a = _ALPHA_BARS[: t0 + 1].numpy()
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
