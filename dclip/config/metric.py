"""What is measured: ``metric``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dclip.config.options import _positive, _weights, option
from dclip.errors import need

# ---------------------------------------------------------------------------------------------------- measuring, running


class ParserName(StrEnum):
    """Which network finds the parts of an image, for SC."""

    auto = "auto"  # bisenet for faces, ade20k for scenes, none for other photographs; ToonFaces have their judge
    bisenet = "bisenet"
    ade20k = "ade20k"
    none = "none"


class Features(StrEnum):
    """The network whose features KID and FID compare."""

    auto = "auto"  # ToonFaces: their judge; else Inception, as both are defined
    heldout = "heldout"  # the CLIP that only scores (clip.heldout): for small pictures, or where Inception is not at hand


@option("metric", "default")
@dataclass
class Metric:
    """Which families of metrics are computed; each is absent with its reason where it cannot be."""

    clip: bool = True
    identity: bool = True
    pixels: bool = True
    lpips: bool = True
    kid: bool = True
    judge: bool = True
    parser: ParserName = ParserName.auto
    kid_subset: int = 50
    kid_subsets: int = 100
    # of samples from noise:
    kid_sizes: list[int] = field(
        default_factory=lambda: [10, 50, 100]
    )  # subset sizes, each a number of its own
    features: Features = Features.auto  # of KID and FID
    reference: int = 200  # true pictures of what is asked for
    bootstrap: int = 500  # draws behind a confidence interval; 0 leaves it out

    def __post_init__(self) -> None:
        _positive(
            "metric",
            kid_subset=self.kid_subset,
            kid_subsets=self.kid_subsets,
            reference=self.reference,
        )
        _weights("metric", bootstrap=self.bootstrap)
        need(
            all(size > 1 for size in self.kid_sizes),
            f"metric.kid_sizes={list(self.kid_sizes)} must each be 2 or more",
        )


@option("metric", "none")
@dataclass
class NoMetric(Metric):
    """Measure nothing."""

    clip: bool = False
    identity: bool = False
    pixels: bool = False
    lpips: bool = False
    kid: bool = False
    judge: bool = False
    parser: ParserName = ParserName.none
