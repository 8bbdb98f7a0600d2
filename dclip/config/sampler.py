"""What every option of ``sampler=`` has; the options lie in :mod:`dclip.diffusion.options`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import ClassVar

from dclip.config.options import Kind, check_positive
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


class Carry(StrEnum):
    """How an edit carries the source along: what the original network would not give back, stays."""

    none = "none"  # it does not: the edit is generated from the source's latent
    residual = "residual"  # source + (edit - reconstruction)
    # each step gets what the source's own step lacked there (Direct Inversion, Ju et al. 2024)
    offset = "offset"
    # the same along a source noised anew at every t (Huberman-Spiegelglas et al. 2024)
    noise_maps = "noise_maps"
    flow = "flow"  # the difference of two flows (FlowEdit, Kulikov et al. 2025)
    ddcm = "ddcm"  # the same in steps to the clean image and back (InfEdit, Xu et al. 2024)

    @property
    def inverts(self) -> bool:
        """Whether it starts from the source's latent; else nothing is inverted."""
        return self not in (Carry.noise_maps, Carry.flow, Carry.ddcm)

    @property
    def own_steps(self) -> bool:
        """Whether its steps are its own, with one network call each, whatever the sampler."""
        return self in (Carry.noise_maps, Carry.ddcm)


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
    _: KW_ONLY
    carry: Carry = Carry.none  # how an edit carries the source along
    carry_weight: float = 1.0  # of the edit, with carry=noise_maps (TurboEdit: 1.5)
    carry_noises: int = 1  # averaged in every step of carry=flow

    def __post_init__(self) -> None:
        need(0 < self.t0 <= 999, f"sampler.t0={self.t0} is outside the schedule; choose 1 to 999")
        for name, steps in (("s_for", self.s_for), ("s_gen", self.s_gen)):
            need(
                2 <= steps <= self.t0 + 1,
                f"sampler.{name}={steps} is impossible with sampler.t0={self.t0}; "
                f"choose 2 to {self.t0 + 1}",
            )
        self._check_carry()

    def _check_carry(self) -> None:
        weight, noises, carry = self.carry_weight, self.carry_noises, self.carry
        check_positive("sampler", carry_weight=weight, carry_noises=noises)
        need(
            weight == 1 or carry is Carry.noise_maps,
            f"sampler.carry_weight={weight} is for sampler.carry=noise_maps, not {carry}; "
            "with the others gamma makes the change larger",
        )
        need(
            noises == 1 or carry is Carry.flow,
            f"sampler.carry_noises={noises} is for sampler.carry=flow, not {carry}",
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

    def step_calls(self, to_clean: bool) -> int:
        """Network calls of one step down that remembers none before it; perhaps ``to_clean``."""
        return self.calls_per_step

    def encoding_calls(self) -> int:
        """Network calls that bring one image to t0, at most: noise costs none."""
        return self.inversion_calls() if self.encode is Encode.invert else 0

    def source_calls(self) -> int:
        """Network calls before an edit can start on one image: none where nothing is inverted."""
        return self.encoding_calls() if self.carry.inverts else 0

    def edit_calls(self, networks: int) -> int:
        """Network calls that edit one image, its source's branch among them.

        Args:
            networks: that each step of the edit asks.
        """
        calls = self.steps_down if self.carry.own_steps else self.generation_calls()
        branches = networks if self.carry is Carry.none else networks + 1
        return self.carry_noises * branches * calls
