"""What is measured: ``metric``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from dclip.config.options import check_given, check_not_negative, check_positive, option
from dclip.errors import need


class ParserName(StrEnum):
    """Which network finds the parts of an image, for SC."""

    # bisenet for faces, ade20k for scenes, none for other photographs; ToonFaces have their judge
    auto = "auto"
    bisenet = "bisenet"
    ade20k = "ade20k"
    none = "none"


class Features(StrEnum):
    """The network whose features KID and FID compare."""

    # ToonFaces: their judge; else Inception, as both are defined
    auto = "auto"
    # the CLIP that only scores (clip.heldout): for small pictures, or where Inception is missing
    heldout = "heldout"


@option("metric", "default")
@dataclass
class Metrics:
    """Which families of metrics are computed; each is absent with its reason where it cannot be."""

    # S_dir, and how probable the target is among its distractors
    clip: bool = True
    identity: bool = True
    pixels: bool = True
    lpips: bool = True
    # KID, and FID of samples
    kid: bool = True
    # what the judge of ToonFaces sees
    judge: bool = True
    parser: ParserName = ParserName.auto
    # images a KID subset
    kid_subset: int = 50
    # how many KID subsets are averaged
    kid_subsets: int = 100
    # of samples from noise: subset sizes, each a number of its own
    kid_sizes: list[int] = field(default_factory=lambda: [10, 50, 100])
    # whose features KID and FID compare
    features: Features = Features.auto
    # of samples from noise: how many true pictures they are compared with
    reference: int = 200
    # draws behind a confidence interval; 0 leaves it out
    bootstrap: int = 500
    # images of which composition (edits of degree 0, one after another: 10 times the work of an
    # edit) and reversibility are measured; 0: none
    axioms: int = 0
    # where edits may act, to score the background outside: a picture for all images (white: may
    # change, grey: in part), or a folder with one of each image's name
    region: str | None = None

    # whether metrics of plug-ins are measured
    plugins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            "metric",
            kid_subset=self.kid_subset,
            kid_subsets=self.kid_subsets,
            reference=self.reference,
        )
        check_given("metric", region=self.region)
        check_not_negative("metric", bootstrap=self.bootstrap, axioms=self.axioms)
        need(
            all(size > 1 for size in self.kid_sizes),
            f"metric.kid_sizes={list(self.kid_sizes)} must each be 2 or more",
        )

    def switches(self) -> dict[str, bool]:
        """What is switched on, by the name of the setting; the empty name is that of plug-ins."""
        return {
            "clip": self.clip,
            "identity": self.identity,
            "pixels": self.pixels,
            "lpips": self.lpips,
            "kid": self.kid,
            "judge": self.judge,
            "": self.plugins,
        }


@option("metric", "none")
@dataclass
class NoMetrics(Metrics):
    """Measure nothing."""

    clip: bool = False
    identity: bool = False
    pixels: bool = False
    lpips: bool = False
    kid: bool = False
    judge: bool = False
    parser: ParserName = ParserName.none
    plugins: ClassVar[bool] = False
