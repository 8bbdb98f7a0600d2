"""Image files to tensors: any size, mode and orientation. Broken files are listed and left out."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dclip.data.folders import nothing_readable, pictures_of, tell_left_out
from dclip.data.pictures import Picture, decode
from dclip.errors import DclipError
from dclip.files import atomic_save
from dclip.types import Images, to_uint8

log = logging.getLogger("dclip")

# name, RGB picture -> the picture turned and cropped
Align = Callable[[str, Image.Image], Image.Image]

# a name, and how to open the picture
Named = tuple[str, Callable[[], Picture]]

# bytes of an id: with what is put before and after, a file's name may have 255
LONGEST = 180
SHOWN = 5  # of shortened or skipped names on the console


def exact(picture: Image.Image) -> Tensor:
    """float32 [3,H,W] in [-1, 1], as the picture is."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def square(picture: Image.Image, size: int) -> Tensor:
    """float32 [3,size,size] in [-1, 1]: the shorter side scaled (Lanczos), the middle kept.

    The aspect ratio never changes, and the crop is the same in training and in evaluation.
    """
    return exact(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def read_images(
    pictures: Sequence[Named],
    size: int,
    where: str,
    align: Align | None = None,
    ground: str = "white",
) -> Images:
    """Read pictures whose names are below ``where``; list what is broken, go on with the rest.

    Several at once, unless they are aligned. DclipError if nothing is left.
    """

    def read(picture: Named) -> Tensor | DclipError:
        try:
            return _read(picture, size, where, align, ground)
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
        raise nothing_readable(where, errors)
    if errors:
        shown = "; ".join(errors[:SHOWN]).encode("utf-8", "backslashreplace").decode()
        log.warning("skipped %d of %d files: %s", len(errors), len(pictures), shown)
    if align:
        log.info("aligned the faces of %d of %d pictures", len(names), len(pictures))
    return Images(torch.stack(pixels), tuple(_ids(names)))


def _read(picture: Named, size: int, where: str, align: Align | None, ground: str) -> Tensor:
    name, open_it = picture
    source = open_it()
    shown = str(source) if isinstance(source, Path) else f"{where}: {name}"
    decoded = decode(source, shown, ground)
    if align is not None:
        decoded = align(name, decoded)
    return square(decoded, size)


def _ids(names: Sequence[str]) -> list[str]:
    """Ids without slashes: the path below the root without suffix, numbered if two are alike.

    One that no file could be named after is shortened, and what it stands for is logged.
    """
    ids: dict[str, str] = {}
    shortened: dict[str, str] = {}
    for path in names:
        whole = "_".join(PurePosixPath(path).with_suffix("").parts)
        stem = _fitting(whole)
        name, copies = stem, 1
        while name in ids:
            copies += 1
            name = f"{stem}-{copies}"
        ids[name] = path
        if stem != whole:
            shortened[name] = path
    _tell_shortened(shortened)
    return list(ids)


def _fitting(name: str) -> str:
    """A name of at most ``LONGEST`` bytes of valid UTF-8; a shortened one ends in its hash."""
    content = os.fsencode(name)
    readable = content.decode("utf-8", "replace")
    if len(content) <= LONGEST:
        return readable
    kept = content[: LONGEST - 10].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(content).hexdigest()[:8]}"


def _tell_shortened(names: Mapping[str, str]) -> None:
    """Say which file is behind a shortened name: the first few, and all of them in run.log."""
    if names:
        log.warning("names that no file could have are shortened (%d):", len(names))
    for number, (name, path) in enumerate(names.items()):
        level = logging.INFO if number < SHOWN else logging.DEBUG
        shown = path.encode("utf-8", "backslashreplace").decode()
        log.log(level, "  %s is %s", name, shown)


def read_files(
    path: Path,
    size: int,
    align: Align | None = None,
    setting: str = "input",
    ground: str = "white",
) -> Images:
    """All images of a folder, or the one of a file, given as ``setting``.

    What is transparent has the colour of ``ground``.

    DclipError if there is none.
    """
    paths = pictures_of(path, setting)
    tell_left_out(path)
    base = path if path.is_dir() else path.parent
    named = [(file.relative_to(base).as_posix(), lambda file=file: file) for file in paths]
    return read_images(named, size, f"{setting}={path}", align, ground)


def save_png(pixels: Tensor, path: Path) -> None:
    """Write one picture [3,H,W] in [-1, 1]."""
    picture = Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy())
    atomic_save(path, picture.save)


def save_pngs(pixels: Tensor, ids: Sequence[str], folder: Path) -> None:
    """Write pictures [N,3,H,W] in [-1, 1] as ``folder``/image_ID.png, several at once."""
    paths = [folder / f"image_{name}.png" for name in ids]
    with ThreadPoolExecutor() as pool:
        list(pool.map(save_png, pixels, paths))
