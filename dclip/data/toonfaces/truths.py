"""What edits truly mean on ToonFaces. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dclip.data.toonfaces.faces import Face, visible

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.types import Images


@dataclass(frozen=True)
class Truth:
    """One attribute becomes one value.

    Attributes:
        applies_to: the values of the attribute for which the edit makes sense; None for all others.
        also: what else becomes true, where several edits are applied at once.
    """

    attribute: str
    value: str
    applies_to: tuple[str, ...] | None = None
    also: tuple[Truth, ...] = ()

    @property
    def goal(self) -> tuple[tuple[str, str], ...]:
        """The attributes that change, with their new values."""
        return tuple((part.attribute, part.value) for part in (self, *self.also))

    @property
    def attributes(self) -> frozenset[str]:
        """All attributes that change."""
        return frozenset(name for name, _ in self.goal)

    @property
    def pictured(self) -> bool:
        """Whether there is a single true picture; of a change of style there is none."""
        return "style" not in self.attributes

    def applies(self, face: Mapping[str, str]) -> bool:
        """Whether the edit means anything for this face.

        No beard for the bearded, no tan for the dark.
        """
        old = face[self.attribute]
        if old == self.value:
            return False
        if self.applies_to is not None and old not in self.applies_to:
            return False
        return all(part.applies(face) for part in self.also)

    def kept(self, facts: Mapping[str, str]) -> dict[str, str]:
        """What a face's picture still shows after the edit; nothing after a change of style."""
        if not self.pictured:
            return {}
        changed = set(self.attributes)
        if "expression" in changed:
            changed.add("eyes")  # wide eyes belong to a surprised face, downcast ones to a sad one
        return {name: facts[name] for name in visible(facts) if name not in changed}

    def pictures(self, images: Images) -> Tensor | None:
        """The true edited pictures [N,3,64,64]; a change of style has no single one, so None."""
        from dclip.data.toonfaces.many import pictures_of
        from dclip.types import from_uint8

        if not self.pictured:
            return None
        faces = [counterfactual(face, self) for face in images.facts if isinstance(face, Face)]
        return from_uint8(pictures_of(faces))


# The true meaning of the edits in conf/edit/ that a renderer can draw. Sketch and pixel art change
# everything: for them there is a style to recognise, but no counterfactual picture.
TRUTHS: dict[str, Truth] = {
    "tanned": Truth("skin", "tanned", ("pale", "fair")),
    "pale": Truth("skin", "pale"),
    "zombie": Truth("skin", "green"),
    "smiling": Truth("expression", "smiling"),
    "sad": Truth("expression", "sad"),
    "angry": Truth("expression", "angry"),
    "surprised": Truth("expression", "surprised"),
    "beard": Truth("beard", "full", ("none",)),
    "no_beard": Truth("beard", "none"),
    "long_hair": Truth("hair_length", "long", ("short",)),
    "red_hair": Truth("hair_color", "red"),
    "grey_hair": Truth("hair_color", "grey"),
    "blond_hair": Truth("hair_color", "blond"),
    "sketch": Truth("style", "sketch"),
    "pixel_art": Truth("style", "pixel"),
}


def counterfactual(face: Face, truth: Truth) -> Face:
    """The true result of an edit: the same person with only what it names changed.

    ValueError for a change of style.
    """
    if not truth.pictured:
        raise ValueError(
            "a change of style has no single true picture; "
            "only attribute edits have a counterfactual"
        )
    return face.with_(**dict(truth.goal))


def truth_named(name: str) -> Truth | None:
    """The truth of an edit, or of several, joined by ``+``; None where one is not known."""
    parts: list[Truth] = []
    for part in name.split("+"):
        if part not in TRUTHS:
            return None
        parts.append(TRUTHS[part])
    return replace(parts[0], also=tuple(parts[1:]))
