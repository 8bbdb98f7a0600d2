"""``dataset=cifar10``: CIFAR-10 in its own format, through torchvision, or in folders.

It is downloaded from its official source; every file is checked by its md5. Needs torch only to
read the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dclip.config import Net, PretrainTask, option
from dclip.data.photographs import Photographs
from dclip.data.pictures import Picture
from dclip.data.pools import NamedPool, Pool, Pools, split_folders, train_and_test
from dclip.errors import DclipError, choose, need, one_line

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_CLASS = {"train": 5000, "test": 1000}  # images of each class
BATCHES = "cifar-10-batches-py"  # the folder of its own format

# a class in words; the bare name too, for so it is asked for
WORDINGS = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a picture of a {}",
    "a small photo of a {}",
    "a blurry photo of a {}",
)


@option("dataset", "cifar10")
@dataclass
class Cifar10(Photographs):
    """CIFAR-10, 32 x 32 pixels, one class or all.

    It is fetched from its official source unless ``fetch=false``.
    """

    LAYOUT = "cifar-10-batches-py/, or {train,test}/{class}/*.jpg (or png)"
    SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
    trains = True
    root: str = "data/cifar10"
    category: str | None = None
    fetch: bool = True  # 170 MB, checked by its md5

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            self.category is None or self.category in CIFAR10,
            f"dataset.category={self.category} is not in CIFAR-10"
            f"{choose(str(self.category), CIFAR10)}",
        )

    @property
    def part(self) -> str:
        """The class."""
        return self.category or ""

    @property
    def downloads(self) -> bool:
        """As ``dataset.fetch`` says."""
        return self.fetch

    def download(self) -> None:
        """Fetch the archive, unless the images are there."""
        if not self.pools():
            fetch(Path(self.root))

    @property
    def to_download(self) -> str:
        """The archive, unless the images are there."""
        if not self.missing():
            return ""
        return f"CIFAR-10, 170 MB from {self.SOURCE}, into dataset.root={self.root}"

    def pools(self) -> Pools:
        """Its own format, or a folder of each class."""
        batches = train_and_test(self._batches("train"), self._batches("test"))
        return batches or split_folders(Path(self.root), self.order, self.part)

    def _batches(self, split: str) -> Pool | None:
        if not (Path(self.root) / BATCHES).is_dir():
            return None
        names: list[str] = []
        for name in [self.category] if self.category else CIFAR10:
            names += [f"{name}/{i:04d}" for i in range(PER_CLASS[split])]
        return _Batches(Path(self.root), split, self.order.sort(names))

    def check_training(self, task: PretrainTask) -> None:
        """It has classes, but no attributes and no identities."""
        need(
            task.net in (Net.ddpm, Net.clip, Net.heldout),
            f"task.net={task.net.value} learns the attributes of ToonFaces; "
            "with dataset=cifar10 choose ddpm, clip or heldout",
        )
        clips = (Net.clip, Net.heldout)
        task.check_used(
            low=(Net.ddpm,), min_snr=(Net.ddpm,), compile=(Net.ddpm,), robust=clips, colors=clips
        )
        need(
            not task.paint and not task.partial,
            "task.paint and task.partial are for dataset=toonfaces; leave them out",
        )
        need(
            task.net is Net.ddpm or self.category is None,
            f"dataset.category={self.category} leaves CLIP a single caption, "
            "and nothing to tell apart; leave dataset.category out",
        )
        need(
            not task.publish,
            "task.publish=true is for the package's own networks, of dataset=toonfaces; "
            "a run's folder holds its weights",
        )


class _Batches(NamedPool):
    """CIFAR-10 in its own format; names are ``{class}/{number within the class}``."""

    light = False  # torchvision reads it

    def __init__(self, root: Path, split: str, names: Sequence[str]) -> None:
        super().__init__(root / BATCHES / split, names)
        self.root, self.split = root, split

    def open(self, name: str, size: int) -> Picture:
        """The picture, decoded."""
        from PIL import Image

        category, number = name.split("/")
        return Image.fromarray(_arrays(self.root, self.split == "train")[category][int(number)])


def fetch(root: Path) -> None:
    """Download and unpack the archive (170 MB) below ``root``.

    DclipError with what to do by hand if that fails.
    """
    from torchvision.datasets import CIFAR10 as Batches  # noqa: N811

    try:
        Batches(str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:  # no network, a dead server, a wrong md5
        with suppress(OSError):  # unless something is in it
            root.rmdir()
        raise DclipError(
            f"CIFAR-10 could not be fetched from {Batches.url} ({one_line(error, 120)}); "
            f"put {Batches.filename} (md5 {Batches.tgz_md5}) into {root.absolute()} and unpack it, "
            "or set dataset.root to a folder of images"
        ) from error


@cache
def _arrays(root: Path, train: bool) -> dict[str, Any]:
    """uint8 [N,32,32,3] of every class."""
    from torchvision.datasets import CIFAR10 as Batches  # noqa: N811

    try:
        data = Batches(str(root), train=train)
    except (OSError, RuntimeError) as error:
        raise DclipError(
            f"{root}/{BATCHES} is not whole (its md5s differ); remove it and run again to fetch it"
        ) from error
    labels = np.array(data.targets)
    return {name: np.asarray(data.data)[labels == k] for k, name in enumerate(CIFAR10)}


def captions(wording: str, things: Sequence[str] = CIFAR10) -> list[str]:
    """A caption of every thing, by default of every class: "an airplane", "an automobile" ..."""
    return [_with_article(wording.format(name)) for name in things]


def _with_article(text: str) -> str:
    """English for "a airplane" and "a orange truck"."""
    return text.replace("a a", "an a").replace("a o", "an o")


def classes(ids: Sequence[str]) -> list[int]:
    """The class index of pictures, by their ids (``airplane_0017``).

    DclipError for one outside the classes' folders.
    """
    indices = []
    for name in ids:
        category = name.split("_")[0]
        if category not in CIFAR10:
            raise DclipError(
                f"dataset.root has pictures in a folder {category!r}, which is no class; "
                f"choose {', '.join(CIFAR10)}"
            )
        indices.append(CIFAR10.index(category))
    return indices
