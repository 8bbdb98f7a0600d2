"""ToonFaces as a domain: its networks, its words, and what is true of its pictures.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dclip.data.domain import Domain, DomainNetworks, Grammar, Looks
from dclip.data.toonfaces.captions import caption_words
from dclip.data.toonfaces.faces import ATTRIBUTES, PARTS, SIZE
from dclip.data.toonfaces.truths import TRUTHS, Truth, truth_named
from dclip.data.toonfaces.words import parse_attributes, siblings

if TYPE_CHECKING:
    from torch import Tensor

# What the most frequent colours cover: at least .84 of a test face, .64 of one that was enlarged and
# kept as a poor JPEG; at most .55 of the photographs that were looked at.
COLORS, LEVELS = 8, 8  # colours that are counted; of 256 values that are one
FEWEST_DRAWN = 0.6

GRAMMAR = Grammar(parse_attributes, siblings)
LOOKS = Looks(
    ATTRIBUTES,
    PARTS,
    SIZE,
    in_domain=[("style", "toon")],
    painted=["hair_color", "skin", "clothes_color", "background"],
)


# One text for every value of every attribute that captions name
KEEP = (
    "person with pale skin",
    "person with brown skin",
    "person with dark skin",
    "person with tanned skin",
    "zombie",
    "smiling person",
    "sad person",
    "angry person",
    "surprised person",
    "person with a beard",
    "person with a moustache",
    "person with a goatee",
    "person with long hair",
    "person with short hair",
    "person with black hair",
    "person with brown hair",
    "person with blond hair",
    "person with red hair",
    "person with grey hair",
    "person with blue hair",
    "person with black clothes",
    "person with blue clothes",
    "person with green clothes",
    "person with orange clothes",
    "person with pink clothes",
    "person with purple clothes",
    "person with red clothes",
    "person with white clothes",
    "a sketch of a person",
    "pixel art of a person",
)


class ToonFacesDomain(Domain):
    """Drawn faces, of which everything is known."""

    @property
    def edits(self) -> tuple[str, ...]:
        """All edits of ``conf/edit`` that a renderer can draw."""
        return tuple(TRUTHS)

    def truth(self, edit: str) -> Truth | None:
        """The true meaning of the edit of this name, or of several names joined by ``+``."""
        return truth_named(edit)

    def truth_of(self, attributes: Mapping[str, str]) -> Truth | None:
        """The true meaning of a text that names a single attribute; None for all others."""
        if len(attributes) != 1:
            return None
        [(name, value)] = attributes.items()
        return Truth(name, value)

    def foreign(self, pixels: Tensor) -> list[int]:
        """Pictures that nobody has drawn: photographs have many colours, drawings have few."""
        shares = map(share_of_colors, pixels)
        return [place for place, share in enumerate(shares) if share < FEWEST_DRAWN]

    def class_images(
        self, attributes: Mapping[str, str] | None, count: int, size: int
    ) -> Tensor | str:
        """Test faces [N,3,64,64] that truly show these attributes, or any (None); or a reason."""
        from dclip.data.toonfaces.images import class_images

        if attributes is not None and not attributes:
            return "the prompts name no attribute of ToonFaces, so its true pictures are not known"
        if size != self.size:
            return f"ToonFaces are {self.size}x{self.size}, the samples {size}x{size}"
        return class_images(dict(attributes or {}), count).pixels


def share_of_colors(pixels: Tensor) -> float:
    """Share of the pixels of a picture [3,H,W] that its most frequent colours cover."""
    from dclip.types import to_uint8

    red, green, blue = to_uint8(pixels).long() // LEVELS
    counts = ((red * 256 + green) * 256 + blue).flatten().unique(return_counts=True)[1]
    return float(counts.sort(descending=True).values[:COLORS].sum() / counts.sum())


TOONFACES = ToonFacesDomain(
    "toonfaces",
    DomainNetworks(
        model="toonfaces",
        clip="toonfaces_clip",
        heldout="toonfaces_heldout",
        identity="toonfaces_identity",
        judge="toonfaces_judge",
    ),
    GRAMMAR,
    SIZE,
    LOOKS,
    drawn=True,
    pictures="cartoon faces",
    words=caption_words(),
    notes={
        "identity": "ToonFaces' identity network, whole picture",
        "parts": f"ToonFaces' judge, {len(PARTS)} parts at {SIZE}x{SIZE}",
        "features": "128 features of ToonFaces' judge",
    },
    keep=KEEP,
)
