"""Drawing a cartoon face."""

from __future__ import annotations

import hashlib
import io
import json
import re
from functools import cache
from importlib import metadata, resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dclip.data.toonfaces.faces import (
    ATTRIBUTES,
    COLORS,
    DOMAINS,
    EXPRESSIONS,
    PARTS,
    SIZE,
    SPLITS,
    Face,
    Geometry,
    sample_face,
)

# our value -> dicebear's variant
_VARIANTS: dict[str, dict[str, str]] = {
    "cut": {"bun": "bun", "side": "sideComed", "spiky": "spiky", "undercut": "undercut"},
    "beard": {
        "moustache": "moustacheTwirl",
        "goatee": "chinMoustache",
        "full": "fullBeard",
        "long": "longBeard",
    },
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


_FACE_PARTS = ("rearHair", "head", "mouth", "beard", "eyes", "eyebrows", "hair")


_PART_SIZES = {"mouth": (117.0, 52.0), "eyes": (261.15, 73.47), "eyebrows": (237.83, 93.95)}


_NECK = (384.0, 565.0)  # faces grow and shrink about this point, so that they stay on the neck


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


# ------------------------------------------------------------------------------------------ drawing


@cache
def _style(name: str) -> Any:
    from dicebear import Style

    definition = json.loads(
        resources.files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")
    )
    return Style(definition)


def _color(face: Face, attribute: str) -> str:
    """The attribute's colour with the face's own jitter, as #rrggbb."""
    i = 3 * list(COLORS).index(attribute)
    base = bytes.fromhex(COLORS[attribute][face[attribute]][1:])
    color = "#"
    for channel, jitter in zip(base, face.jitter[i : i + 3], strict=True):
        color += f"{min(max(channel + jitter, 0), 255):02x}"
    return color


def _toon_options(face: Face) -> dict[str, Any]:
    mouth, brows, eyes = EXPRESSIONS[face["expression"]]
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
    pieces = [placement]
    if part in _FACE_PARTS:
        pieces.insert(0, _about(_NECK, (geometry.width, geometry.height)))
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
    small = np.rint(flat.reshape(size, 2, size, 2, 3).mean((1, 3)))
    return np.asarray(small, np.uint8)


def render(face: Face, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw a face: uint8 [size, size, 3] in [0, 255].

    The same pixels on every machine for pinned dicebear versions.
    """
    svg = toon_svg(face) if face["style"] == "toon" else _styled_svg(face)
    background = "#ffffff" if face["style"] == "sketch" else _color(face, "background")
    return _composite(_rgba(svg, 2 * size), background, size)


def _styled_svg(face: Face) -> str:
    """SVG of somebody else in another style."""
    from dicebear import Avatar

    name = {"sketch": "lorelei", "pixel": "pixel-art"}[face["style"]]
    return str(Avatar(_style(name), {"seed": str(face.seed)}))


def render_parts(face: Face, size: int = SIZE) -> NDArray[np.uint8]:
    """The face's parts: uint8 [size, size] of indices into ``PARTS``; what is painted last wins."""
    svg = toon_svg(face)
    parts = np.zeros((size, size), np.uint8)
    uses = list(_USE.finditer(svg))
    head, tail = svg[: uses[0].start()], svg[uses[-1].end() :]
    for use in uses:
        parts[_rgba(head + use[0] + tail, size)[..., 3] > 127] = PARTS.index(_PART_OF[use[2]])
    return parts


def strokes(face: Face, blur: float = 1.0) -> NDArray[np.uint8]:
    """A face as somebody would paint it in a minute, uint8 [64,64,3].

    Every part is a block of its mean colour, blurred.
    """
    picture, parts = render(face), render_parts(face)
    blocks = np.zeros(picture.shape, np.float32)
    for part in np.unique(parts):
        blocks[parts == part] = picture[parts == part].mean(0)
    painted = Image.fromarray(np.rint(blocks).astype(np.uint8))
    return np.asarray(painted.filter(ImageFilter.GaussianBlur(blur)))


# --------------------------------------------------------------------------------------- provenance


def versions() -> dict[str, str]:
    """Versions of what draws the pictures: with the pixel hash, the data set's identity."""
    packages = ("dicebear-core", "dicebear-styles", "resvg-py")
    return {name: metadata.version(name) for name in packages}


def pixel_hash(count: int = 16) -> str:
    """SHA-256 over the first pictures of every split and domain.

    Two machines with one hash have one data set.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        for domain in DOMAINS:
            for i in range(count):
                digest.update(render(sample_face(split, i, domain)).tobytes())
    return digest.hexdigest()


def manifest() -> dict[str, Any]:
    """What this data set is: versions, hash, attributes.

    ``read_manifest()`` is the one that the package ships.
    """
    return {
        "name": "toonfaces",
        "size": SIZE,
        "versions": versions(),
        "pixel_sha256": pixel_hash(),
        "attributes": ATTRIBUTES,
    }


def read_manifest() -> dict[str, Any]:
    """The manifest that the shipped networks were trained with."""
    text = resources.files("dclip").joinpath("weights/toonfaces.json").read_text("utf-8")
    result: dict[str, Any] = json.loads(text)
    return result
