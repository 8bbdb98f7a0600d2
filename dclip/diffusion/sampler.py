"""One loop over (t, t_next) pairs of the schedule, upward (inversion) and downward (generation).

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
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import CLEAN, Pair


@dataclass(frozen=True)
class Prediction:
    """What a denoiser returns for x_t. All parts have the shape of x_t, [N,C,H,W].

    Attributes:
        eps: the predicted noise.
        fraction: the raw LEARNED_RANGE output in [-1, 1] of a network that predicts its variance.
        x0_eps: the noise from which x0 is predicted, where it is not ``eps`` (the asymmetric step
            of Asyrp, Kwon et al. 2023): ``eps`` then only points back to x_t.
    """

    eps: Tensor
    fraction: Tensor | None = None
    x0_eps: Tensor | None = None

    @property
    def noise_of_x0(self) -> Tensor:
        """The noise from which x0 is predicted."""
        return self.eps if self.x0_eps is None else self.x0_eps

    def shifted(self, shift: Tensor) -> Prediction:
        """The same with ``shift`` taken from the noise, as guidance does."""
        x0_eps = None if self.x0_eps is None else self.x0_eps - shift
        return replace(self, eps=self.eps - shift, x0_eps=x0_eps)

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """The same with every part changed."""
        fraction = None if self.fraction is None else change(self.fraction)
        x0_eps = None if self.x0_eps is None else change(self.x0_eps)
        return Prediction(change(self.eps), fraction, x0_eps)

    def __add__(self, other: Prediction) -> Prediction:
        """The sum, part by part; without a variance unless both predict one."""
        fraction = x0_eps = None
        if self.fraction is not None and other.fraction is not None:
            fraction = self.fraction + other.fraction
        if self.x0_eps is not None or other.x0_eps is not None:
            x0_eps = self.noise_of_x0 + other.noise_of_x0
        return Prediction(self.eps + other.eps, fraction, x0_eps)


# A denoiser: eps_fn(x_t [N,C,H,W], t int64 [N])
EpsFn = Callable[[Tensor, Tensor], Prediction]


@dataclass(frozen=True)
class Evaluation:
    """What a denoiser says at (x, t). ``asymmetric``: x0 is predicted from another noise than eps."""

    t: int
    x: Tensor
    eps: Tensor
    x0: Tensor
    fraction: Tensor | None = None
    asymmetric: bool = False

    def toward(self, t_next: int) -> Step:
        """The step from here to ``t_next``."""
        return Step(
            self.t, self.x, self.eps, self.x0, self.fraction, self.asymmetric, t_next=t_next
        )


@dataclass(frozen=True)
class Step(Evaluation):
    """An evaluation, and where to go from there."""

    t_next: int = field(kw_only=True)


Evaluate = Callable[[Tensor, int], Evaluation]  # asks the denoiser at (x, t)


class Solver:
    """Turns one step into x at t_next. Only :meth:`advance` must be written.

    A solver that remembers earlier steps returns a fresh copy of itself from :meth:`start`, so
    that one trajectory knows nothing of another.
    """

    def start(self) -> Self:
        """The solver of one trajectory."""
        return self

    def for_variance(self, variance: str) -> Solver:
        """The solver for a network of this kind of variance (``ModelInfo.variance``)."""
        return self

    def unpack(self, latent: Tensor) -> Tensor:
        """x [N,C,H,W] at the start, from what the trajectory starts from."""
        return latent

    def recall(self, x: Tensor, t: int, schedule: Schedule) -> Evaluation | None:
        """What is known at (x, t) from earlier steps. None: the denoiser has to be asked."""
        return None

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """x at ``step.t_next``, [N,C,H,W]. ``evaluate`` asks the denoiser once more."""
        raise NotImplementedError

    def pack(self, x: Tensor) -> Tensor:
        """What the trajectory returns for x [N,C,H,W] at its end."""
        return x


def _draw(noise: ImageNoise | None, x: Tensor) -> Tensor:
    if noise is None:
        raise ValueError("stochastic sampling needs noise: pass noise=ImageNoise(ids, seed)")
    return noise.like(x)


@dataclass(frozen=True)
class DDIM(Solver):
    """DDIM (Song et al. 2021, Eq. 12). Deterministic with eta = 0, and only then upward too."""

    eta: float = 0.0

    def advance(
        self,
        step: Step,
        schedule: Schedule,
        noise: ImageNoise | None,
        evaluate: Evaluate | None = None,
    ) -> Tensor:
        """x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma z."""
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        sigma = 0.0
        if self.eta:
            if step.t_next > step.t:
                raise ValueError("inversion is deterministic; use eta=0 upward")
            sigma = self.eta * math.sqrt((1 - a / a_next) * (1 - a_next) / (1 - a))
        x = math.sqrt(a_next) * step.x0 + math.sqrt(max(1 - a_next - sigma**2, 0.0)) * step.eps
        if sigma == 0:
            return x
        return x + sigma * _draw(noise, x)


@dataclass(frozen=True)
class DDPM(Solver):
    """Ancestral sampling (Ho et al. 2020, Eq. 6-7) of any sub-sequence of timesteps.

    beta is the variance of the noise between t_next and t. ``variance``: ``fixed_small`` (that of
    the posterior), ``fixed_large`` (beta), ``learned_range`` (Nichol & Dhariwal 2021, Eq. 15: the
    network's fraction interpolates between the logarithms of both) or ``checkpoint`` (the
    network's own, see :meth:`for_variance`). The last step, to the clean
    image, adds no noise unless ``noise_last``: then with the variance that the published code has
    there, the posterior's one index up (fixed_large).
    """

    variance: str = "fixed_small"
    noise_last: bool = False

    def for_variance(self, variance: str) -> DDPM:
        """``checkpoint`` becomes the network's own variance."""
        return replace(self, variance=variance) if self.variance == "checkpoint" else self

    def advance(
        self,
        step: Step,
        schedule: Schedule,
        noise: ImageNoise | None,
        evaluate: Evaluate | None = None,
    ) -> Tensor:
        """mean + sigma z with mean = sqrt(a') beta / (1-a) x0 + sqrt(a/a') (1-a') / (1-a) x."""
        if step.t_next > step.t:
            raise ValueError("ancestral sampling only goes down; invert with DDIM")
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        ratio = a / a_next
        of_x0 = math.sqrt(a_next) * (1 - ratio) / (1 - a)
        of_x = math.sqrt(ratio) * (1 - a_next) / (1 - a)
        mean = of_x0 * step.x0 + of_x * step.x
        if step.t_next == CLEAN and not self.noise_last:
            return mean
        return mean + self._sigma(step, schedule) * _draw(noise, mean)

    def _sigma(self, step: Step, schedule: Schedule) -> Tensor | float:
        """Standard deviation of the noise that the step adds."""
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        beta = 1 - a / a_next
        if step.t_next == CLEAN:
            beta = _posterior_variance(schedule, step.t + 1, step.t)
        small = math.log(max((1 - a_next) / (1 - a) * beta, 1e-20))
        large = math.log(beta)
        if self.variance == "fixed_small":
            return math.exp(0.5 * small)
        if self.variance == "fixed_large":
            return math.exp(0.5 * large)
        if step.fraction is None:
            raise ValueError("learned_range variance needs a network that predicts it")
        share = (step.fraction + 1) / 2
        return (0.5 * (share * large + (1 - share) * small)).exp()


def _posterior_variance(schedule: Schedule, t: int, t_next: int) -> float:
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    return (1 - a_next) / (1 - a) * (1 - a / a_next)


@dataclass
class TimeTravel(Solver):
    """Repeats every step between ``from_t`` and ``to_t``, from x_t made anew by noising its end.

        x_t = sqrt(a / a') x_t' + sqrt(1 - a / a') n,     the forward process' q(x_t | x_t')

    What guidance pushed off the manifold of images comes back to it (FreeDoM, Yu et al., ICCV 2023,
    after RePaint, Lugmayr et al., CVPR 2022, Alg. 1). Its noise is its own, so that all other steps
    see the same numbers as without it. A repetition remembers no step before it; the step after it
    remembers the last repetition.
    """

    inner: Solver
    noise: ImageNoise
    repeats: int
    from_t: int = 800
    to_t: int = 300

    def start(self) -> Self:
        """The inner solver without its memory."""
        return replace(self, inner=self.inner.start())

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """x at ``step.t_next``, from the last repetition."""
        x = self.inner.advance(step, schedule, noise, evaluate)
        if not self.to_t <= step.t <= self.from_t:
            return x
        kept = schedule.alpha_bar(step.t) / schedule.alpha_bar(step.t_next)
        for _ in range(self.repeats):
            x = math.sqrt(kept) * x + math.sqrt(1 - kept) * self.noise.like(x)
            again = evaluate(x, step.t).toward(step.t_next)
            self.inner = self.inner.start()
            x = self.inner.advance(again, schedule, self.noise, evaluate)
        return x


def predict_x0(x: Tensor, eps: Tensor, a: float) -> Tensor:
    """The clean image that x and eps imply: (x - sqrt(1-a) eps) / sqrt(a)."""
    return (x - math.sqrt(1 - a) * eps) / math.sqrt(a)


@dataclass(frozen=True)
class Evaluator:
    """Asks the denoiser for eps and the predicted x0 at (x, t): one network call.

    The clean image (t = -1) is seen as at t = 0. ``clip_x0`` clamps x0 to [-1, 1].
    """

    eps_fn: EpsFn
    schedule: Schedule
    clip_x0: bool = False

    def __call__(self, x: Tensor, t: int) -> Evaluation:
        """What the denoiser says there."""
        times = torch.full((len(x),), max(t, 0), device=x.device, dtype=torch.long)
        prediction = self.eps_fn(x, times)
        a, eps = self.schedule.alpha_bar(t), prediction.eps
        asymmetric = prediction.x0_eps is not None
        x0 = predict_x0(x, prediction.noise_of_x0, a)
        if self.clip_x0 and t != CLEAN:
            x0 = x0.clamp(-1, 1)
            if not asymmetric:
                eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        return Evaluation(t, x, eps, x0, prediction.fraction, asymmetric)


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
        pairs: explicit (t, t_next), from ``timesteps.pairs_up`` or ``pairs_down``.
        solver: DDIM(eta=0) unless given.
        noise: per-image generators; needed by stochastic solvers.
        clip_x0: clamp the predicted x0 to [-1, 1]; for sampling from noise, never for inversion.
        on_step: called with every step, e.g. to record x0.

    Returns:
        [N,C,H,W] at the last pair's t_next; upward, a solver of two states returns [N,2,C,H,W].
    """
    solver = (solver or DDIM()).start()
    x = solver.unpack(x)
    evaluate = Evaluator(eps_fn, schedule, clip_x0)
    for t, t_next in pairs:
        here = solver.recall(x, t, schedule)
        if here is None:
            here = evaluate(x, t)
        step = here.toward(t_next)
        x = solver.advance(step, schedule, noise, evaluate)
        if on_step is not None:
            on_step(step)
    return solver.pack(x)
