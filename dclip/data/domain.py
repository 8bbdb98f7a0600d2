"""What pictures show, and what dclip knows of such pictures. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.types import Images


@dataclass(frozen=True)
class DomainNetworks:
    """Names of the networks that know a domain; None where there is none.

    Attributes:
        model: its own diffusion model, by which the domain is called too.
        clip: the CLIP that goes by the domain's name (``clip=toonfaces``).
        heldout: the CLIP that only scores.
        identity: tells persons apart.
        judge: names attributes and parts of drawn pictures.
        parser: finds the parts of photographs.
    """

    model: str | None = None
    clip: str | None = None
    heldout: str | None = None
    identity: str | None = None
    judge: str | None = None
    parser: str | None = None


@dataclass(frozen=True)
class Grammar:
    """How a domain's texts are read.

    Attributes:
        attributes: the attributes that a text names, with their values.
        siblings: the same text with one named attribute changed, for all its other values.
    """

    attributes: Callable[[str], dict[str, str]]
    siblings: Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Looks:
    """What a judge of drawn pictures tells apart.

    Attributes:
        attributes: their values, in the order of the judge's classes.
        parts: of a picture, in the order of the judge's part map.
        size: pixels a side of what the judge sees.
        in_domain: the attributes that all pictures of the domain share.
        painted: the attributes that a rough painting of a picture shows.
    """

    attributes: Mapping[str, Sequence[str]]
    parts: Sequence[str]
    size: int
    in_domain: Sequence[tuple[str, str]]
    painted: Sequence[str]


class Truth(Protocol):
    """What an edit truly means, where that is known."""

    @property
    def goal(self) -> tuple[tuple[str, str], ...]:
        """The attributes that change, with their new values."""
        ...

    @property
    def pictured(self) -> bool:
        """Whether there is a single true picture."""
        ...

    def kept(self, facts: Mapping[str, str]) -> dict[str, str]:
        """What a picture with these facts still shows after the edit; empty if that is unknown."""
        ...

    def pictures(self, images: Images) -> Tensor | None:
        """The true edited pictures [N,3,H,W] in [-1, 1]; None where there are none."""
        ...


@dataclass(frozen=True)
class Domain:
    """A kind of pictures. Of photographs no truth is known, so the methods below answer None.

    Attributes:
        name: as ``checkpoint.domain``, the registry and ``dclip metrics --domain`` call it.
        networks: the networks that know it.
        grammar: how its texts are read.
        size: pixels a side, where all its pictures have one size.
        looks: what its judge tells apart.
        drawn: its pictures are drawn, not photographed.
        pictures: what its networks have seen, in words.
        words: all words that its own CLIPs were trained on, in lower case.
        notes: what its networks look at, in words, by what they give: ``identity``, ``parts``,
            ``features``; where there is no word, the usual networks of photographs.
        keep: what an edit should leave alone unless it is about just that, in words
            (``edit.keep``).
    """

    name: str
    networks: DomainNetworks
    grammar: Grammar
    size: int | None = None
    looks: Looks | None = None
    drawn: bool = False
    pictures: str = "photographs"
    words: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)
    keep: Sequence[str] = ()

    @property
    def edits(self) -> tuple[str, ...]:
        """The names of the edits whose true meaning is known."""
        return ()

    def truth(self, edit: str) -> Truth | None:
        """The true meaning of the edit of this name."""
        return None

    def truth_of(self, attributes: Mapping[str, str]) -> Truth | None:
        """The true meaning of a text that names just these attributes."""
        return None

    def foreign(self, pixels: Tensor) -> Sequence[int]:
        """Which of some pictures [N,3,H,W] in [-1, 1] are surely not of this domain."""
        return ()

    def class_images(
        self, attributes: Mapping[str, str] | None, count: int, size: int
    ) -> Tensor | str | None:
        """True pictures [N,3,size,size] that show these attributes, or any (None).

        Or the reason why there are none; None where there never are.
        """
        return None
