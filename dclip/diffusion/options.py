"""The options of ``sampler=``: how the sampling ODE (or SDE) is followed. Imports nothing heavy.

An option knows its settings, its costs, and its step rule (:class:`~dclip.diffusion.sampler.Solver`)
in both directions. ``docs/extend.md`` adds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from dclip.config import OPTIONS, FinalStep, Grid, SamplerOption, option, option_name
from dclip.config.options import check_not_negative, check_positive
from dclip.errors import DclipError, need

if TYPE_CHECKING:
    from dclip.diffusion.sampler import Solver
    from dclip.diffusion.timesteps import Pair


@dataclass
class Sampler(SamplerOption):
    """What every sampler is. Subclass it, and write ``rule``."""

    def rule(self, upward: bool) -> Solver:
        """The step rule of inversion (``upward``) or generation."""
        raise NotImplementedError

    def without_noise(self) -> Sampler:
        """The sampler that takes the same steps and adds no noise; itself where none does.

        Translation denoises with it (DiffusionCLIP, Algorithm 4): the edit's noise is the edit's.
        """
        if not self.is_random:
            return self
        return Ddim(self.t0, self.s_for, self.s_gen, self.final_step, self.grid, self.encode)


@option("sampler", "ddim")
@dataclass
class Ddim(Sampler):
    """DDIM (Song et al. 2021); deterministic with ``eta=0``."""

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("sampler", eta=self.eta)
        need(
            self.eta <= 1,
            f"sampler.eta={self.eta:g} is too large; choose 0 (no noise) to 1 (DDPM's)",
        )

    @property
    def is_random(self) -> bool:
        """With ``eta`` above 0."""
        return self.eta > 0

    def without_noise(self) -> Sampler:
        """``eta`` 0, and all else as it is."""
        return replace(self, eta=0.0)

    def rule(self, upward: bool) -> Solver:
        """Upward without noise."""
        from dclip.diffusion.sampler import DDIM

        return DDIM(0.0 if upward else self.eta)


class Variance(StrEnum):
    """Variance of the noise that ancestral sampling adds."""

    checkpoint = "checkpoint"  # what the checkpoint was made for
    fixed_small = "fixed_small"
    fixed_large = "fixed_large"


@option("sampler", "ddpm")
@dataclass
class Ddpm(Sampler):
    """Ancestral sampling that honours the stride of its timesteps; inversion stays DDIM.

    ``noise_last``: noise on the step to the clean image too, as the CLIP-guided sampling report's
    code has it.
    """

    variance: Variance = Variance.checkpoint
    noise_last: bool = False

    @property
    def is_random(self) -> bool:
        """Always."""
        return True

    def rule(self, upward: bool) -> Solver:
        """DDIM upward."""
        from dclip.diffusion.sampler import DDIM, DDPM

        return DDIM() if upward else DDPM(self.variance.value, self.noise_last)


@option("sampler", "ab2")
@dataclass
class Ab2(Sampler):
    """Adams-Bashforth of second order: DDIM's cost, and an error that falls with steps squared."""

    def inversion_calls(self) -> int:
        """The first step is Heun's, one call more."""
        return self.steps_up + 1

    def generation_calls(self) -> int:
        """The first step is Heun's, one call more."""
        return self.steps_down + 1

    def step_calls(self, to_clean: bool) -> int:
        """As of the first step."""
        return 1 if to_clean else 2

    def rule(self, upward: bool) -> Solver:
        """The same both ways."""
        from dclip.diffusion.solvers import AB2

        return AB2()


@option("sampler", "heun")
@dataclass
class Heun(Sampler):
    """Heun's method: second order from the first step, two network calls a step."""

    calls_per_step: ClassVar[int] = 2

    def generation_calls(self) -> int:
        """The step to the clean image, where there is no noise to see, is Euler's: one call less."""
        calls = super().generation_calls()
        return calls - 1 if self.final_step is FinalStep.to_clean else calls

    def step_calls(self, to_clean: bool) -> int:
        """One into the clean image."""
        return 1 if to_clean else 2

    def rule(self, upward: bool) -> Solver:
        """The same both ways."""
        from dclip.diffusion.solvers import HeunSolver

        return HeunSolver()


@option("sampler", "dpmpp_2m")
@dataclass
class DpmPp2M(Sampler):
    """DPM-Solver++ 2M: second order on the predicted x0."""

    def rule(self, upward: bool) -> Solver:
        """The same both ways."""
        from dclip.diffusion.solvers import DPMPP2M

        return DPMPP2M()


@option("sampler", "fixed_point")
@dataclass
class FixedPoint(Ddim):
    """DDIM generation; inversion solves its own ``s_gen`` steps: few steps reconstruct well.

    Attributes:
        sweeps: network calls of an inversion step, at most.
        tolerance: an image is done when it would move by less (root mean square).
        damping: share of each new value that is taken.
        accelerate: extrapolate from two iterations.
    """

    mirrored: ClassVar[bool] = True

    sweeps: int = 6
    tolerance: float = 3e-3
    damping: float = 1.0
    accelerate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            "sampler", sweeps=self.sweeps, tolerance=self.tolerance, damping=self.damping
        )
        need(self.damping <= 1, f"sampler.damping={self.damping} must be at most 1 (no damping)")

    def inversion_calls(self) -> int:
        """All sweeps of every step, and the first slope."""
        return self.sweeps * self.steps_up + 1

    def rule(self, upward: bool) -> Solver:
        """Fixed-point iterations upward, DDIM downward."""
        from dclip.diffusion.solvers import FixedPointSolver

        if not upward:
            return super().rule(upward)
        return FixedPointSolver(self.sweeps, self.tolerance, self.damping, self.accelerate)


@option("sampler", "belm")
@dataclass
class Belm(Sampler):
    """O-BELM, exactly reversible: reconstructs to rounding in ``s_gen`` steps. For research."""

    mirrored: ClassVar[bool] = True
    two_states: ClassVar[bool] = True

    s_gen: int = 20
    grid: Grid = Grid.rho

    def inversion_calls(self) -> int:
        """The first step, from a single state, is Heun's: one call more."""
        return self.steps_up + 1

    def rule(self, upward: bool) -> Solver:
        """The same both ways."""
        from dclip.diffusion.solvers import BELM

        return BELM()


def sampler_named(name: str) -> type[Sampler]:
    """The option of that name. DclipError where there is none."""
    option = OPTIONS["sampler"].get(name)
    if option is None or not issubclass(option, Sampler):
        raise DclipError(
            f"sampler={name} is not here; known: {', '.join(OPTIONS['sampler'])} "
            "(was it a plug-in? give plugins=...)"
        )
    return option


def written_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A sampler's settings as a file has them, its name as ``solver``, without those that mean nothing.

    Files of older versions hold the settings of all samplers, whichever was chosen.
    """
    option = OPTIONS["sampler"].get(settings.get("solver", ""))
    if option is None or not issubclass(option, Sampler):
        return dict(settings)
    own = {"solver", *(field.name for field in fields(option))}
    return {key: value for key, value in settings.items() if key in own}


def without_noise(options: SamplerOption) -> Sampler:
    """The same steps without noise."""
    return _sampler(options).without_noise()


def inverter_of(options: SamplerOption) -> Solver:
    """The step rule upward."""
    return _sampler(options).rule(upward=True)


def solver_of(options: SamplerOption, variance: str = "fixed_small") -> Solver:
    """The step rule downward, for a network of this ``variance``."""
    return _sampler(options).rule(upward=False).for_variance(variance)


def _sampler(options: SamplerOption) -> Sampler:
    if not isinstance(options, Sampler):
        name = option_name("sampler", options)
        raise DclipError(f"sampler={name} has no step rule; subclass dclip.extend.Sampler")
    return options


def pairs_of(options: SamplerOption) -> tuple[list[Pair], list[Pair]]:
    """Timesteps: (inversion pairs, generation pairs)."""
    from dclip.diffusion.timesteps import mirrored, pairs_down, pairs_up

    down = pairs_down(options.t0, options.s_gen, options.final_step, options.grid)
    if options.mirrored:
        return mirrored(down), down
    return pairs_up(options.t0, options.s_for, options.grid), down
