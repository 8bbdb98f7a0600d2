"""Images on disk: ``dataset=folder`` and the papers' data sets, each with the layouts it may have.

Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from dclip.config import Dataset, option
from dclip.config.options import check_given
from dclip.data.folders import nothing_readable, tell_left_out
from dclip.data.pictures import decode
from dclip.data.pools import (
    Order,
    Pools,
    keyed_lmdb,
    split_folders,
    split_lmdbs,
    train_and_test,
    whole_folder,
)
from dclip.data.splits import ORDER, Chosen, split_images
from dclip.errors import DclipError, UnusableError, need

if TYPE_CHECKING:
    from dclip.types import Images


@dataclass
class Photographs(Dataset):
    """Images on disk.

    Where the data set has splits of its own, test images come from its test (or validation) images.

    A subclass says how they may lie there: ``pools``, and in words ``LAYOUT``; ``SOURCE`` is where
    it is documented.
    """

    LAYOUT: ClassVar[str] = ""
    SOURCE: ClassVar[str] = ""
    INSTEAD: ClassVar[str] = (
        "; or use your own images (dataset=folder dataset.root=DIR), or none (dataset=sampled)"
    )
    compares = True
    photographs = True

    root: str = MISSING
    # a file that lists images: one name, relative path or number a line, under [test] and [train]
    # if it has several splits
    ids: str | None = None
    order: Order = Order.hash
    train: int = 50
    test: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given("dataset", root=self.root, ids=self.ids, landmarks=self.landmarks)

    @property
    def part(self) -> str:
        """The category that is used, where there are several."""
        return ""

    def pools(self) -> Pools:
        """The images as they lie on disk; empty where nothing of the expected layout is there."""
        return whole_folder(Path(self.root), self.order)

    def chosen(self, counts: Mapping[str, int]) -> dict[str, list[Chosen]]:
        """Disjoint, repeatable splits of these sizes. DclipError where there are too few images."""
        return split_images(self.pools(), counts, self.root, self.ids)

    def load(self, split: str, size: int) -> Images:
        """The images of a split; those of the splits before it are not among them."""
        from dclip.data.align import LARGEST, aligner
        from dclip.data.images import read_images

        counts = {name: self.count(name) for name in ORDER[: ORDER.index(split) + 1]}
        wanted = LARGEST if self.align else size  # where it has every picture in several sizes
        pictures = []
        chosen = self.chosen(counts)
        for pool in self.pools().values():
            if pool.left_out is not None:
                tell_left_out(pool.left_out)
        for pool, name in chosen[split]:
            pictures.append((name, partial(pool.open, name, wanted)))
        return read_images(pictures, size, f"dataset.root={self.root}", aligner(self))

    def check(self, counts: Mapping[str, int]) -> None:
        """DclipError where there are fewer images than these."""
        pools = self.pools()
        if not pools:  # they will be downloaded
            return
        try:
            chosen = split_images(pools, counts, self.root, self.ids)
        except DclipError:
            for pool in pools.values():  # files of which none is a picture are not just too few
                _check_readable(
                    self.root, [(pool, name) for name in pool.first(sum(counts.values()))]
                )
            raise
        for split in chosen.values():
            _check_readable(self.root, split)

    def missing(self, downloads: bool = False) -> list[str]:
        """What is not on disk: the id list, and images in the expected layout."""
        lines = []
        if self.ids is not None and not Path(self.ids).is_file():
            lines.append(
                f"dataset.ids={self.ids} does not exist; give a text file with one image a line"
            )
        if downloads:
            return lines
        try:
            there = bool(self.pools())
        except UnusableError:
            raise
        except DclipError as error:
            return [*lines, str(error)]
        return lines if there else [*lines, self._missing_images()]

    def _missing_images(self) -> str:
        root = Path(self.root)
        state = "holds no such images" if root.is_dir() else "is not a folder"
        name = type(self).__name__
        if self.part:
            name = f"{name} ({self.part})"
        return (
            f"{name}: dataset.root={self.root} {state} ({root.absolute()}); "
            f"put there {self.LAYOUT}; from {self.SOURCE}{self.INSTEAD}"
        )


def _check_readable(root: str, images: Sequence[Chosen]) -> None:
    """DclipError where not one of a split's images is a picture."""
    troubles: list[str] = []
    for pool, name in images:
        if not pool.light:
            return
        try:
            decode(pool.open(name, 64), name)
        except DclipError as error:
            troubles.append(str(error))
            continue
        return
    if troubles:
        raise nothing_readable(f"dataset.root={root}", troubles)


@option("dataset", "folder")
@dataclass
class Folder(Photographs):
    """Any folder of images, searched recursively, split by name in the order of a hash."""

    LAYOUT = "any folder with PNG, JPEG or WebP files, in sub-folders too"
    SOURCE = "your own images"
    INSTEAD = ""
    photographs = False  # it may hold cartoons


@option("dataset", "ffhq")
@dataclass
class Ffhq(Photographs):
    """FFHQ, 70,000 aligned faces, or any other folder of such."""

    LAYOUT = "any folder with PNG, JPEG or WebP files, in sub-folders too"
    SOURCE = "https://github.com/NVlabs/ffhq-dataset"
    root: str = "data/ffhq"


@option("dataset", "celeba_hq")
@dataclass
class CelebaHq(Photographs):
    """CelebA-HQ, 30,000 faces: a folder of images, or StyleMapGAN's folders or LMDBs."""

    LAYOUT = (
        "LMDB_train/ and LMDB_test/ (StyleMapGAN: keys 256-00000 ...), "
        "raw_images/{train,val,test}/, {train,val}/, or a folder of images"
    )
    SOURCE = (
        "https://github.com/naver-ai/StyleMapGAN "
        "or https://github.com/tkarras/progressive_growing_of_gans"
    )
    root: str = "data/celeba_hq"

    def pools(self) -> Pools:
        """Split folders, those of StyleMapGAN, its LMDBs, or any folder of images."""
        root, order = Path(self.root), self.order
        return (
            split_folders(root, order)
            or split_folders(root / "raw_images", order)
            or split_lmdbs(root, order)
            or whole_folder(root, order)
        )


@option("dataset", "afhq")
@dataclass
class Afhq(Photographs):
    """Animal faces: StarGAN v2's folders, or StyleMapGAN's folders or LMDBs.

    The LMDBs do not tell the animal: they are read with ``category=null`` only, all of them.
    """

    LAYOUT = (
        "{train,val}/{dog,cat,wild}/*.jpg (v2: test), raw_images/{train,val,test}/, "
        "or LMDB_train/ and LMDB_test/"
    )
    SOURCE = "https://github.com/clovaai/stargan-v2"
    root: str = "data/afhq"
    category: str | None = "dog"  # dog, cat or wild; null: all of them

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            self.category in (None, "dog", "cat", "wild"),
            f"dataset.category={self.category} is not in AFHQ; choose dog, cat or wild",
        )

    @property
    def part(self) -> str:
        """The animal."""
        return self.category or ""

    def pools(self) -> Pools:
        """A folder of each animal, StyleMapGAN's folders, or its LMDBs."""
        root, order = Path(self.root), self.order
        folders = split_folders(root, order, self.part) or split_folders(
            root / "raw_images", order, kept=self._shows_the_animal
        )
        return folders or self._lmdbs()

    def _lmdbs(self) -> Pools:
        lmdbs = split_lmdbs(Path(self.root), self.order)
        if not lmdbs or self.category is None:
            return lmdbs
        raise UnusableError(
            f"dataset.category={self.category} cannot be chosen from dataset.root={self.root}: "
            "its LMDBs mix the animals and do not tell which is which; "
            "use the folders ({train,val}/{dog,cat,wild} or raw_images), "
            "or dataset.category=null for all (or where you made the LMDBs of one animal)"
        )

    def _shows_the_animal(self, name: str) -> bool:
        """StyleMapGAN mixes the animals; the files' names tell: flickr_dog_000043.jpg."""
        return self.category is None or self.category in re.split(r"[/_.]", name)


@option("dataset", "lsun")
@dataclass
class Lsun(Photographs):
    """LSUN scenes in their LMDBs."""

    LAYOUT = "{category}_train_lmdb/ and {category}_val_lmdb/ (either will do)"
    SOURCE = "https://www.yf.io/p/lsun"
    root: str = "data/lsun"
    category: str = "bedroom"  # or church_outdoor, ...

    @property
    def part(self) -> str:
        """The scene."""
        return self.category

    def pools(self) -> Pools:
        """An LMDB a split."""
        root, name = Path(self.root), self.category
        return train_and_test(
            keyed_lmdb(root / f"{name}_train_lmdb"),
            keyed_lmdb(root / f"{name}_test_lmdb"),
            keyed_lmdb(root / f"{name}_val_lmdb"),
        )
