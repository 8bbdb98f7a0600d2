"""What images are pulled towards: a guidance's loss for all prompts, under all CLIPs that guide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dclip.methods.sampling.guidances import ClipGuidance
from dclip.text.features import PromptFeatures


@dataclass(frozen=True)
class ClipObjective:
    """One loss of all prompts (weighted mean) under all CLIPs (mean).

    Attributes:
        guidance: whose loss it is.
        readers: the prompts as each CLIP sees them.
        weights: one a prompt.
    """

    guidance: ClipGuidance
    readers: Sequence[PromptFeatures]
    weights: Sequence[float]

    @property
    def needs_source(self) -> bool:
        """Whether it compares with source images."""
        return self.guidance.needs_direction

    def features(self, images: Tensor) -> list[Tensor]:
        """Each CLIP's features [N, D] of images in [-1, 1]."""
        return [reader.clip.image_features(images) for reader in self.readers]

    def loss(self, features: Sequence[Tensor], source: Sequence[Tensor] = ()) -> Tensor:
        """Mean loss of images from their features, one tensor a CLIP.

        ``source``: those of the source images, where the guidance needs them.
        """
        total = features[0].new_zeros(())
        for i, (texts, seen) in enumerate(zip(self.readers, features, strict=True)):
            before = source[i] if source else seen
            for k, weight in enumerate(self.weights):
                total = total + weight * self.guidance.loss(texts, k, seen, before)
        return total / (len(self.readers) * sum(self.weights))
