"""Better quadratures of the sampling ODE than DDIM, upward (inversion) and downward (generation).

With y = x / sqrt(a) and rho = sqrt((1 - a) / a) the deterministic process is dy = eps d rho, and
DDIM is Euler's method.

=========  ============  ==================================================================
symbol     code          meaning
=========  ============  ==================================================================
h          ``h``         rho(t_next) - rho(t): the step
r          ``r``         this step over the one before
lambda     ``lam``       log(sqrt(a) / sqrt(1 - a)), half the logarithm of the signal-to-noise ratio
=========  ============  ==================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDIM, Evaluate, Evaluation, Solver, Step, predict_x0
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import CLEAN


def rho(schedule: Schedule, t: int) -> float:
    """sqrt((1 - a) / a); 0 at the clean image."""
    a = schedule.alpha_bar(t)
    return math.sqrt((1 - a) / a)


def euler(step: Step, eps: Tensor, schedule: Schedule) -> Tensor:
    """x at t_next along a given slope eps: sqrt(a') (x / sqrt(a) + (rho' - rho) eps)."""
    _check_one_noise(step)
    a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
    drift = math.sqrt(a_next) * (rho(schedule, step.t_next) - rho(schedule, step.t))
    return math.sqrt(a_next / a) * step.x + drift * eps


def _check_one_noise(step: Step) -> None:
    """ValueError for an asymmetric prediction: it has no ODE that could be followed."""
    if step.asymmetric:
        raise ValueError(
            "this denoiser predicts x0 from another noise than eps, which only the steps of DDIM "
            "and DDPM allow; choose sampler=ddim or sampler=ddpm"
        )


def _mean_slope(step: Step, schedule: Schedule, evaluate: Evaluate) -> Tensor:
    """The mean of the slopes at both ends; into the clean image, where no noise is left, Euler's."""
    if step.t_next == CLEAN:
        return step.eps
    guess = euler(step, step.eps, schedule)
    return (step.eps + evaluate(guess, step.t_next).eps) / 2


def _step_sizes(step: Step, before: Step, schedule: Schedule) -> tuple[float, float]:
    """The step in rho, and its ratio to the one before."""
    h = rho(schedule, step.t_next) - rho(schedule, step.t)
    h_before = rho(schedule, before.t_next) - rho(schedule, before.t)
    return h, h / h_before


@dataclass(frozen=True)
class HeunSolver(Solver):
    """Heun's method (trapezoidal predictor-corrector, second order): two network calls a step."""

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """y' = y + h (eps + eps') / 2."""
        return euler(step, _mean_slope(step, schedule, evaluate), schedule)


@dataclass
class AB2(Solver):
    """Adams-Bashforth of second order with variable steps (DEIS-2 in rho: Zhang & Chen 2023).

    One network call a step; the first step is Heun's, one call more.
    """

    _before: Step | None = field(default=None, repr=False)

    def start(self) -> Self:
        """A solver that remembers nothing yet."""
        return replace(self, _before=None)

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """y' = y + h ((1 + r / 2) eps - r / 2 eps_before)."""
        before, self._before = self._before, step
        if before is None:
            return euler(step, _mean_slope(step, schedule, evaluate), schedule)
        _, r = _step_sizes(step, before, schedule)
        return euler(step, (1 + r / 2) * step.eps - r / 2 * before.eps, schedule)


@dataclass
class DPMPP2M(Solver):
    """DPM-Solver++ 2M (Lu et al. 2022, Alg. 2): second order in lambda, on the predicted x0.

    One network call a step.
    """

    _before: Step | None = field(default=None, repr=False)

    def start(self) -> Self:
        """A solver that remembers nothing yet."""
        return replace(self, _before=None)

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """x' = s' / s x - sqrt(a') (exp(-h) - 1) D with s = sqrt(1 - a).

        D = (1 + r / 2) x0 - r / 2 x0_before, h and r in lambda.
        """
        _check_one_noise(step)
        before, self._before = self._before, step
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        if step.t_next == CLEAN:
            return step.x0
        h = _lam(a_next) - _lam(a)
        data = step.x0
        if before is not None:
            r = h / (_lam(a) - _lam(schedule.alpha_bar(before.t)))
            data = (1 + r / 2) * step.x0 - r / 2 * before.x0
        kept = math.sqrt((1 - a_next) / (1 - a))
        return kept * step.x - math.sqrt(a_next) * math.expm1(-h) * data


def _lam(a: float) -> float:
    return 0.5 * math.log(a / (1 - a))


@dataclass
class FixedPointSolver(Solver):
    """Inverts DDIM's own generation steps (implicit Euler upward); downward it is DDIM.

    A generation step from t_next to t uses eps(x', t_next); upward, x' = g(x') = f(eps(x', t_next))
    is iterated until it holds (AIDI, Pan et al. 2023; Hong et al. 2024, Alg. 1). So the latents of
    a coarse grid reconstruct on that grid. The eps of a step's last iteration begins the next step,
    which thus costs no call of its own. Each image stops by itself and is not evaluated again, so
    that a batch never changes a latent.

    Attributes:
        sweeps: iterations at most, each one network call.
        tolerance: an image has converged when g(x') differs from x' by less than this (root mean
            square).
        damping: share of each new value that is taken; below 1 for steps so large that the
            iteration swings.
        accelerate: extrapolate from two iterations to where they meet (Anderson 1965, memory 1; Pan
            et al. 2023), except after an iteration that was farther from the fixed point than the
            one before.
    """

    sweeps: int = 6
    tolerance: float = 3e-3
    damping: float = 1.0
    accelerate: bool = True
    _eps: Tensor | None = field(default=None, repr=False)  # at the end of the last step

    def start(self) -> Self:
        """A solver that remembers nothing yet."""
        return replace(self, _eps=None)

    def recall(self, x: Tensor, t: int, schedule: Schedule) -> Evaluation | None:
        """From the eps seen at (x, t) before; None at the start of the trajectory."""
        if self._eps is None:
            return None
        return Evaluation(t, x, self._eps, predict_x0(x, self._eps, schedule.alpha_bar(t)))

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """Upward: the fixed point of x' = sqrt(a') (x / sqrt(a) + h eps(x', t_next))."""
        if step.t_next < step.t:
            return DDIM().advance(step, schedule, noise, evaluate)
        x, eps = euler(step, step.eps, schedule), step.eps.clone()
        rows = torch.arange(len(x), device=x.device)  # images that still move
        now, before = x, None
        for _ in range(self.sweeps):
            slope = evaluate(now, step.t_next).eps
            new = euler(replace(step, x=step.x[rows]), slope, schedule)
            off = new - now
            x, eps = _put(x, rows, new), _put(eps, rows, slope)
            moving = _rms(off) > self.tolerance
            if not bool(moving.any()):
                break
            now = target = now + self.damping * off
            if before is not None:
                now = _meeting(target, off, *before)
            x = _put(x, rows, now)
            if self.accelerate:
                before = target[moving], off[moving]
            rows, now = rows[moving], now[moving]
        self._eps = eps
        return x


def _put(x: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    if len(new) == len(x):
        return new
    return x.index_copy(0, rows, new).contiguous(memory_format=torch.channels_last)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean((1, 2, 3)).sqrt()


def _meeting(target: Tensor, off: Tensor, target_before: Tensor, off_before: Tensor) -> Tensor:
    """Where the secant through two iterations is at rest, image by image.

    ``target`` itself where the last iteration went astray.
    """
    change = off - off_before
    share = (off * change).sum((1, 2, 3)) / change.square().sum((1, 2, 3)).clamp_min(1e-20)
    share = torch.where(_rms(off) < _rms(off_before), share, 0.0)
    return target - share.view(-1, 1, 1, 1) * (target - target_before)


@dataclass
class BELM(Solver):
    """Exactly reversible, of second order: O-BELM (Wang et al. 2024), the explicit midpoint rule.

    The way down runs the very equations of the way up for the other unknown, so that an image comes
    back to rounding, however few the steps. For that a latent is two states [N,2,C,H,W], x at the
    end of the trajectory and x one step before it, and both ways must have the same steps. The
    first step from a single state is Heun's, one call more. What rounding leaves grows by the
    square of the last step over the first, hence a grid whose steps in rho are alike.
    """

    _before: Step | None = field(default=None, repr=False)
    # x at the end of the first step, where the latent holds it
    _second: Tensor | None = field(default=None, repr=False)

    def start(self) -> Self:
        """A solver that remembers nothing yet."""
        return replace(self, _before=None, _second=None)

    def unpack(self, latent: Tensor) -> Tensor:
        """The first of the two states; the first step leads to the second."""
        if latent.ndim == 4:
            return latent
        first, second = latent.unbind(1)
        self._second = second.contiguous(memory_format=torch.channels_last)
        return first.contiguous(memory_format=torch.channels_last)

    def pack(self, x: Tensor) -> Tensor:
        """Upward both states [N,2,C,H,W], downward the image."""
        before = self._before
        if before is None or before.t_next < before.t:
            return x
        return torch.stack([x, before.x], 1)

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """y' = r^2 y_before + (1 - r^2) y + h (1 + r) eps."""
        before, self._before = self._before, step
        if before is None and self._second is not None:
            return self._second
        if before is None:
            return euler(step, _mean_slope(step, schedule, evaluate), schedule)
        _, r = _step_sizes(step, before, schedule)
        y = step.x / math.sqrt(schedule.alpha_bar(step.t))
        y_before = before.x / math.sqrt(schedule.alpha_bar(before.t))
        back = math.sqrt(schedule.alpha_bar(step.t_next)) * r**2 * (y_before - y)
        return euler(step, (1 + r) * step.eps, schedule) + back
