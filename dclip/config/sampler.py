"""What every option of ``sampler=`` has; the options lie in :mod:`dclip.diffusion.options`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dclip.config.options import Kind
from dclip.errors import need


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

    @property
    def follows_noise(self) -> bool:
        """Whether timesteps are spread on the noise schedule, not in t."""
        return self in (Grid.log_snr, Grid.rho)


class Encode(StrEnum):
    """How an image becomes a latent at t0."""

    invert = "invert"  # deterministic inversion: keeps the image
    # closed-form noise, no network call: keeps the less, the higher t0 (Eff-Diff, SDEdit)
    stochastic = "stochastic"


@dataclass
class SamplerOption(Kind):
    """Timesteps: encode up to ``t0`` (by inversion in ``s_for`` steps), generate in ``s_gen``.

    Attributes:
        calls_per_step: network calls of one step, up or down.
        mirrored: inversion takes the steps of its generation backwards; ``s_for`` is not used.
        two_states: a latent is two states [N,2,C,H,W]; both directions need the same steps.
    """

    kind_key: ClassVar[str] = "solver"
    calls_per_step: ClassVar[int] = 1
    mirrored: ClassVar[bool] = False
    two_states: ClassVar[bool] = False

    t0: int = 500
    s_for: int = 40
    s_gen: int = 6
    final_step: FinalStep = FinalStep.to_clean
    grid: Grid = Grid.uniform
    encode: Encode = Encode.invert

    def __post_init__(self) -> None:
        need(0 < self.t0 <= 999, f"sampler.t0={self.t0} is outside the schedule; choose 1 to 999")
        for name, steps in (("s_for", self.s_for), ("s_gen", self.s_gen)):
            need(
                2 <= steps <= self.t0 + 1,
                f"sampler.{name}={steps} is impossible with sampler.t0={self.t0}; "
                f"choose 2 to {self.t0 + 1}",
            )

    @property
    def is_random(self) -> bool:
        """Whether generation adds noise, so that one latent gives many images."""
        return False

    @property
    def steps_down(self) -> int:
        """Steps of a generation."""
        return self.s_gen if self.final_step is FinalStep.to_clean else self.s_gen - 1

    @property
    def steps_up(self) -> int:
        """Steps of an inversion."""
        return self.steps_down if self.mirrored else self.s_for - 1

    def inversion_calls(self) -> int:
        """Network calls that bring one image to t0 by inversion, at most."""
        return self.calls_per_step * self.steps_up

    def generation_calls(self) -> int:
        """Network calls that bring one latent to an image."""
        return self.calls_per_step * self.steps_down

    def encoding_calls(self) -> int:
        """Network calls that bring one image to t0, at most: noise costs none."""
        return self.inversion_calls() if self.encode is Encode.invert else 0
