"""The options of ``guidance=``: what pulls an image towards its prompts. Imports nothing heavy.

An option knows its loss, and what the loss needs. ``docs/extend.md`` adds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dclip.config import OPTIONS, Guided, option

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.text.features import PromptFeatures


@dataclass
class ClipGuidance(Guided):
    """What every guidance is. Subclass it, and write ``loss``."""

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """The mean over images of what they lack of the k-th prompt; its gradient guides.

        Args:
            texts: features of all prompts, of what they compete with, and their directions.
            features: unit features [N,D] of the images.
            source: those of the source images, where ``needs_direction``.
        """
        raise NotImplementedError


@option("guidance", "contrastive")
@dataclass
class Contrastive(ClipGuidance):
    """log softmax of the target among its distractors (CLIP-guided sampling report, Eq. 5)."""

    needs_distractors: ClassVar[bool] = True

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.contrastive`."""
        from dclip.losses import contrastive

        return contrastive(features, texts.targets[k], texts.distractors[k], texts.temperature)


@option("guidance", "spherical")
@dataclass
class Spherical(ClipGuidance):
    """Great-circle distance to the target (Crowson)."""

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.spherical`."""
        from dclip.losses import spherical

        return spherical(features, texts.targets[k])


@option("guidance", "single")
@dataclass
class Single(ClipGuidance):
    """log sigmoid of the cosine with the target."""

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.single`."""
        from dclip.losses import single

        return single(features, texts.targets[k])


@option("guidance", "global")
@dataclass
class Global(ClipGuidance):
    """Cosine with the target (DiffusionCLIP, Eq. 9)."""

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.global_`."""
        from dclip.losses import global_

        return global_(features, texts.targets[k])


@option("guidance", "global_neg_log")
@dataclass
class GlobalNegLog(ClipGuidance):
    """The same cosine as -log((1 + cos) / 2), as DiffusionCLIP's code has it."""

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.global_`."""
        from dclip.losses import global_

        return global_(features, texts.targets[k], "neg_log")


@option("guidance", "directional")
@dataclass
class Directional(ClipGuidance):
    """Cosine of the image's change with the texts' change (Eq. 10).

    From noise, an image's source is the sample that the same noise gives without guidance.
    """

    needs_direction: ClassVar[bool] = True

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.directional`."""
        from dclip.losses import directional

        target, _ = texts.directions[k]
        return directional(features, source, target)


@option("guidance", "contrastive_directional")
@dataclass
class ContrastiveDirectional(ClipGuidance):
    """log softmax of the target's direction among its distractors' directions."""

    needs_distractors: ClassVar[bool] = True
    needs_direction: ClassVar[bool] = True

    def loss(self, texts: PromptFeatures, k: int, features: Tensor, source: Tensor) -> Tensor:
        """See :func:`dclip.losses.contrastive_directional`."""
        from dclip.losses import contrastive_directional

        target, others = texts.directions[k]
        return contrastive_directional(features, source, target, others, texts.temperature)


def guidances() -> dict[str, type[ClipGuidance]]:
    """All guidances by their name, those of plug-ins among them."""
    options = OPTIONS["guidance"].items()
    return {name: option for name, option in options if issubclass(option, ClipGuidance)}


def guidance_named(name: str) -> ClipGuidance:
    """The guidance of that name, with its default settings."""
    return guidances()[name]()
