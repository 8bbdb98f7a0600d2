"""Image files to tensors: any size, mode and orientation. Broken files are listed and left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dclip.data.pools import Picture, find_images
from dclip.errors import DclipError
from dclip.types import Images, to_uint8

log = logging.getLogger("dclip")

# name, RGB picture -> the picture turned and cropped
Align = Callable[[str, Image.Image], Image.Image]

# a name, and how to open the picture
Named = tuple[str, Callable[[], Picture]]

# all that PIL may raise over a damaged file
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
)


def decode(source: Picture, name: str) -> Image.Image:
    """A picture as RGB, turned as its EXIF says, put on white where it is transparent.

    DclipError if it is none.
    """
    try:
        with _opened(source) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except UNREADABLE as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DclipError(
            f"{name} cannot be read as an image ({reason}); give a PNG, JPEG or WebP file"
        ) from error
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) / 257).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")


def _opened(source: Picture) -> Image.Image:
    if isinstance(source, Path | BytesIO):
        return Image.open(source)
    decoded: Image.Image = source
    return decoded


def exact(picture: Image.Image) -> Tensor:
    """float32 [3,H,W] in [-1, 1], as the picture is."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def square(picture: Image.Image, size: int) -> Tensor:
    """float32 [3,size,size] in [-1, 1]: the shorter side scaled (Lanczos), the middle kept.

    The aspect ratio never changes, and the crop is the same in training and in evaluation.
    """
    return exact(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def read_images(
    pictures: Sequence[Named], size: int, where: str, align: Align | None = None
) -> Images:
    """Read pictures whose names are below ``where``; list what is broken, go on with the rest.

    Several at once, unless they are aligned. DclipError if nothing is left.
    """

    def read(picture: Named) -> Tensor | DclipError:
        try:
            return _read(picture, size, where, align)
        except DclipError as error:
            return error

    with ThreadPoolExecutor(1 if align else None) as pool:
        results = list(pool.map(read, pictures))
    names, pixels, errors = [], [], []
    for (name, _), result in zip(pictures, results, strict=True):
        if isinstance(result, DclipError):
            errors.append(str(result))
        else:
            names.append(name)
            pixels.append(result)
    if not pixels:
        raise _nothing_left(where, errors)
    if errors:
        log.warning("skipped %d of %d files: %s", len(errors), len(pictures), "; ".join(errors[:5]))
    if align:
        log.info("aligned the faces of %d of %d pictures", len(names), len(pictures))
    return Images(torch.stack(pixels), tuple(_ids(names)))


def _read(picture: Named, size: int, where: str, align: Align | None) -> Tensor:
    name, open_it = picture
    source = open_it()
    decoded = decode(source, str(source) if isinstance(source, Path) else f"{where}: {name}")
    if align is not None:
        decoded = align(name, decoded)
    return square(decoded, size)


def _nothing_left(where: str, errors: Sequence[str]) -> DclipError:
    if len(errors) == 1:
        return DclipError(errors[0])
    return DclipError(f"{where}: no readable image among {len(errors)} files ({errors[0]})")


def _ids(names: Sequence[str]) -> list[str]:
    """Ids without slashes: the path below the root without suffix, numbered if two are alike."""
    ids: dict[str, None] = {}
    for path in names:
        stem = "_".join(PurePosixPath(path).with_suffix("").parts)
        name, copies = stem, 1
        while name in ids:
            copies += 1
            name = f"{stem}-{copies}"
        ids[name] = None
    return list(ids)


def read_files(path: Path, size: int, align: Align | None = None, setting: str = "input") -> Images:
    """All images of a folder, or the one of a file, given as ``setting``.

    DclipError if there is none.
    """
    paths = find_images(path)
    if not paths:
        raise DclipError(
            f"{setting}={path} holds no images; "
            "give a file, or a folder with PNG, JPEG or WebP files"
        )
    base = path if path.is_dir() else path.parent
    named = [(file.relative_to(base).as_posix(), lambda file=file: file) for file in paths]
    return read_images(named, size, f"{setting}={path}", align)


def save_png(pixels: Tensor, path: Path) -> None:
    """Write one picture [3,H,W] in [-1, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy()).save(path)


def save_pngs(pixels: Tensor, ids: Sequence[str], folder: Path) -> None:
    """Write pictures [N,3,H,W] in [-1, 1] as ``folder``/image_ID.png, several at once."""
    paths = [folder / f"image_{name}.png" for name in ids]
    with ThreadPoolExecutor() as pool:
        list(pool.map(save_png, pixels, paths))
