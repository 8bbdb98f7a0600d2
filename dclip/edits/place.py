"""Where each of several edits acts, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.config.edit import Edit as EditOptions
from dclip.config.sampler import SamplerOption
from dclip.diffusion.mix import Weights
from dclip.diffusion.options import pairs_of
from dclip.edits.colors import Tint
from dclip.edits.matte import Matte
from dclip.edits.region import EVERYWHERE, acting_apart, acting_in, change_of, tint_of
from dclip.edits.usual import Usual, matte_of


@dataclass(frozen=True)
class Place:
    """Where one edit of some images acts, and how.

    Attributes:
        options: its region's settings.
        region: [N,1,H,W] in [0, 1].
        tint: of its colours.
        matte: of the shape that it adds.
    """

    options: EditOptions
    region: Tensor
    tint: Tint | None = None
    matte: Matte | None = None

    @classmethod
    def of(
        cls,
        options: EditOptions,
        usual: Usual,
        source: Tensor,
        whole: Tensor,
        plain: Tensor,
        find: Callable[[Tensor], Tensor],
    ) -> Place:
        """The place of a whole edit (gamma = 1).

        Args:
            whole, plain: images [N,3,H,W] with and without it.
            find: a change -> its region, where no matte says it.
        """
        if not options.confined:
            return cls.everywhere(source)
        change = change_of(options, source, whole, plain)
        matte = matte_of(options, usual, source, change)
        if matte is not None:
            region = matte.region if options.region_is_found else find(change)
            return cls(options, region, matte=matte)
        region = find(change)
        return cls(options, region, tint_of(options, region, source, whole, plain, usual.color))

    @classmethod
    def everywhere(cls, source: Tensor) -> Place:
        """The place of an edit without a region."""
        return cls(EVERYWHERE, torch.ones_like(source[:, :1]))

    def acted(self, source: Tensor, edited: Tensor, plain: Tensor, gamma: float) -> Tensor:
        """Source images with the edit at a degree, of which ``edited`` are its own pictures."""
        if self.matte is not None:
            return self.matte.laid_over(source, self.region, gamma)
        return acting_in(self.options, self.region, source, edited, plain, self.tint)


def acted_apart(
    places: Sequence[Place],
    source: Tensor,
    mixed: Tensor,
    plain: Tensor,
    degrees: Sequence[float],
) -> Tensor:
    """Source images with several edits: shapes are laid over what the others made.

    Args:
        mixed: images of all edits.
        degrees: one an edit.
    """
    others = [place for place in places if place.matte is None]
    picture = source
    if others:
        picture = acting_apart(
            [place.options for place in others],
            [place.region for place in others],
            source,
            mixed,
            plain,
            [place.tint for place in others],
        )
    for place, degree in zip(places, degrees, strict=True):
        if place.matte is not None:
            picture = place.matte.laid_over(picture, place.region, degree)
    return picture


def mean_weights(weights: Weights, sampler: SamplerOption) -> list[float]:
    """What a mixture's weights are on average over the steps of a sampler, one an edit."""
    steps = [weights(t) for t, _ in pairs_of(sampler)[1]]
    return [sum(of_one) / len(steps) for of_one in zip(*steps, strict=True)]
