"""CIFAR-10 in its own format, through torchvision: fetched from the official source, every file checked by its md5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dclip.config import CIFAR10
from dclip.errors import DclipError

# a class in words; the bare name too, for so it is asked for
WORDINGS = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a picture of a {}",
    "a small photo of a {}",
    "a blurry photo of a {}",
)


def fetch(root: Path) -> None:
    """Download and unpack the archive (170 MB) below ``root``. DclipError with what to do by hand if that fails."""
    from torchvision.datasets import CIFAR10 as Batches  # noqa: N811

    try:
        Batches(str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:  # no network, a dead server, a wrong md5
        raise DclipError(
            f"CIFAR-10 could not be fetched from {Batches.url} ({' '.join(str(error).split())[:120]}); put {Batches.filename} "
            f"(md5 {Batches.tgz_md5}) into {root.absolute()} and unpack it, or set dataset.root to a folder of images"
        ) from error


@cache
def _batches(root: Path, train: bool) -> dict[str, Any]:
    """uint8 [N,32,32,3] of every class."""
    from torchvision.datasets import CIFAR10 as Batches  # noqa: N811

    try:
        data = Batches(str(root), train=train)
    except (OSError, RuntimeError) as error:
        raise DclipError(
            f"{root}/cifar-10-batches-py is not whole (its md5s differ); remove it and run again to fetch it"
        ) from error
    labels = np.array(data.targets)
    return {name: np.asarray(data.data)[labels == k] for k, name in enumerate(CIFAR10)}


def captions(wording: str) -> list[str]:
    """One caption of every class, in the order of ``CIFAR10``: "an airplane", "an automobile", "a bird" ..."""
    return [wording.format(name).replace("a a", "an a") for name in CIFAR10]


def classes(ids: Sequence[str]) -> list[int]:
    """The class index of pictures, by their ids (``airplane_0017``). DclipError for one outside the classes' folders."""
    names = [name.split("_")[0] for name in ids]
    unknown = next((name for name in names if name not in CIFAR10), None)
    if unknown is not None:
        raise DclipError(
            f"dataset.root has pictures in a folder {unknown!r}, which is no class; choose {', '.join(CIFAR10)}"
        )
    return [CIFAR10.index(name) for name in names]


def picture(root: Path, train: bool, category: str, number: str) -> Image.Image:
    """The picture with this number within its class, in the order of the files."""
    return Image.fromarray(_batches(root, train)[category][int(number)])
