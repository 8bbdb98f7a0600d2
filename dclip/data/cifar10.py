"""CIFAR-10 in its own format, through torchvision: fetched from the official source, every file checked by its md5."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dclip.config import CIFAR10, DclipError


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


def picture(root: Path, train: bool, category: str, number: str) -> Image.Image:
    """The picture with this number within its class, in the order of the files."""
    return Image.fromarray(_batches(root, train)[category][int(number)])
