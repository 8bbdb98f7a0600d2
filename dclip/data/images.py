"""Image files to tensors: any size, mode and orientation; broken files are counted, never fatal by themselves."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dclip.config import DclipError
from dclip.types import Images, to_uint8

log = logging.getLogger("dclip")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def read_image(path: Path, size: int) -> Tensor:
    """One picture as float32 [3,size,size] in [-1, 1].

    Turned as its EXIF says, put on white where it is transparent, its shorter side scaled to ``size`` (Lanczos), the
    middle square kept: the aspect ratio never changes. DclipError if the file cannot be read as an image.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DclipError(f"{path} cannot be read as an image ({reason}); give a PNG, JPEG or WebP file") from error
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) / 257).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    picture = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def find_images(root: Path) -> list[Path]:
    """Image files under a folder, sorted; the file itself if ``root`` is one."""
    if root.is_file():
        return [root]
    return sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    """Ids without slashes: the path below the root without its suffix, numbered where two would be alike."""
    base = root if root.is_dir() else root.parent
    stems = ["_".join(p.relative_to(base).with_suffix("").parts) for p in paths]
    names: list[str] = []
    for stem in stems:
        copies = (stem if k == 1 else f"{stem}-{k}" for k in itertools.count(1))
        names.append(next(name for name in copies if name not in names))
    return names


def read_images(paths: Sequence[Path], size: int, root: Path, setting: str) -> Images:
    """Read files; list what is broken, go on with the rest. DclipError if nothing is left."""
    pixels, good, broken = [], [], []
    for path in paths:
        try:
            pixels.append(read_image(path, size))
            good.append(path)
        except DclipError as error:
            broken.append(str(error))
    if broken and good:
        log.warning("skipped %d of %d files: %s", len(broken), len(paths), "; ".join(broken[:5]))
    if not good:
        raise DclipError(broken[0] if len(broken) == 1 else f"{setting}={root}: no readable image among {len(paths)} files")
    return Images(torch.stack(pixels), tuple(_names(good, root)))


def split_folder(root: Path, counts: dict[str, int]) -> dict[str, list[Path]]:
    """Disjoint, repeatable splits: files in the order of a hash of their path below ``root``, dealt out in turn.

    DclipError if the folder has too few images.
    """
    found = find_images(root)
    need = sum(counts.values())
    if len(found) < need:
        asked = " + ".join(f"{v} {k}" for k, v in counts.items())
        raise DclipError(
            f"dataset.root={root} has {len(found)} images, but {asked} = {need} are asked for; lower dataset.train or dataset.test"
        )
    order = sorted(found, key=lambda p: hashlib.sha256(str(p.relative_to(root)).encode()).digest())
    splits, start = {}, 0
    for name, count in counts.items():
        splits[name] = order[start : start + count]
        start += count
    return splits


def save_png(pixels: Tensor, path: Path) -> None:
    """Write one picture [3,H,W] in [-1, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy()).save(path)
