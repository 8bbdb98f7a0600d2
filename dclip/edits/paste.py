"""``paste_back=true``: what an edit changed, put back into pictures of their own size."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dclip.data.folders import find_images
from dclip.data.images import square
from dclip.data.pictures import decode
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.files import atomic_save
from dclip.run import Run

log = logging.getLogger("dclip")

FOLDER = "pasted"

# Changes, of 255, that are none, and that are whole. Reconstruction alone makes 1 or 2.
NOTHING, WHOLE = 8, 24
GROWN, FEATHERED = (
    3,
    5,
)  # pixels of the model's, by which the changed region is widened and softened


def paste_back(run: Run, start: Encoded, result: Tensor) -> None:
    """Write every picture of ``input`` with its change, in its own size: pasted/NAME.png."""
    if not run.record.writes:
        return
    originals = _originals(Path(str(run.cfg.input)), result.shape[-1])
    folder = run.record.folder / FOLDER
    seen: Counter[bytes] = Counter()
    for name, source, edited in zip(start.ids, start.sources.pixels, result.cpu(), strict=True):
        content = _content(source)
        path = originals[content][seen[content] // run.cfg.variants]
        seen[content] += 1
        picture = pasted(decode(path, name), source, edited)
        atomic_save(folder / f"{name}.png", picture.save)
    log.info("the changes in pictures of their own size: %s", folder)


def pasted(original: Image.Image, source: Tensor, edited: Tensor) -> Image.Image:
    """A picture of any size with the change of its middle square.

    Where nothing was changed, the pixels are the original's.

    Args:
        source, edited: the square as the model sees it, [3,S,S] in [-1, 1], before and after.
    """
    pixels = np.array(original)
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    change = (edited.clamp(-1, 1) - source) * changed_region(source, edited)
    enlarged = F.interpolate(change[None], size=(side, side), mode="bicubic", align_corners=False)
    moved = (enlarged[0].permute(1, 2, 0) * 127.5).round().numpy()
    middle = pixels[top : top + side, left : left + side]
    middle[:] = np.clip(middle + moved, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def changed_region(source: Tensor, edited: Tensor) -> Tensor:
    """Where an edit acted, [1,S,S] from 0 to 1, with soft borders."""
    change = (edited.clamp(-1, 1) - source).abs().amax(0, keepdim=True) * 127.5
    region = ((change - NOTHING) / (WHOLE - NOTHING)).clamp(0, 1)
    grown = F.max_pool2d(region[None], GROWN, 1, GROWN // 2)
    return F.avg_pool2d(grown, FEATHERED, 1, FEATHERED // 2)[0]


def _originals(place: Path, size: int) -> dict[bytes, list[Path]]:
    """The files of ``input``, by what the model sees of them; in the order in which it does."""
    files: dict[bytes, list[Path]] = {}
    for path in find_images(place):
        try:
            content = _content(square(decode(path, str(path)), size))
        except DclipError:  # said when it was read
            continue
        files.setdefault(content, []).append(path)
    return files


def _content(pixels: Tensor) -> bytes:
    return pixels.to(torch.float32).contiguous().numpy().tobytes()
