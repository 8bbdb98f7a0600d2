"""Image files to tensors: any size, mode and orientation; broken files are counted, never fatal by themselves."""

from __future__ import annotations

import itertools
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


Align = Callable[
    [str, Image.Image], Image.Image
]  # name, RGB picture -> the picture turned and cropped


def decode(source: Picture, name: str) -> Image.Image:
    """A picture as RGB, turned as its EXIF says, put on white where it is transparent. DclipError if it is none."""
    try:
        with Image.open(source) if isinstance(source, Path | BytesIO) else source as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
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


def exact(picture: Image.Image) -> Tensor:
    """float32 [3,H,W] in [-1, 1], as the picture is."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def square(picture: Image.Image, size: int) -> Tensor:
    """float32 [3,size,size] in [-1, 1]: the shorter side scaled to ``size`` (Lanczos), the middle square kept.

    The aspect ratio never changes, and the crop is the same in training and in evaluation.
    """
    return exact(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def read_image(path: Path, size: int) -> Tensor:
    """One picture as float32 [3,size,size] in [-1, 1]. DclipError if the file cannot be read as an image."""
    return square(decode(path, str(path)), size)


def _ids(names: Sequence[str]) -> list[str]:
    """Ids without slashes: the path below the root without its suffix, numbered where two would be alike."""
    ids: dict[str, None] = {}
    for name in names:
        stem = "_".join(PurePosixPath(name).with_suffix("").parts)
        copies = (stem if k == 1 else f"{stem}-{k}" for k in itertools.count(1))
        ids[next(one for one in copies if one not in ids)] = None
    return list(ids)


def read_images(
    pictures: Sequence[tuple[str, Callable[[], Picture]]],
    size: int,
    where: str,
    align: Align | None = None,
) -> Images:
    """Read pictures (name below ``where``, how to open it); list what is broken, go on with the rest.

    Several at once, unless they are aligned. DclipError if nothing is left.
    """

    def read(one: tuple[str, Callable[[], Picture]]) -> Tensor | str:
        name, source = one
        try:
            opened = source()
            picture = decode(
                opened, str(opened) if isinstance(opened, Path) else f"{where}: {name}"
            )
            return square(align(name, picture) if align else picture, size)
        except DclipError as error:
            return str(error)

    with ThreadPoolExecutor(1 if align else None) as pool:
        made = list(pool.map(read, pictures))
    good = [name for (name, _), one in zip(pictures, made, strict=True) if isinstance(one, Tensor)]
    pixels, broken = (
        [one for one in made if isinstance(one, Tensor)],
        [one for one in made if isinstance(one, str)],
    )
    if broken and good:
        log.warning("skipped %d of %d files: %s", len(broken), len(pictures), "; ".join(broken[:5]))
    if align:
        log.info("aligned the faces of %d of %d pictures", len(good), len(pictures))
    if not good:
        raise DclipError(
            broken[0]
            if len(broken) == 1
            else f"{where}: no readable image among {len(pictures)} files ({broken[0]})"
        )
    return Images(torch.stack(pixels), tuple(_ids(good)))


def read_files(path: Path, size: int, align: Align | None = None, setting: str = "input") -> Images:
    """All images of a folder, or the one of a file, given as ``setting``. DclipError if there is none."""
    found = find_images(path)
    if not found:
        raise DclipError(
            f"{setting}={path} holds no images; give a file, or a folder with PNG, JPEG or WebP files"
        )
    base = path if path.is_dir() else path.parent
    named = [(file.relative_to(base).as_posix(), lambda file=file: file) for file in found]
    return read_images(named, size, f"{setting}={path}", align)


def save_png(pixels: Tensor, path: Path) -> None:
    """Write one picture [3,H,W] in [-1, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy()).save(path)


def save_pngs(pixels: Tensor, ids: Sequence[str], folder: Path) -> None:
    """Write pictures [N,3,H,W] in [-1, 1] as ``folder``/image_ID.png, several at once."""
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda one: save_png(one[0], folder / f"image_{one[1]}.png"),
                zip(pixels, ids, strict=True),
            )
        )
