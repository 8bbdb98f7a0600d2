"""Masks: pictures that say where an edit may act. White: anything may change; grey: in part.

What is transparent is black, so a layer painted in white is a mask.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from dclip.data.images import read_files
from dclip.data.pictures import MASK_GROUND
from dclip.errors import DclipError

VARIANT = re.compile(r"_v\d+$")  # ends the name of a variant of an image


def read_masks(path: str, ids: tuple[str, ...], size: int, setting: str) -> Tensor:
    """Masks [N,1,size,size] from 0 (black) to 1 (white) of the images of these ids.

    Args:
        path: one picture for all images, or a folder with one of each image's name.

    Raises:
        DclipError: an image has no mask, or one cannot be read.
    """
    pictures = read_files(Path(path), size, setting=setting, ground=MASK_GROUND)
    grey = (pictures.pixels.mean(1, keepdim=True) + 1) / 2
    if not Path(path).is_dir():
        return grey[:1].repeat(len(ids), 1, 1, 1)
    places = {name: place for place, name in enumerate(pictures.ids)}
    found = []
    for name in ids:
        place = places.get(name, places.get(VARIANT.sub("", name)))
        if place is None:
            raise DclipError(
                f"{setting}={path} has no mask for the image {name}; give a picture of that name, "
                "or one picture for all"
            )
        found.append(grey[place])
    return torch.stack(found) if found else grey[:0]
