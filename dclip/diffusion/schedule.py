"""The noise schedule. Timesteps are chosen in :mod:`dclip.diffusion.timesteps`, without torch.

========  ==================  =====================================================================
symbol    code                meaning
========  ==================  =====================================================================
beta_t    ``betas[t]``        variance of the noise added at step t
a_t       ``alpha_bar[t]``    prod_{s<=t} (1 - beta_s): how much signal is left (paper: alpha_t)
t = -1    ``CLEAN``           the clean image; alpha_bar is 1 there
========  ==================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dclip.diffusion.timesteps import BETAS, CLEAN, STEPS


@dataclass(frozen=True)
class Schedule:
    """Variance-preserving schedule with tables in float64, indexed by the 0-based t in [0, T-1].

    Ho et al. 2020: beta linear from 1e-4 to 0.02, T = 1000.

    Attributes:
        kind: how beta grows, a key of ``KINDS``; ``beta_start`` and ``beta_end`` are of those kinds
            whose formula has them.
    """

    steps: int = STEPS
    beta_start: float = BETAS[0]
    beta_end: float = BETAS[1]
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
