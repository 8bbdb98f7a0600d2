"""A picture from a file, in whatever way it is stored; and which files are pictures. No torch."""

from __future__ import annotations

import shutil
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dclip.errors import DclipError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Path | BytesIO | Any  # a file, an encoded picture, or a decoded one (PIL)

# Formats that Pillow recognises, and reads with the help of others or not at all.
NOT_READ = ("MPEG", "FPX", "MIC")
GREY_16 = ("PNG", "PPM")  # of these, Pillow's mode I holds 16 bits


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of the pictures that Pillow can read here, in lower case: ``.png``, ``.avif``."""
    from PIL import Image, ImageFile

    found = []
    for suffix, kind in Image.registered_extensions().items():
        opener = Image.OPEN.get(kind, (None,))[0]
        stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
        script = kind == "EPS" and shutil.which("gs") is None
        if opener is not None and kind not in NOT_READ and not stub and not script:
            found.append(suffix)
    return frozenset(found)


def decode(source: Picture, name: str, ground: str = "white") -> Image:
    """A picture as RGB, turned as its EXIF says, put on a ground where it is transparent.

    DclipError if it is none, or if its values cannot be brought to 8 bits in a known way.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    # all that PIL may raise over a damaged file
    unreadable = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    try:
        with _opened(source) as opened:
            kind = opened.format or ""
            picture = ImageOps.exif_transpose(opened)
            picture.load()
        return _as_rgb(picture, kind, ground)
    except unreadable as error:
        reason = one_line(error)
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image"
        raise DclipError(
            f"{name} cannot be read as an image ({reason}); give a PNG, JPEG or WebP file"
        ) from error


def _opened(source: Picture) -> Image:
    from PIL import Image

    if isinstance(source, Path | BytesIO):
        return Image.open(source)
    decoded: Image.Image = source
    return decoded


def _as_rgb(picture: Image, kind: str, ground: str) -> Image:
    """ValueError for what has no known way to 8 bits."""
    from PIL import Image

    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _as_grey(picture, kind)
    if picture.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba)
    return picture.convert("RGB")


def _as_grey(picture: Image, kind: str) -> Image:
    """A picture of floats or wide integers in 8 bits, scaled as its values' range says."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture, np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite([low, high]).all() and low >= 0):
        raise ValueError(f"its values go from {low:g} to {high:g}, which is no range of brightness")
    whole = picture.mode.startswith("I")
    if picture.mode.startswith("I;16") or (whole and (kind in GREY_16 or 255 < high <= 65535)):
        return Image.fromarray((values / 257).astype(np.uint8))
    if not whole and high <= 1:
        values, high = values * 255, high * 255
    if high > 255:
        raise ValueError(
            f"its values go from {low:g} to {high:g}; scale them to 0 ... 1 or 0 ... 255"
        )
    return Image.fromarray(np.rint(values).astype(np.uint8))


# ------------------------------------------------------------------------- before anything is built


MASK_GROUND = "black"  # of a mask, where it is transparent: nothing may change there

# A mask whose channels differ this much (of 255) in this share of its pixels is no mask: JPEG
# alone tints grey by less.
TINT, TINTED = 32, 0.01


@cache
def _trouble(path: str, _changed: int) -> str:
    """Why a file is no picture; empty if it is one."""
    try:
        decode(Path(path), path)
    except DclipError as error:
        return str(error)
    return ""


def trouble(path: Path) -> str:
    """Why a file is no picture; empty if it is one. Looked at once, until the file changes."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return _trouble(str(path), changed)


def mask_trouble(path: Path) -> str:
    """Why a file is no mask (a grey picture); empty if it is one."""
    why = trouble(path)
    if why:
        return why
    return _colour_trouble(str(path), path.stat().st_mtime_ns)


@cache
def _colour_trouble(path: str, _changed: int) -> str:
    import numpy as np

    pixels = np.asarray(decode(Path(path), path, MASK_GROUND)).astype(np.int16)
    spread = pixels.max(2) - pixels.min(2)
    share = float((spread > TINT).mean())
    if share <= TINTED:
        return ""
    return (
        f"{path} is coloured ({100 * share:.0f} % of its pixels), and a mask is grey: "
        "white where an edit may act, black where not"
    )
