"""How latents become images and back: the options of ``sampler=``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import check_not_negative, check_positive, option
from dclip.errors import need

# ---------------------------------------------------------------------------------------------------- diffusion


class FinalStep(StrEnum):
    """Where generation ends. The papers' code takes one more step than the paper prints."""

    to_clean = "to_clean"  # published code: ..., (tau_1 = 0 -> -1); the result is the predicted x0
    to_t0 = "to_t0"  # paper, Algorithms 3-5: stops at tau_1 = 0, the exact mirror of the inversion


class Grid(StrEnum):
    """How timesteps are spread between 0 and t0."""

    uniform = "uniform"  # in t, as published
    quadratic = "quadratic"  # in the square root of t
    log_snr = "log_snr"  # in the logarithm of the signal-to-noise ratio
    rho = "rho"  # in sqrt((1 - alpha_bar) / alpha_bar)


class Solver(StrEnum):
    """How the sampling ODE (or SDE) is followed."""

    ddim = "ddim"
    ddpm = "ddpm"
    ab2 = "ab2"
    heun = "heun"
    dpmpp_2m = "dpmpp_2m"
    fixed_point = "fixed_point"
    belm = "belm"


class Encode(StrEnum):
    """How an image becomes a latent at t0."""

    invert = "invert"  # deterministic DDIM inversion: keeps the image
    stochastic = "stochastic"  # closed-form noise, no network call: keeps the less, the higher t0 (Eff-Diff, SDEdit)


class Variance(StrEnum):
    """Variance of the noise that ancestral sampling adds."""

    checkpoint = "checkpoint"  # what the checkpoint was made for
    fixed_small = "fixed_small"
    fixed_large = "fixed_large"


@dataclass
class Sampler:
    """Timesteps: encode up to ``t0`` (inversion: in ``s_for`` steps), generate in ``s_gen``; both on one kind of ``grid``."""

    solver: Solver = Solver.ddim
    t0: int = 500
    s_for: int = 40
    s_gen: int = 6
    eta: float = 0.0
    final_step: FinalStep = FinalStep.to_clean
    grid: Grid = Grid.uniform
    sweeps: int = 6  # fixed_point: network calls a step at most
    tolerance: float = (
        3e-3  # fixed_point: an image is done when it would move by less (root mean square)
    )
    damping: float = 1.0  # fixed_point: share of each new value that is taken
    accelerate: bool = True  # fixed_point: extrapolate from two iterations
    variance: Variance = Variance.checkpoint  # ddpm
    noise_last: bool = False  # ddpm: noise on the step to the clean image too, as the CLIP-guided sampling report's code has
    encode: Encode = Encode.invert

    def __post_init__(self) -> None:
        need(0 < self.t0 <= 999, f"sampler.t0={self.t0} is outside the schedule; choose 1 to 999")
        for name in ("s_for", "s_gen"):
            steps = getattr(self, name)
            need(
                2 <= steps <= self.t0 + 1,
                f"sampler.{name}={steps} is impossible with sampler.t0={self.t0}; choose 2 to {self.t0 + 1}",
            )
        check_not_negative("sampler", eta=self.eta)
        need(
            self.eta == 0 or self.solver in (Solver.ddim, Solver.fixed_point),
            f"sampler.eta={self.eta} adds noise to DDIM, but the solver is {self.solver.value}; choose sampler=ddim",
        )
        ancestral = self.solver is Solver.ddpm
        need(
            ancestral or (self.variance is Variance.checkpoint and not self.noise_last),
            f"sampler.variance={self.variance.value} and sampler.noise_last={self.noise_last} are for sampler=ddpm, "
            f"but the solver is {self.solver.value}",
        )
        check_positive(
            "sampler", sweeps=self.sweeps, tolerance=self.tolerance, damping=self.damping
        )
        need(self.damping <= 1, f"sampler.damping={self.damping} must be at most 1 (no damping)")


@option("sampler", "ddim")
@dataclass
class Ddim(Sampler):
    """DDIM (Song et al. 2021); deterministic with ``eta=0``."""


@option("sampler", "ddpm")
@dataclass
class Ddpm(Sampler):
    """Ancestral sampling that honours the stride of its timesteps; inversion stays DDIM."""

    solver: Solver = Solver.ddpm


@option("sampler", "ab2")
@dataclass
class Ab2(Sampler):
    """Adams-Bashforth of second order, up and down: DDIM's cost, and an error that falls with the square of the steps."""

    solver: Solver = Solver.ab2


@option("sampler", "heun")
@dataclass
class Heun(Sampler):
    """Heun's method, up and down: second order from the first step, two network calls a step."""

    solver: Solver = Solver.heun


@option("sampler", "dpmpp_2m")
@dataclass
class DpmPp2M(Sampler):
    """DPM-Solver++ 2M, up and down: second order on the predicted x0."""

    solver: Solver = Solver.dpmpp_2m


@option("sampler", "fixed_point")
@dataclass
class FixedPoint(Sampler):
    """DDIM generation; inversion solves its own ``s_gen`` steps (``s_for`` is not used): few steps reconstruct well."""

    solver: Solver = Solver.fixed_point


@option("sampler", "belm")
@dataclass
class Belm(Sampler):
    """O-BELM, exactly reversible: reconstructs to rounding in ``s_gen`` steps (``s_for`` is not used). For research."""

    solver: Solver = Solver.belm
    s_gen: int = 20
    grid: Grid = Grid.rho
