"""Two branches: an edit goes down beside its source, so that what the source keeps, the edit keeps.

An edit that equals the original network gives the source back, with every solver and any steps.

=======  ===========  ==========================================================================
symbol   code         meaning
=======  ===========  ==========================================================================
x*_t     ``states``   the source at every t of the way down, the source itself at its end
o_t                   x*_t' - Step(x*_t, eps_0): what the source's own step lacks there
eps_0    ``original`` the original network
eps_1    ``edited``   the edit at its degree of change
rho      ``rho``      sqrt((1 - a) / a)
=======  ===========  ==========================================================================

``offset``: x*_t lie on the way of the inversion, and the edit's steps get the source's o_t (Ju et
al. 2024, Direct Inversion, with their "add target"). ``noise_maps``: the same, but x*_t are noised
in closed form, each with noise of its own, and the steps are those of eta = 1 (Huberman-Spiegelglas
et al. 2024; in the form of Deutch et al. 2024, TurboEdit, whose last step is exact too). ``flow``:
z moves along the mean of eps_1(z + rho n) - eps_0(x + rho n) (Kulikov et al. 2025, FlowEdit, in
y = x / sqrt(a)). ``ddcm``: the same difference, but every step goes to the clean image, which is
then noised anew (Xu et al. 2024, InfEdit: denoising diffusion consistent models).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Self

import torch
from torch import Tensor

from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.sampler import (
    EpsFn,
    Evaluate,
    Evaluation,
    Evaluator,
    Prediction,
    Solver,
    Step,
    sample,
)
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.solvers import rho
from dclip.diffusion.timesteps import Pair


def times_down(pairs: Sequence[Pair]) -> list[int]:
    """The timesteps of a way down: where it begins, and the end of every step."""
    return [pairs[0][0], *(t_next for _, t_next in pairs)]


@dataclass(frozen=True)
class Branches:
    """An edit, and the original network beside it, over one batch of N images.

    Attributes:
        original: the denoiser of the source's branch.
        edited: the denoiser of the edit: x holds ``copies`` rows an image, next to each other.
        solver: the step rule; ``flow`` needs one that adds no noise.
        noises: that ``flow`` averages in every step.
        two_states: whether the solver starts from the first two states.
    """

    original: EpsFn
    edited: EpsFn
    ids: Sequence[str]
    pairs: Sequence[Pair]
    schedule: Schedule
    solver: Solver
    seed: int = 0
    copies: int = 1
    noises: int = 1
    two_states: bool = False
    on_step: Callable[[Step], None] | None = None

    def noise(self, copies: int = 1, prefix: str = "") -> ImageNoise:
        """The images' random numbers, the same for all copies of an image."""
        return ImageNoise([prefix + name for name in self.ids for _ in range(copies)], self.seed)

    def rows(self, x: Tensor) -> Tensor:
        """``copies`` rows an image."""
        several = x.repeat_interleave(self.copies, 0)
        if several.ndim != 4:
            return several
        return several.contiguous(memory_format=torch.channels_last)

    def down(self, x: Tensor, eps_fn: EpsFn, solver: Solver) -> Tensor:
        """The edit's rows carried down."""
        return sample(
            eps_fn,
            x,
            self.pairs,
            self.schedule,
            solver=solver,
            noise=self.noise(self.copies),
            on_step=self.on_step,
        )


# ---------------------------------------------------------------------------- steps with offsets


@dataclass(frozen=True)
class MeanStep(Solver):
    """A step of DDIM without its noise: what edit-friendly noise maps are added to.

    Attributes:
        spread: variance of the noise, as a share of 1 - a'; None: that of eta = 1.
    """

    spread: float | None = None

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps."""
        a, a_next = schedule.alpha_bar(step.t), schedule.alpha_bar(step.t_next)
        variance = (1 - a / a_next) * (1 - a_next) / (1 - a)
        if self.spread is not None:
            variance = self.spread * (1 - a_next)
        return math.sqrt(a_next) * step.x0 + math.sqrt(max(1 - a_next - variance, 0.0)) * step.eps


MEAN_STEP = MeanStep()  # of eta = 1


@dataclass(frozen=True)
class Carrying(Solver):
    """Another solver, and after every step what the source's branch lacked there, o_t.

    Attributes:
        ends: by the t where a step begins: x*_t', and where the source's own step led, [N,C,H,W].
    """

    inner: Solver
    ends: Mapping[int, tuple[Tensor, Tensor]]

    def start(self) -> Self:
        """The inner solver's start."""
        return replace(self, inner=self.inner.start())

    def unpack(self, latent: Tensor) -> Tensor:
        """As the inner solver does."""
        return self.inner.unpack(latent)

    def recall(self, x: Tensor, t: int, schedule: Schedule) -> Evaluation | None:
        """As the inner solver does."""
        return self.inner.recall(x, t, schedule)

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """The inner solver's x', and o_t; in this order, no rounding is left where nothing differs."""
        state, made = self.ends[step.t]
        return state + (self.inner.advance(step, schedule, noise, evaluate) - made)

    def pack(self, x: Tensor) -> Tensor:
        """As the inner solver does."""
        return self.inner.pack(x)


def source_steps(
    branches: Branches, states: Tensor, latent: Tensor, solver: Solver
) -> dict[int, Tensor]:
    """Where the source's own steps lead, [N,C,H,W] by the t where the step begins.

    Step by step, though all states are known: from a batch of another size a network's numbers
    differ in the last bits, and an edit that changes nothing would leave more than nothing.

    Args:
        states: x*_t [N,S+1,C,H,W] from where the way begins to the source.
        latent: what the solver starts from, [N,C,H,W] ([N,2,C,H,W] for one with two states).
    """
    schedule, noise = branches.schedule, branches.noise()
    rule, made = solver.start(), {}
    rule.unpack(latent)
    evaluate = Evaluator(branches.original, schedule)
    for k, (t, t_next) in enumerate(branches.pairs):
        step = evaluate(_last(states[:, k]), t).toward(t_next)
        made[t] = rule.advance(step, schedule, noise, evaluate)
    return made


def carry_offset(branches: Branches, states: Tensor) -> Tensor:
    """Edited images [N*copies,C,H,W] along the inversion's own way, x*_t [N,S+1,C,H,W]."""
    latent = states[:, :2] if branches.two_states else states[:, 0]
    return _with_offsets(branches, states, latent, branches.solver)


def carry_noise_maps(
    branches: Branches,
    source: Tensor,
    rule: Solver = MEAN_STEP,
    around: Callable[[Carrying], Solver] | None = None,
) -> Tensor:
    """Edited images [N*copies,C,H,W] of sources [N,C,H,W]; nothing is inverted.

    The noises of different t are independent (unlike those of a diffusion process).

    Args:
        rule: the step of both branches, without noise.
        around: what is done beside the edit's steps, if anything.
    """
    noise, states = branches.noise(prefix="carry/"), []
    for t, _ in branches.pairs:
        a = branches.schedule.alpha_bar(t)
        states.append(add_noise(source, noise.like(source), a))
    return _with_offsets(branches, torch.stack([*states, source], 1), states[0], rule, around)


def _with_offsets(
    branches: Branches,
    states: Tensor,
    latent: Tensor,
    solver: Solver,
    around: Callable[[Carrying], Solver] | None = None,
) -> Tensor:
    made = source_steps(branches, states, latent, solver)
    ends = {}
    for k, (t, _) in enumerate(branches.pairs):
        ends[t] = branches.rows(states[:, k + 1]), branches.rows(made[t])
    carrying = Carrying(solver, ends)
    whole = carrying if around is None else around(carrying)
    return branches.down(branches.rows(latent), branches.edited, whole)


# ---------------------------------------------------------------------------------------- flows


def carry_flow(branches: Branches, source: Tensor) -> Tensor:
    """Edited images [N*copies,C,H,W] of sources [N,C,H,W]; nothing is inverted.

    ``solver`` follows dz = mean_n [eps_1(z + rho n) - eps_0(x + rho n)] d rho, where the denoisers
    are shown sqrt(a) times that; what it carries is the change, sqrt(a) (z - x).
    """
    noise = branches.noise(prefix="carry/")
    last = branches.schedule.alpha_bar(branches.pairs[-1][1])

    def difference(change: Tensor, t: Tensor) -> Prediction:
        return _mean_difference(branches, source, noise, change, t)

    several = branches.rows(source)
    change = branches.down(torch.zeros_like(several), difference, branches.solver)
    return several + change / math.sqrt(last)


def carry_ddcm(branches: Branches, source: Tensor) -> Tensor:
    """Edited images [N*copies,C,H,W] of sources [N,C,H,W]; nothing is inverted.

    Virtual inversion (Xu et al., CVPR 2024, Inversion-Free Image Editing with Natural Language). The
    noise between x_t and the source x is known, eps_c = (x_t - sqrt(a) x) / sqrt(1 - a), and what
    eps_0 misses of it is added to eps_1:

        x0^e = (x_t^e - sqrt(1 - a) (eps_1(x_t^e) + eps_c - eps_0(x_t))) / sqrt(a)
        x_t'^e = sqrt(a') x0^e + sqrt(1 - a') n,     x_t' = sqrt(a') x + sqrt(1 - a') n

    with the variance 1 - a' that makes the steps those of a consistency model. So x_t^e - x_t is
    sqrt(a) times the change c = x0^e - x, and c' = c - rho (eps_1 - eps_0): the difference of
    ``flow``, and DDIM's step that is all noise, which both branches share.

    The steps are its own; of ``branches.solver`` nothing is used.
    """
    return carry_flow(replace(branches, solver=MeanStep(spread=1.0)), source)


def _mean_difference(
    branches: Branches, source: Tensor, noise: ImageNoise, change: Tensor, t: Tensor
) -> Prediction:
    """The mean over ``noises`` of the difference of both branches, [N*copies,C,H,W]."""
    a, terms = branches.schedule.alpha_bar(int(t[0])), []
    for _ in range(branches.noises):
        noised = add_noise(source, noise.like(source), a)
        plain = branches.original(_last(noised), t[: len(noised)]).eps
        whole = branches.edited(_last(branches.rows(noised) + change), t)
        terms.append(_less(whole, branches.rows(plain)))
    total = reduce(add, terms)
    return total.map(lambda part: part / branches.noises)


def _less(whole: Prediction, plain: Tensor) -> Prediction:
    """What is predicted, without a variance and less the eps of the source's branch."""
    return replace(whole, fraction=None).map(lambda part: part - plain)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------- the way of an inversion


def states_between(
    nodes: Sequence[tuple[int, Tensor]], source: Tensor, times: Sequence[int], schedule: Schedule
) -> Tensor:
    """x*_t [N,S,C,H,W] at the timesteps of a way down, from what was seen on the way up.

    Between two nodes y = x / sqrt(a) is linear in rho, as Euler's steps (DDIM) are. The last is the
    source itself.

    Args:
        nodes: (t, x at t), t rising, the last where the way down begins.
        times: falling; none but the last below the first node.
    """
    states = []
    for t in times[:-1]:
        above = next(k for k, (known, _) in enumerate(nodes) if known >= t)
        states.append(_between(nodes[max(above - 1, 0)], nodes[above], t, schedule))
    return torch.stack([*states, source], 1)


def _between(
    low: tuple[int, Tensor], high: tuple[int, Tensor], t: int, schedule: Schedule
) -> Tensor:
    if t == high[0]:
        return high[1]
    ends = rho(schedule, low[0]), rho(schedule, high[0])
    share = (rho(schedule, t) - ends[0]) / (ends[1] - ends[0])
    y_low = low[1] / math.sqrt(schedule.alpha_bar(low[0]))
    y_high = high[1] / math.sqrt(schedule.alpha_bar(high[0]))
    return math.sqrt(schedule.alpha_bar(t)) * (y_low + share * (y_high - y_low))


def states_up(
    eps_fn: EpsFn,
    x: Tensor,
    up: Sequence[Pair],
    schedule: Schedule,
    solver: Solver,
    times: Sequence[int],
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """x*_t [N,S,C,H,W] of images x [N,C,H,W] at the ``times`` of a way down, by inversion."""
    nodes: list[tuple[int, Tensor]] = []

    def note(step: Step) -> None:
        nodes.append((step.t, step.x))
        if on_step is not None:
            on_step(step)

    end = sample(eps_fn, x, up, schedule, solver=solver, on_step=note)
    top = end if end.ndim == 4 else end[:, 0]
    return states_between([*nodes, (up[-1][1], top)], x, times, schedule)
