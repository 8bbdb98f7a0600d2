"""Where an edit acts, and how: alone, or beside others."""

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
from dclip.edits.edit import Edit
from dclip.edits.matte import Matte
from dclip.edits.region import (
    EVERYWHERE,
    acting_in,
    change_of,
    confine,
    shaped_change,
    tint_of,
    union,
)
from dclip.edits.usual import matte_of


@dataclass(frozen=True)
class Place:
    """Where one edit of some images acts, and how.

    Attributes:
        options: its region's settings.
        region: [N,1,H,W] in [0, 1].
        tint: of its colours.
        matte: of the shape that it adds.
        degree: what gamma = 1 stands for, as a degree of the matte.
    """

    options: EditOptions
    region: Tensor
    tint: Tint | None = None
    matte: Matte | None = None
    degree: float = 1.0

    @classmethod
    def of(
        cls,
        options: EditOptions,
        edit: Edit,
        source: Tensor,
        whole: Tensor,
        plain: Tensor,
        find: Callable[[Tensor], Tensor],
    ) -> Place:
        """The place of an edit, found from the whole of it (gamma = 1).

        Args:
            whole, plain: images [N,3,H,W] with and without it.
            find: a change -> its region, where no matte says it.
        """
        if not options.confined:
            return cls.everywhere(source)
        change = change_of(options, source, whole, plain)
        matte = matte_of(options, edit.usual, source, change / edit.degree)
        if matte is not None:
            region = matte.region
            if not options.region_by_change:
                region = region * find(change)
            return cls(options, region, matte=matte, degree=edit.degree)
        region = find(change)
        color = edit.usual.color
        return cls(options, region, tint_of(options, region, source, whole, plain, color))

    @classmethod
    def everywhere(cls, source: Tensor) -> Place:
        """The place of an edit without a region."""
        return cls(EVERYWHERE, torch.ones_like(source[:, :1]))

    @property
    def mixed_region(self) -> Tensor:
        """Where its network takes part in a mixture: not where it lays a shape over the others."""
        if self.matte is not None:
            return torch.zeros_like(self.region)
        return (self.region > 0).to(self.region)

    def acted(self, source: Tensor, edited: Tensor, plain: Tensor, gamma: float) -> Tensor:
        """Source images with the edit at a degree, of which ``edited`` are its own pictures.

        Below 0 there is no shape to lay over them: the opposite is what the network draws.
        """
        if self.matte is not None and gamma > 0:
            return self.laid_over(source, gamma)
        return acting_in(self.options, self.region, source, edited, plain, self.tint)

    def laid_over(self, picture: Tensor, gamma: float) -> Tensor:
        """Pictures with the shape of the matte at a degree; at 0 and below, as they are."""
        if self.matte is None:
            return picture
        return self.matte.laid_over(picture, self.region, gamma * self.degree)


def acted_apart(
    places: Sequence[Place],
    source: Tensor,
    mixed: Tensor,
    plain: Tensor,
    degrees: Sequence[float],
) -> Tensor:
    """Source images with several edits: shapes are laid over what the others made.

    Args:
        mixed: images of all edits, each in its ``mixed_region``.
        degrees: one an edit.
    """
    others = [place for place in places if place.matte is None]
    picture = _divided(others, source, mixed, plain) if others else source
    for place, degree in zip(places, degrees, strict=True):
        picture = place.laid_over(picture, degree)
    return picture


def _divided(places: Sequence[Place], source: Tensor, mixed: Tensor, plain: Tensor) -> Tensor:
    """Source images with several edits, each of which shapes its change in its region.

    Where regions overlap, the change is that of all, divided as the regions' values are.
    """
    regions = [place.region for place in places]
    total, changed = torch.stack(regions).sum(0), torch.zeros_like(source)
    for place, region in zip(places, regions, strict=True):
        share = torch.where(total > 0, region / total.clamp_min(1e-6), 1.0)
        edited = plain + share * (mixed - plain)
        change = shaped_change(place.options, region, source, edited, plain)
        change = place.tint.added(source, change, region) if place.tint else change
        changed = changed + torch.where(region > 0, change, 0.0)
    return confine(source, changed, union(regions))


def mean_weights(weights: Weights, sampler: SamplerOption) -> list[float]:
    """What a mixture's weights are on average over the steps of a sampler, one an edit."""
    steps = [weights(t) for t, _ in pairs_of(sampler)[1]]
    return [sum(of_one) / len(steps) for of_one in zip(*steps, strict=True)]
