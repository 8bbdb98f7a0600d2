"""ToonFaces: cartoon faces of which every attribute, and every true edit, is known.

A :class:`Face` is everything that determines one picture: an identity (the face's geometry and the cut of its hair),
the attributes that vary within an identity, and a little colour noise. Because pictures are drawn, not photographed, the
*true* result of "make her hair red" exists: :func:`counterfactual` changes one attribute and draws the same person again.

**In-domain** pictures (what the diffusion model sees) leave out what CLIP has to teach it: red, grey and blue hair,
tanned and green skin, sketches and pixel art.

Art: "ToonHead" by Johan Melin (CC BY 4.0, remixed), "Lorelei" by Lisa Wischofsky and "Pixel Art" by DiceBear (CC0), drawn
by dicebear and resvg. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata, resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 64  # pixels, height and width
SPLITS = ("train", "validation", "test")
DOMAINS = ("in", "all")  # "in": what the diffusion model knows; "all": in-domain and everything CLIP must know besides
CANVAS = 768  # dicebear's toon-head canvas, in its own units

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
OUT_OF_DOMAIN: dict[str, tuple[str, ...]] = {
    "style": ("sketch", "pixel"),
    "hair_color": ("red", "grey", "blue"),
    "skin": ("tanned", "green"),
}
# what stays the same whatever is said of a person; everything else may vary within an identity
IDENTITY_ATTRIBUTES = ("cut",)

_WEIGHTS: dict[str, dict[str, float]] = {  # sampling weights that are not uniform
    "beard": {"none": 5, "moustache": 1, "goatee": 1, "full": 2, "long": 1},
    "hair_length": {"short": 2, "medium": 1, "long": 1.5},
    "eyes": {"open": 5, "closed": 1, "wink": 1},
}
_COLORS: dict[str, dict[str, str]] = {
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
_VARIANTS: dict[str, dict[str, str]] = {  # our value -> dicebear's variant
    "cut": {"bun": "bun", "side": "sideComed", "spiky": "spiky", "undercut": "undercut"},
    "beard": {"moustache": "moustacheTwirl", "goatee": "chinMoustache", "full": "fullBeard", "long": "longBeard"},
    "clothes": {
        "dress": "dress",
        "jacket": "openJacket",
        "shirt": "shirt",
        "tshirt": "tShirt",
        "turtleneck": "turtleNeck",
    },
    "eyes": {"open": "happy", "closed": "bow", "wink": "wink"},
}
_REAR_HAIR = {"medium": ("neckHigh", "shoulderHigh"), "long": ("longStraight", "longWavy")}
_EXPRESSION = {  # expression -> mouth, eyebrows, eyes (None: the person's own)
    "neutral": ("smile", "neutral", None),
    "smiling": ("laugh", "happy", None),
    "sad": ("sad", "sad", "humble"),  # downcast: mouth and brows alone are too small to tell sad from neutral
    "angry": ("angry", "angry", None),
    "surprised": ("agape", "raised", "wide"),
}
_JITTER = 7  # colours vary by up to this many of 255 levels
_FACE_PARTS = ("rearHair", "head", "mouth", "beard", "eyes", "eyebrows", "hair")
_PART_SIZES = {"mouth": (117.0, 52.0), "eyes": (261.15, 73.47), "eyebrows": (237.83, 93.95)}
_NECK = (384.0, 565.0)  # faces grow and shrink about this point, so that they stay on the neck

PARTS = ("background", "skin", "hair", "clothes", "beard", "eyes", "mouth")  # classes of the part map
_PART_OF = {
    "rearHair": "hair",
    "body": "skin",
    "head": "skin",
    "clothes": "clothes",
    "mouth": "mouth",
    "beard": "beard",
    "eyes": "eyes",
    "eyebrows": "eyes",
    "hair": "hair",
}


@dataclass(frozen=True)
class Geometry:
    """A face's proportions: the part of an identity that no edit may change. Factors about 1, shifts in canvas units."""

    width: float = 1.0
    height: float = 1.0
    eye_scale: float = 1.0
    eye_shift: float = 0.0
    brow_shift: float = 0.0
    mouth_scale: float = 1.0
    mouth_shift: float = 0.0


_RANGES = Geometry(0.10, 0.07, 0.17, 16.0, 12.0, 0.22, 15.0)  # half-widths of the uniform distributions


@dataclass(frozen=True)
class Face:
    """Everything that determines one picture. ``rear`` (0 or 1) picks one of the two cuts of a length."""

    geometry: Geometry
    attributes: tuple[tuple[str, str], ...]
    rear: int = 0
    jitter: tuple[int, ...] = (0,) * 12
    seed: int = 0

    def __getitem__(self, attribute: str) -> str:
        return dict(self.attributes)[attribute]

    def with_(self, **changes: str) -> Face:
        """The same face with some attributes changed. Raises ValueError for an attribute or value that does not exist."""
        for name, value in changes.items():
            check_value(name, value)
        return replace(self, attributes=tuple((k, changes.get(k, v)) for k, v in self.attributes))


@dataclass(frozen=True)
class Truth:
    """The truth of an edit: which attribute becomes what, and which faces it makes sense for (``None``: all others).

    ``also``: what else becomes true, where several edits are applied at once.
    """

    attribute: str
    value: str
    applies_to: tuple[str, ...] | None = None
    also: tuple[Truth, ...] = ()

    @property
    def parts(self) -> tuple[Truth, ...]:
        """This truth and all that hold with it."""
        return (self, *self.also)

    @property
    def attributes(self) -> frozenset[str]:
        """All attributes that change."""
        return frozenset(part.attribute for part in self.parts)

    def applies(self, face: Face) -> bool:
        """Whether the edit means anything for this face (no beard for the bearded, no tan for the dark)."""
        old = face[self.attribute]
        mine = old != self.value and (self.applies_to is None or old in self.applies_to)
        return mine and all(part.applies(face) for part in self.also)


# The true meaning of the edits in conf/edit/ that a renderer can draw. Sketch and pixel art change everything, so for them
# there is a style to recognise but no counterfactual picture.
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


def check_value(attribute: str, value: str) -> None:
    """Refuse an attribute or value that does not exist: dicebear itself silently draws nothing for a misspelt one."""
    if attribute not in ATTRIBUTES:
        raise ValueError(f"ToonFaces has no attribute {attribute!r}; it has {', '.join(ATTRIBUTES)}")
    if value not in ATTRIBUTES[attribute]:
        raise ValueError(
            f"ToonFaces attribute {attribute!r} has no value {value!r}; choose from {', '.join(ATTRIBUTES[attribute])}"
        )


def counterfactual(face: Face, truth: Truth) -> Face:
    """The true result of an edit: the same person with only what it names changed. ValueError for a style edit."""
    if "style" in truth.attributes:
        raise ValueError("a change of style has no single true picture; only attribute edits have a counterfactual")
    return face.with_(**{part.attribute: part.value for part in truth.parts})


def truth_named(name: str) -> Truth | None:
    """The truth of an edit, or of several whose names are joined by ``+``; None where one is not known."""
    found = [TRUTHS.get(part) for part in name.split("+")]
    known = [truth for truth in found if truth is not None]
    return replace(known[0], also=tuple(known[1:])) if len(known) == len(found) else None


# ---------------------------------------------------------------------------------------------------- sampling


def _rng(split: str, index: int, salt: int) -> np.random.Generator:
    if split not in SPLITS:
        raise ValueError(f"ToonFaces has no split {split!r}; choose from {', '.join(SPLITS)}")
    return np.random.default_rng([SPLITS.index(split), index, salt])


def _choose(rng: np.random.Generator, attribute: str, domain: str) -> str:
    values = [v for v in ATTRIBUTES[attribute] if domain == "all" or v not in OUT_OF_DOMAIN.get(attribute, ())]
    weights = np.array([_WEIGHTS.get(attribute, {}).get(v, 1.0) for v in values])
    return values[int(rng.choice(len(values), p=weights / weights.sum()))]


def sample_identity(split: str, index: int) -> tuple[Geometry, str]:
    """Geometry and hair cut of identity ``index`` of a split; the splits' identities are disjoint."""
    rng = _rng(split, index, salt=1)
    offsets = rng.uniform(-1, 1, 7)
    base, spread = vars(Geometry()).values(), vars(_RANGES).values()
    geometry = Geometry(*(round(float(b + s * o), 4) for b, s, o in zip(base, spread, offsets, strict=True)))
    return geometry, _choose(rng, "cut", "in")


def sample_face(split: str, index: int, domain: str = "in", variant: int = 0) -> Face:
    """Face ``index`` of a split, the same for ever. ``variant`` > 0 draws the same identity with other attributes."""
    if domain not in DOMAINS:
        raise ValueError(f"ToonFaces has no domain {domain!r}; choose from {', '.join(DOMAINS)}")
    geometry, cut = sample_identity(split, index)
    rng = _rng(split, index, salt=2 + DOMAINS.index(domain) + 16 * variant)
    drawn = {name: _choose(rng, name, domain) for name in ATTRIBUTES}
    if domain == "all":  # most pictures stay cartoons; the other styles say nothing of the attributes
        drawn["style"] = str(rng.choice(ATTRIBUTES["style"], p=[0.84, 0.08, 0.08]))
    drawn["cut"] = cut
    jitter = tuple(int(j) for j in rng.integers(-_JITTER, _JITTER + 1, 12))
    return Face(geometry, tuple(drawn.items()), int(rng.integers(2)), jitter, int(rng.integers(2**31)))


def labels(face: Face) -> dict[str, int]:
    """Class index of every attribute; -1 where the picture does not show it.

    Sketches and pixel art show no attributes that we know; surprised eyes are wide and sad ones downcast, whatever the
    person's own are.
    """
    if face["style"] != "toon":
        return {k: ATTRIBUTES[k].index(face[k]) if k == "style" else -1 for k in ATTRIBUTES}
    hidden = {"eyes"} if _EXPRESSION[face["expression"]][2] else set()
    return {k: -1 if k in hidden else ATTRIBUTES[k].index(face[k]) for k in ATTRIBUTES}


# ---------------------------------------------------------------------------------------------------- captions

_EXPRESSION_WORDS = {
    "neutral": ("calm", "neutral"),
    "smiling": ("smiling", "happy"),
    "sad": ("sad", "unhappy"),
    "angry": ("angry", "furious"),
    "surprised": ("surprised", "astonished"),
}
_BEARD_WORDS = {
    "none": ("no beard", "a shaved chin"),
    "moustache": ("a moustache", "a twirled moustache"),
    "goatee": ("a goatee", "a goatee and moustache"),
    "full": ("a beard", "a full beard"),
    "long": ("a long beard", "a very long beard"),
}
_STYLE_WORDS = {
    "toon": ("", "", "", "a cartoon of ", "a picture of ", "an image of "),
    "sketch": ("a sketch of ", "a pencil sketch of ", "a line drawing of ", "a black and white sketch of "),
    "pixel": ("pixel art of ", "a pixel art picture of ", "an 8-bit pixel picture of "),
}
CAPTIONED = ("hair_color", "hair_length", "skin", "beard", "expression", "clothes_color")  # what captions name


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def phrase(values: Mapping[str, str], style: str, rng: np.random.Generator) -> str:
    """A text in varied wording that says just these attributes of a face in this style."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    prefix = pick(_STYLE_WORDS[style])
    noun = pick(("face", "person", "person", "human", "character"))
    adjectives, clauses = [], []
    if "expression" in values:
        adjectives.append(pick(_EXPRESSION_WORDS[values["expression"]]))
    if "skin" in values:
        as_adjective, skin = rng.random() < 0.5, values["skin"]
        if skin == "green":
            noun = pick(("zombie", "zombie", "green zombie", "zombie face"))
        elif as_adjective:
            adjectives.append(skin)
        else:
            clauses.append(f"{skin} skin")
    hair = [values.get("hair_length", ""), values.get("hair_color", "").replace("_", " ")]
    if any(hair):
        clauses.append(" ".join([*filter(None, hair), "hair"]))
    if "beard" in values:
        clauses.append(pick(_BEARD_WORDS[values["beard"]]))
    if "clothes_color" in values:
        clauses.append(f"{values['clothes_color']} clothes")
    rng.shuffle(clauses)
    text = _article(" ".join([*adjectives, noun]))
    if clauses:
        text += " with " + " and ".join(filter(None, [", ".join(clauses[:-1]), clauses[-1]]))
    return prefix + text


def caption(face: Face, rng: np.random.Generator) -> str:
    """A caption in varied wording that names none to three attributes of the picture, all of them true."""
    if face["style"] != "toon":
        return phrase({}, face["style"], rng)
    count = int(rng.choice([0, 1, 2, 3], p=[0.07, 0.38, 0.33, 0.22]))
    named = rng.choice(CAPTIONED, count, replace=False)
    return phrase({name: face[name] for name in named}, "toon", rng)


def prompts(attribute: str, rng: np.random.Generator) -> list[str]:
    """One text for every value of a captioned attribute (or of ``style``), alike but for the value."""
    seed = int(rng.integers(2**31))
    if attribute == "style":
        return [phrase({}, value, np.random.default_rng(seed)) for value in ATTRIBUTES["style"]]
    return [phrase({attribute: value}, "toon", np.random.default_rng(seed)) for value in ATTRIBUTES[attribute]]


# ---------------------------------------------------------------------------------------------------- drawing


@cache
def _style(name: str) -> Any:
    from dicebear import Style

    definition = json.loads(resources.files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))
    return Style(definition)


def _color(face: Face, attribute: str) -> str:
    """The attribute's colour with the face's own jitter, as #rrggbb."""
    i = 3 * list(_COLORS).index(attribute)
    base = bytes.fromhex(_COLORS[attribute][face[attribute]][1:])
    return "#" + "".join(f"{min(max(c + j, 0), 255):02x}" for c, j in zip(base, face.jitter[i : i + 3], strict=True))


def _toon_options(face: Face) -> dict[str, Any]:
    mouth, brows, eyes = _EXPRESSION[face["expression"]]
    options: dict[str, Any] = {
        "seed": "dclip",
        "hairVariant": _VARIANTS["cut"][face["cut"]],
        "clothesVariant": _VARIANTS["clothes"][face["clothes"]],
        "mouthVariant": mouth,
        "eyebrowsVariant": brows,
        "eyesVariant": eyes or _VARIANTS["eyes"][face["eyes"]],
        "hairColor": [_color(face, "hair_color")],
        "skinColor": [_color(face, "skin")],
        "clothesColor": [_color(face, "clothes_color")],
        "beardProbability": 0 if face["beard"] == "none" else 100,
        "rearHairProbability": 0 if face["hair_length"] == "short" else 100,
    }
    if face["beard"] != "none":
        options["beardVariant"] = _VARIANTS["beard"][face["beard"]]
    if face["hair_length"] != "short":
        options["rearHairVariant"] = _REAR_HAIR[face["hair_length"]][face.rear]
    return options


def _about(center: tuple[float, float], scale: tuple[float, float], shift: float = 0.0) -> str:
    (x, y), (sx, sy) = center, scale
    return f"translate({x} {y + shift}) scale({sx} {sy}) translate({-x} {-y})"


def _transform(part: str, placement: str, geometry: Geometry) -> str:
    """The part's placement on the canvas, bent to a face's own proportions."""
    local = {
        "eyes": (geometry.eye_scale, geometry.eye_shift),
        "eyebrows": (geometry.eye_scale, geometry.eye_shift + geometry.brow_shift),
        "mouth": (geometry.mouth_scale, geometry.mouth_shift),
    }
    pieces = [_about(_NECK, (geometry.width, geometry.height))] if part in _FACE_PARTS else []
    pieces.append(placement)
    if part in local:
        w, h = _PART_SIZES[part]
        scale, shift = local[part]
        pieces.append(_about((w / 2, h / 2), (scale, scale), shift))
    return " ".join(pieces)


_USE = re.compile(r'<use transform="([^"]*)" href="#([A-Za-z]+)-[^"]*"/>')


def toon_svg(face: Face) -> str:
    """SVG of a cartoon face with a transparent background."""
    from dicebear import Avatar

    svg = str(Avatar(_style("toon-head"), _toon_options(face)))

    def bend(match: re.Match[str]) -> str:
        return match[0].replace(match[1], _transform(match[2], match[1], face.geometry), 1)

    return _USE.sub(bend, svg)


def _rgba(svg: str, size: int) -> NDArray[np.uint8]:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def _composite(rgba: NDArray[np.uint8], background: str, size: int) -> NDArray[np.uint8]:
    """Put the drawing on its background and average 2x2 blocks (anti-aliasing)."""
    color = np.frombuffer(bytes.fromhex(background[1:]), np.uint8).astype(np.float32)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    flat = rgba[..., :3] * alpha + color * (1 - alpha)
    small: NDArray[np.uint8] = np.rint(flat.reshape(size, 2, size, 2, 3).mean((1, 3))).astype(np.uint8)
    return small


def render(face: Face, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw a face: uint8 [size, size, 3] in [0, 255]. The same pixels on every machine for pinned dicebear versions."""
    from dicebear import Avatar

    if face["style"] == "toon":
        svg = toon_svg(face)
    else:
        svg = str(Avatar(_style({"sketch": "lorelei", "pixel": "pixel-art"}[face["style"]]), {"seed": str(face.seed)}))
    background = "#ffffff" if face["style"] == "sketch" else _color(face, "background")
    return _composite(_rgba(svg, 2 * size), background, size)


def render_parts(face: Face, size: int = SIZE) -> NDArray[np.uint8]:
    """Map of the face's parts: uint8 [size, size] of indices into ``PARTS``; what is painted last wins."""
    svg = toon_svg(face)
    parts = np.zeros((size, size), np.uint8)
    uses = list(_USE.finditer(svg))
    head, tail = svg[: uses[0].start()], svg[uses[-1].end() :]
    for use in uses:
        parts[_rgba(head + use[0] + tail, size)[..., 3] > 127] = PARTS.index(_PART_OF[use[2]])
    return parts


def strokes(face: Face, blur: float = 1.0) -> NDArray[np.uint8]:
    """A face as somebody would paint it in a minute: every part a block of its mean colour, blurred; uint8 [64,64,3]."""
    picture, parts = render(face), render_parts(face)
    blocks = np.zeros(picture.shape, np.float32)
    for part in np.unique(parts):
        blocks[parts == part] = picture[parts == part].mean(0)
    painted = Image.fromarray(np.rint(blocks).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(painted)


# ---------------------------------------------------------------------------------------------------- provenance


def versions() -> dict[str, str]:
    """Versions of what draws the pictures: with the pixel hash, the data set's identity."""
    return {name: metadata.version(name) for name in ("dicebear-core", "dicebear-styles", "resvg-py")}


def pixel_hash(count: int = 16) -> str:
    """SHA-256 over the first pictures of every split and domain: two machines with one hash have one data set."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for domain in DOMAINS:
            for i in range(count):
                digest.update(render(sample_face(split, i, domain)).tobytes())
    return digest.hexdigest()


def manifest() -> dict[str, Any]:
    """What this data set is: versions, hash, attributes. Compare with ``read_manifest()``, which the package ships."""
    return {"name": "toonfaces", "size": SIZE, "versions": versions(), "pixel_sha256": pixel_hash(), "attributes": ATTRIBUTES}


def read_manifest() -> dict[str, Any]:
    """The manifest that the shipped networks were trained with."""
    text = resources.files("dclip").joinpath("weights/toonfaces.json").read_text("utf-8")
    result: dict[str, Any] = json.loads(text)
    return result
