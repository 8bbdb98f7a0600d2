"""Guidance of sampling: what every option of ``guidance=`` has.

The options lie in :mod:`dclip.methods.sampling.guidances`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from dclip.config.options import TEMPLATES, check_not_negative, check_positive, option
from dclip.errors import choose, need

# ---------------------------------------------------------------------------------------------------- guidance

LARGEST = 1e6  # weight: far above it, lengths of gradients are no numbers of 32 bits any more


class Sees(StrEnum):
    """What CLIP looks at while it guides."""

    x_t = "x_t"  # the noisy image itself, as published
    x0 = "x0"  # the predicted clean image; the gradient does not pass through the U-Net
    x0_through_unet = "x0_through_unet"  # the same, and it does: about three times the time
    blend = "blend"  # sqrt(1-a) x0 + (1 - sqrt(1-a)) x_t: the cleaner the image, the more of the image itself


class ClipRange(StrEnum):
    """How pixels reach CLIP."""

    unit = "unit"  # [-1, 1] is mapped to [0, 1], which CLIP expects
    raw = "raw"  # it is not: the published defect


class Normalise(StrEnum):
    """How long the step is that guidance takes."""

    none = "none"  # scale * sqrt(1-a) * gradient, as published
    eps = "eps"  # always scale * |eps|, along the gradient
    bounded = "bounded"  # always scale * sqrt(a) (root mean square): at most ``scale`` in eps and in the predicted x0
    cap = "cap"  # as published, but at most ``cap`` * |eps|


@option("guidance", "none")
@dataclass
class Guidance:
    """No guidance while sampling; texts that are given are only measured.

    ``targets``: one text or a list (unset: the edit's target); ``distractors``: ``siblings`` (the other values of the
    ToonFaces attributes that a target names), ``cifar10`` (its other classes), ``source`` (the edit's), or a list of texts.
    """

    needs_distractors: ClassVar[bool] = False
    needs_direction: ClassVar[bool] = False

    targets: Any = None
    weights: list[float] = field(default_factory=list)
    distractors: Any = "siblings"
    templates: str = "none"

    def __post_init__(self) -> None:
        check_not_negative("guidance", **{f"weights[{i}]": w for i, w in enumerate(self.weights)})
        need(
            not self.weights or sum(self.weights) > 0,
            "guidance.weights are all 0; give at least one target a weight",
        )
        need(
            self.templates in TEMPLATES,
            f"guidance.templates={self.templates} does not exist{choose(self.templates, TEMPLATES)}",
        )


@dataclass
class Guided(Guidance):
    """What every guidance can be told; ``scale`` 0 is no guidance at all."""

    scale: float = 0.3
    temperature: float | None = (
        None  # of the softmax over prompts; unset: what CLIP was trained with
    )
    sees: Sees = Sees.x0
    clip_range: ClipRange = ClipRange.unit
    clips: list[str] = field(default_factory=list)  # several CLIPs guide together; empty: clip.name
    cutouts: int = 0  # random squares that CLIP sees instead of the whole image; 0: the whole image
    cut_min: float = 0.75  # their side, as a share of the image's
    cut_max: float = 1.0
    noise: float = 0.0  # standard deviation of noise on what CLIP sees
    flip: bool = True  # turn what CLIP sees round at random
    normalise: Normalise = Normalise.bounded
    cap: float = 0.5
    t_start: int = 999  # guided from here
    t_end: int = (
        200  # down to here; to the end (0) more samples show the prompt, but faces are painted over
    )
    every: int = 1  # the gradient is computed every k-th step, and used again in between
    # how often a guided step is taken again, from its end noised anew (FreeDoM's r is one more)
    time_travel: int = 0
    travel_start: int = 800  # steps that begin between these timesteps
    travel_end: int = 300
    range: float = 0.0  # weight of keeping the predicted x0 in [-1, 1]
    tv: float = 0.0  # weight of keeping it smooth

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("scale", "noise", "time_travel", "range", "tv", "cutouts", "cap")
        check_not_negative("guidance", **{name: getattr(self, name) for name in names})
        for name in ("scale", "range", "tv"):
            value = getattr(self, name)
            need(
                value <= LARGEST,
                f"guidance.{name}={value:g} is too large to compute with; choose 0 to {LARGEST:,.0f}",
            )
        check_positive(
            "guidance",
            every=self.every,
            **({} if self.temperature is None else {"temperature": self.temperature}),
        )
        need(
            0 < self.cut_min <= self.cut_max <= 1,
            f"guidance.cut_min={self.cut_min} and guidance.cut_max={self.cut_max} are shares of the image's side; "
            "choose 0 < cut_min <= cut_max <= 1",
        )
        for start, end in (("t_start", "t_end"), ("travel_start", "travel_end")):
            a, b = getattr(self, start), getattr(self, end)
            need(
                0 <= b <= a <= 999,
                f"guidance.{start}={a} to guidance.{end}={b} is no interval; choose 999 >= {start} >= {end} >= 0",
            )

    @property
    def travels(self) -> tuple[int, int]:
        """Between which timesteps, falling, a step begins that is taken again: guided ones only."""
        return min(self.travel_start, self.t_start), max(self.travel_end, self.t_end)

    def repeats(self, t: int) -> int:
        """How often the step that begins at ``t`` is taken again."""
        start, end = self.travels
        return self.time_travel if self.scale > 0 and end <= t <= start else 0
