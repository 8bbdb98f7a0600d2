"""ToonFaces: cartoon faces of which every attribute, and every true edit, is known.

A :class:`Face` is everything that determines one picture: an identity (the face's geometry and the
cut of its hair), the attributes that vary within an identity, and a little colour noise. Because
pictures are drawn, not photographed, the *true* result of "make her hair red" exists: the same
person is drawn again with one attribute changed (``truths.py``).

**In-domain** pictures (what the diffusion model sees) leave out what CLIP has to teach it: red,
grey and blue hair, tanned and green skin, sketches and pixel art.

Art: "ToonHead" by Johan Melin (CC BY 4.0, remixed), "Lorelei" by Lisa Wischofsky and "Pixel Art" by
DiceBear (CC0), drawn by dicebear and resvg. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from enum import StrEnum

import numpy as np

SIZE = 64  # pixels, height and width


SPLITS = ("train", "validation", "test")


# "in": what the diffusion model knows; "all": in-domain and everything CLIP must know besides
DOMAINS = ("in", "all")


# attribute -> its values. The order is the judge's class order: append only.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "style": ("toon", "sketch", "pixel"),
    "hair_color": ("black", "brown", "light_brown", "blond", "red", "grey", "blue"),
    "skin": ("pale", "fair", "brown", "dark", "tanned", "green"),
    "beard": ("none", "moustache", "goatee", "full", "long"),
    "hair_length": ("short", "medium", "long"),
    "expression": ("neutral", "smiling", "sad", "angry", "surprised"),
    "cut": ("bun", "side", "spiky", "undercut"),
    "eyes": ("open", "closed", "wink"),
    "clothes": ("dress", "jacket", "shirt", "tshirt", "turtleneck"),
    "clothes_color": ("black", "blue", "green", "orange", "pink", "purple", "red", "white"),
    "background": ("white", "sky", "mint", "sand", "lilac", "rose"),
}


# parts of a face's picture. The order is that of the judge's part map: append only.
PARTS = ("background", "skin", "hair", "clothes", "beard", "eyes", "mouth")


OUT_OF_DOMAIN: dict[str, tuple[str, ...]] = {
    "style": ("sketch", "pixel"),
    "hair_color": ("red", "grey", "blue"),
    "skin": ("tanned", "green"),
}


# sampling weights that are not uniform
_WEIGHTS: dict[str, dict[str, float]] = {
    "beard": {"none": 5, "moustache": 1, "goatee": 1, "full": 2, "long": 1},
    "hair_length": {"short": 2, "medium": 1, "long": 1.5},
    "eyes": {"open": 5, "closed": 1, "wink": 1},
}


COLORS: dict[str, dict[str, str]] = {
    "hair_color": {
        "black": "#2b2320",
        "brown": "#6b3f2c",
        "light_brown": "#9c6b42",
        "blond": "#e0bf6e",
        "red": "#cf2a1e",
        "grey": "#9c9ca0",
        "blue": "#3560d0",
    },
    "skin": {
        "pale": "#fae4d8",
        "fair": "#f0bf9d",
        "brown": "#96654a",
        "dark": "#5c3829",
        "tanned": "#cc8140",
        "green": "#82b45c",
    },
    "clothes_color": {
        "black": "#26282b",
        "blue": "#1d4ea0",
        "green": "#1d8a48",
        "orange": "#f2812a",
        "pink": "#ec6aa8",
        "purple": "#7434b8",
        "red": "#b32024",
        "white": "#ecedea",
    },
    "background": {
        "white": "#f7f7f5",
        "sky": "#bcd9f0",
        "mint": "#c3e8d2",
        "sand": "#efe0ba",
        "lilac": "#d6c8ee",
        "rose": "#f3cbd0",
    },
}


EXPRESSIONS = {  # expression -> mouth, eyebrows, eyes (None: the person's own)
    "neutral": ("smile", "neutral", None),
    "smiling": ("laugh", "happy", None),
    # downcast: mouth and brows alone are too small to tell sad from neutral
    "sad": ("sad", "sad", "humble"),
    "angry": ("angry", "angry", None),
    "surprised": ("agape", "raised", "wide"),
}


_JITTER = 7  # colours vary by up to this many of 255 levels


class Drawing(StrEnum):
    """What ToonFaces are drawn as. The model knows only the first."""

    toon = "toon"
    sketch = "sketch"
    pixel = "pixel"
    strokes = "strokes"  # a blurred block of colour for every part of the face


@dataclass(frozen=True)
class Geometry:
    """A face's proportions: the part of an identity that no edit may change.

    Factors about 1, shifts in canvas units.
    """

    width: float = 1.0
    height: float = 1.0
    eye_scale: float = 1.0
    eye_shift: float = 0.0
    brow_shift: float = 0.0
    mouth_scale: float = 1.0
    mouth_shift: float = 0.0


# half-widths of the uniform distributions
_RANGES = Geometry(0.10, 0.07, 0.17, 16.0, 12.0, 0.22, 15.0)


@dataclass(frozen=True)
class Face(Mapping[str, str]):
    """Everything that determines one picture; as a mapping, its attributes' values.

    ``rear`` (0 or 1) picks one of the two cuts of a length.
    """

    geometry: Geometry
    attributes: tuple[tuple[str, str], ...]
    rear: int = 0
    jitter: tuple[int, ...] = (0,) * 12
    seed: int = 0

    def __getitem__(self, attribute: str) -> str:
        return dict(self.attributes)[attribute]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.attributes))

    def __len__(self) -> int:
        return len(self.attributes)

    def with_(self, **changes: str) -> Face:
        """The same face with some attributes changed.

        Raises ValueError for an attribute or value that does not exist.
        """
        for name, value in changes.items():
            check_value(name, value)
        return replace(self, attributes=tuple((k, changes.get(k, v)) for k, v in self.attributes))


def check_value(attribute: str, value: str) -> None:
    """Refuse an attribute or value that does not exist.

    dicebear itself silently draws nothing for a misspelt one.
    """
    if attribute not in ATTRIBUTES:
        raise ValueError(
            f"ToonFaces has no attribute {attribute!r}; it has {', '.join(ATTRIBUTES)}"
        )
    if value not in ATTRIBUTES[attribute]:
        raise ValueError(
            f"ToonFaces attribute {attribute!r} has no value {value!r}; "
            f"choose from {', '.join(ATTRIBUTES[attribute])}"
        )


# ----------------------------------------------------------------------------------------- sampling


def _rng(split: str, index: int, salt: int) -> np.random.Generator:
    if split not in SPLITS:
        raise ValueError(f"ToonFaces has no split {split!r}; choose from {', '.join(SPLITS)}")
    return np.random.default_rng([SPLITS.index(split), index, salt])


def _choose(rng: np.random.Generator, attribute: str, domain: str) -> str:
    left_out = OUT_OF_DOMAIN.get(attribute, ()) if domain == "in" else ()
    values = [value for value in ATTRIBUTES[attribute] if value not in left_out]
    chances = _WEIGHTS.get(attribute, {})
    weights = np.array([chances.get(value, 1.0) for value in values])
    return values[int(rng.choice(len(values), p=weights / weights.sum()))]


def sample_identity(split: str, index: int) -> tuple[Geometry, str]:
    """Geometry and hair cut of identity ``index``; the splits' identities are disjoint."""
    rng = _rng(split, index, salt=1)
    proportions = []
    for base, spread, offset in zip(
        astuple(Geometry()), astuple(_RANGES), rng.uniform(-1, 1, 7), strict=True
    ):
        proportions.append(round(float(base + spread * offset), 4))
    return Geometry(*proportions), _choose(rng, "cut", "in")


def sample_face(split: str, index: int, domain: str = "in", variant: int = 0) -> Face:
    """Face ``index`` of a split, the same for ever.

    ``variant`` > 0 draws the same identity with other attributes.
    """
    if domain not in DOMAINS:
        raise ValueError(f"ToonFaces has no domain {domain!r}; choose from {', '.join(DOMAINS)}")
    geometry, cut = sample_identity(split, index)
    rng = _rng(split, index, salt=2 + DOMAINS.index(domain) + 16 * variant)
    values = {name: _choose(rng, name, domain) for name in ATTRIBUTES}
    if domain == "all":  # most pictures stay cartoons; other styles say nothing of the attributes
        values["style"] = str(rng.choice(ATTRIBUTES["style"], p=[0.84, 0.08, 0.08]))
    values["cut"] = cut  # stays the same, whatever else is said of a person
    jitter = tuple(int(j) for j in rng.integers(-_JITTER, _JITTER + 1, 12))
    rear, seed = int(rng.integers(2)), int(rng.integers(2**31))
    return Face(geometry, tuple(values.items()), rear, jitter, seed)


def visible(face: Mapping[str, str]) -> tuple[str, ...]:
    """The attributes that a face's picture shows.

    Sketches and pixel art show none that we know but their style; surprised eyes are wide and sad
    ones downcast, whatever the person's own are.
    """
    if face["style"] != "toon":
        return ("style",)
    own_eyes = EXPRESSIONS[face["expression"]][2] is None
    return tuple(name for name in ATTRIBUTES if own_eyes or name != "eyes")


def labels(face: Mapping[str, str]) -> dict[str, int]:
    """Class index of every attribute; -1 where the picture does not show it."""
    classes = dict.fromkeys(ATTRIBUTES, -1)
    for name in visible(face):
        classes[name] = ATTRIBUTES[name].index(face[name])
    return classes
