"""Walking through the schedule: one loop over (t, t_next) pairs, upward (inversion) and downward (generation).

=========  ===================  ===========================================================
symbol     code                 meaning
=========  ===================  ===========================================================
a, a'      ``a``, ``a_next``    alpha_bar at t and at t_next
eps        ``eps``              predicted noise; the only thing asked of a network
x0         ``x0``               (x - sqrt(1-a) eps) / sqrt(a), the predicted clean image
=========  ===================  ===========================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.schedule import CLEAN, Pair, Schedule

# eps_fn(x_t [N,C,H,W], t int64 [N]) -> eps [N,C,H,W]; for ancestral sampling with learned variance: (eps, fraction)
EpsFn = Callable[[Tensor, Tensor], "Tensor | tuple[Tensor, Tensor]"]


@dataclass(frozen=True)
class Step:
    """What one step knows. ``fraction`` in [-1, 1] is a network's raw LEARNED_RANGE output, where there is one."""

    t: int
    t_next: int
    x: Tensor
    eps: Tensor
    x0: Tensor
    fraction: Tensor | None = None


class Look(Protocol):
    """Asks the network once more: what does it see at (x, t)?"""

    def __call__(self, x: Tensor, t: int) -> Step:
        """A step without a destination."""
        ...


class Solver(Protocol):
    """Turns one step into x at t_next."""

    def start(self) -> Solver:
        """A solver for one walk, with no memory of others."""
        ...

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, look: Look
    ) -> Tensor:
        """x_{t_next} [N,C,H,W]."""
        ...


@runtime_checkable
class TwoStates(Protocol):
    """A solver whose latent is two states: x at the end of the walk and x one step before it, [N,2,C,H,W]."""

    def open(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] at the start, out of one state [N,C,H,W] or two."""
        ...

    def close(self, x: Tensor) -> Tensor:
        """What the walk returns for x [N,C,H,W] at its end."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """A solver that may know already what the network sees where a step begins."""

    def recall(self, x: Tensor, t: int, schedule: Schedule) -> Step | None:
        """A step without a destination; None where the network has to be asked."""
        ...


def _draw(noise: ImageNoise | None, x: Tensor) -> Tensor:
    if noise is None:
        raise ValueError("stochastic sampling needs noise: pass noise=ImageNoise(ids, seed)")
    return noise.like(x)


@dataclass(frozen=True)
class DDIM:
    """DDIM, Song et al. 2021, Eq. 12 (eta = 0: deterministic; DiffusionCLIP Eq. 12-13). Only eta = 0 may go upward."""

    eta: float = 0.0

    def start(self) -> DDIM:
        """Nothing to remember."""
        return self

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, look: Look | None = None
    ) -> Tensor:
        """x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma z."""
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        sigma = 0.0
        if self.eta:
            if step.t_next > step.t:
                raise ValueError("inversion is deterministic; use eta=0 upward")
            sigma = self.eta * math.sqrt((1 - a / a_next) * (1 - a_next) / (1 - a))
        x = math.sqrt(a_next) * step.x0 + math.sqrt(max(1 - a_next - sigma**2, 0.0)) * step.eps
        return x + sigma * _draw(noise, x) if sigma else x


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling (Ho et al. 2020, Eq. 6-7) of any sub-sequence: beta is the noise between t_next and t.

    ``variance``: ``fixed_small`` (posterior), ``fixed_large`` (beta) or ``learned_range`` (Nichol & Dhariwal 2021, Eq. 15:
    the network's fraction interpolates between the two logarithms). No noise on the last step to the clean image, unless
    ``noise_last``: then with the variance that the published code has there, the posterior's one index up (fixed_large).
    """

    variance: str = "fixed_small"
    noise_last: bool = False

    def start(self) -> DDPM:
        """Nothing to remember."""
        return self

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, look: Look | None = None
    ) -> Tensor:
        """mean + sigma z with mean = sqrt(a') beta / (1-a) x0 + sqrt(a/a') (1-a') / (1-a) x."""
        if step.t_next > step.t:
            raise ValueError("ancestral sampling only goes down; invert with DDIM")
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        ratio = a / a_next
        beta = 1 - ratio
        mean = (
            math.sqrt(a_next) * beta / (1 - a) * step.x0
            + math.sqrt(ratio) * (1 - a_next) / (1 - a) * step.x
        )
        if step.t_next == CLEAN and not self.noise_last:
            return mean
        if step.t_next == CLEAN:
            beta = _posterior_variance(schedule, step.t + 1, step.t)
        small, large = math.log(max((1 - a_next) / (1 - a) * beta, 1e-20)), math.log(beta)
        if self.variance == "learned_range":
            if step.fraction is None:
                raise ValueError("learned_range variance needs a network that predicts it")
            share = (step.fraction + 1) / 2
            sigma = (0.5 * (share * large + (1 - share) * small)).exp()
            return mean + sigma * _draw(noise, mean)
        return mean + math.exp(0.5 * (small if self.variance == "fixed_small" else large)) * _draw(
            noise, mean
        )


def _posterior_variance(schedule: Schedule, t: int, t_next: int) -> float:
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    return (1 - a_next) / (1 - a) * (1 - a / a_next)


@dataclass(frozen=True)
class TimeTravel:
    """Takes every step between ``from_t`` and ``to_t`` again ``repeats`` times, from x_t made anew by adding noise to its end.

    What guidance pushed off the images' manifold comes back to it (RePaint, Lugmayr et al. 2022; FreeDoM, Yu et al. 2023).
    Its noise is its own, so that all other steps see the same numbers as without it. What a solver remembers of earlier
    steps is not used in the repetitions.
    """

    inner: Solver
    noise: ImageNoise
    repeats: int
    from_t: int = 800
    to_t: int = 300

    def start(self) -> TimeTravel:
        """The inner solver without its memory."""
        return replace(self, inner=self.inner.start())

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, look: Look
    ) -> Tensor:
        """x_{t_next}, from the last repetition."""
        x = self.inner.advance(step, schedule, noise, look)
        if not self.to_t <= step.t <= self.from_t:
            return x
        kept = schedule.alpha_bar(step.t) / schedule.alpha_bar(step.t_next)
        for _ in range(self.repeats):
            x = math.sqrt(kept) * x + math.sqrt(1 - kept) * self.noise.like(x)
            again = replace(look(x, step.t), t_next=step.t_next)
            x = self.inner.start().advance(again, schedule, self.noise, look)
        return x


def predict_x0(x: Tensor, eps: Tensor, a: float) -> Tensor:
    """The clean image that x and eps imply: (x - sqrt(1-a) eps) / sqrt(a)."""
    return (x - math.sqrt(1 - a) * eps) / math.sqrt(a)


def sample(
    eps_fn: EpsFn,
    x: Tensor,
    pairs: Sequence[Pair],
    schedule: Schedule,
    *,
    solver: Solver | None = None,
    noise: ImageNoise | None = None,
    clip_x0: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """Carry x through the pairs. Gradients flow if they are on.

    Args:
        eps_fn: the denoiser, possibly wrapped by guidance or a mixture.
        x: [N,C,H,W] at the first pair's t.
        pairs: explicit (t, t_next), from ``schedule.pairs_up`` or ``pairs_down``.
        solver: DDIM(eta=0) unless given.
        noise: per-image generators; needed by stochastic solvers.
        clip_x0: clamp the predicted x0 to [-1, 1] (from noise: yes; inverting or reconstructing: never).
        on_step: called with every step, e.g. to record x0.

    Returns:
        [N,C,H,W] at the last pair's t_next (upward, a solver of ``TwoStates`` returns both).
    """
    solver = (solver or DDIM()).start()
    if isinstance(solver, TwoStates):
        x = solver.open(x)
    look = Looking(eps_fn, schedule, clip_x0)
    for t, t_next in pairs:
        known = solver.recall(x, t, schedule) if isinstance(solver, Recalls) else None
        step = replace(known or look(x, t), t_next=t_next)
        x = solver.advance(step, schedule, noise, look)
        if on_step is not None:
            on_step(step)
    return solver.close(x) if isinstance(solver, TwoStates) else x


@dataclass(frozen=True)
class Looking:
    """Evaluates the denoiser: eps and the predicted x0 at (x, t). The clean image (t = -1) is seen as at t = 0."""

    eps_fn: EpsFn
    schedule: Schedule
    clip_x0: bool = False

    def __call__(self, x: Tensor, t: int) -> Step:
        """One network call."""
        out = self.eps_fn(x, torch.full((len(x),), max(t, 0), device=x.device, dtype=torch.long))
        eps, fraction = out if isinstance(out, tuple) else (out, None)
        a = self.schedule.alpha_bar(t)
        x0 = predict_x0(x, eps, a)
        if self.clip_x0 and t != CLEAN:
            x0 = x0.clamp(-1, 1)
            eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        return Step(t, t, x, eps, x0, fraction)
