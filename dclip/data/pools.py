"""Sets of named images on disk, known by name before a pixel is read. Needs no torch.

A :class:`Pool` is files below a folder, the keys of an LMDB, or the rows of CIFAR-10's batches. A
data set has one pool, or one for training and one for test (``Pools``); ``splits.py`` says which
split gets which of their images.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from io import BytesIO
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import ClassVar

from dclip.data.folders import find_images
from dclip.data.lmdbs import environment, value
from dclip.data.pictures import Picture
from dclip.errors import DclipError

LMDB_SIZES = (64, 128, 256, 512, 1024)  # in which StyleMapGAN's LMDBs may have every picture


class Order(StrEnum):
    """Which images come first."""

    hash = "hash"  # as a hash of their name decides: mixed, and the same everywhere
    name = "name"  # "the first 1,500 images"

    def sort(self, names: Iterable[str]) -> list[str]:
        """Names in this order."""
        if self is Order.hash:
            return sorted(names, key=_hash)
        return sorted(names)


def _hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


# -------------------------------------------------------------------------------------------- names


def aliases(name: str) -> list[str]:
    """What a name may be called in a list, the most exact first.

    Also without suffix, without folder, or as a number.
    """
    path = PurePosixPath(name)
    names = [name, str(path.with_suffix("")), path.name, path.stem]
    if path.stem.isdigit():
        names.append(_number(path.stem))
    return list(dict.fromkeys(names))


def _number(digits: str) -> str:
    return digits.lstrip("0") or "0"


class Finder:
    """Finds names by their aliases. DclipError for an alias of several names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def _table(self) -> dict[str, list[str]]:
        table: dict[str, list[str]] = {}
        for name in self.names:
            for alias in aliases(name):
                table.setdefault(alias, []).append(name)
        return table

    def __call__(self, line: str) -> str | None:
        """The name that a line means, None if there is none."""
        names = self._table.get(line, [])
        if not names and line.isdigit():
            names = self._table.get(_number(line), [])
        if line in names:
            return line
        if len(names) > 1:
            raise DclipError(
                f"dataset.ids: {line} could be {names[0]} or {names[1]}; "
                "write the path below dataset.root"
            )
        return next(iter(names), None)


# -------------------------------------------------------------------------------------------- pools


class Pool(ABC):
    """Named images at one place.

    Attributes:
        light: whether a picture can be opened without torch.
    """

    light: ClassVar[bool] = True

    def __init__(self, place: Path) -> None:
        self.place = place

    @abstractmethod
    def first(self, k: int) -> list[str]:
        """The first k names (fewer if there are fewer), in the order in which they are used."""

    @abstractmethod
    def find(self, line: str) -> str | None:
        """The name that a line of an id list means, if any."""

    @abstractmethod
    def open(self, name: str, size: int) -> Picture:
        """A picture that shall become ``size`` pixels."""

    @property
    def left_out(self) -> Path | None:
        """The folder, where it may also hold files that are not read; None where there are none."""
        return None


class NamedPool(Pool):
    """Images whose names are all known."""

    def __init__(self, place: Path, names: Sequence[str]) -> None:
        super().__init__(place)
        self.names = names
        self._finder = Finder(names)

    def first(self, k: int) -> list[str]:
        """The first k names."""
        return list(self.names[:k])

    def find(self, line: str) -> str | None:
        """The name that a line means, if any."""
        return self._finder(line)


class Files(NamedPool):
    """Image files; a name is the path below the folder."""

    @property
    def left_out(self) -> Path | None:
        """The folder."""
        return self.place

    def open(self, name: str, size: int) -> Picture:
        """The file."""
        return self.place / name


def _every(name: str) -> bool:
    return True


def files(root: Path, order: Order, kept: Callable[[str], bool] = _every) -> Pool | None:
    """All images below a folder whose names are ``kept``; None where there are none."""
    if not root.is_dir():
        return None
    names = [path.relative_to(root).as_posix() for path in find_images(root)]
    names = order.sort(filter(kept, names))
    return Files(root, names) if names else None


class ClassFolders(Pool):
    """A folder of class folders with very many images: one of each class, then the next of each.

    A folder is only listed when one of its images is needed.
    """

    def __init__(self, root: Path, order: Order) -> None:
        super().__init__(root)
        self.order = order
        self.folders = order.sort(_folders(root))
        self._listed: dict[str, list[str]] = {}

    def first(self, k: int) -> list[str]:
        """The first k names."""
        return list(islice(self._names(), k))

    def find(self, line: str) -> str | None:
        """The name that a line means, if any; lists every folder."""
        return self._finder(line)

    def open(self, name: str, size: int) -> Picture:
        """The file."""
        return self.place / name

    @cached_property
    def _finder(self) -> Finder:
        names: list[str] = []
        for folder in self.folders:
            names += self._inside(folder)
        return Finder(names)

    def _inside(self, folder: str) -> list[str]:
        if folder not in self._listed:
            paths = find_images(self.place / folder)
            names = [path.relative_to(self.place).as_posix() for path in paths]
            self._listed[folder] = self.order.sort(names)
        return self._listed[folder]

    def _names(self) -> Iterator[str]:
        rest = self.folders
        for layer in count():
            for folder in rest:
                yield from self._inside(folder)[layer : layer + 1]
            rest = [folder for folder in rest if len(self._inside(folder)) > layer + 1]
            if not rest:
                return


def _folders(root: Path) -> list[str]:
    """The folders in a folder, each once: of a folder and a link to it, the folder."""
    entries = [entry for entry in os.scandir(root) if entry.is_dir()]
    names: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name)):
        names.setdefault(os.path.realpath(entry.path), entry.name)
    return list(names.values())


def class_folders(root: Path, order: Order) -> Pool | None:
    """The images of a folder of class folders; None where there are none."""
    if not root.is_dir():
        return None
    pool = ClassFolders(root, order)
    return pool if pool.first(1) else None


# --------------------------------------------------------------------------------------------- LMDB


class NumberedLmdb(NamedPool):
    """StyleMapGAN's LMDB: every picture in one or more sizes, under ``{size}-{index:05d}``."""

    def __init__(self, path: Path, names: Sequence[str], sizes: Sequence[int]) -> None:
        super().__init__(path, names)
        self.sizes = sizes

    def open(self, name: str, size: int) -> Picture:
        """The picture in the smallest size that is large enough, else in the largest there is."""
        best = self.sizes[-1]
        for known in reversed(self.sizes):
            if known >= size:
                best = known
        return BytesIO(value(self.place, f"{best}-{name}") or b"")


def numbered_lmdb(path: Path, order: Order) -> Pool | None:
    """StyleMapGAN's LMDB; None where there is no LMDB. DclipError for one of another kind."""
    if not (path / "data.mdb").is_file():
        return None
    length = int(value(path, "length") or 0)
    sizes = [size for size in LMDB_SIZES if value(path, f"{size}-00000") is not None]
    if not (length and sizes):
        raise DclipError(
            f"{path} has no keys length and 256-00000 (or another size): "
            "not an LMDB as StyleMapGAN makes it"
        )
    return NumberedLmdb(path, order.sort(f"{i:05d}" for i in range(length)), sizes)


class KeyedLmdb(Pool):
    """LSUN's LMDB: a picture a key.

    Its keys are hashes, so that their own order is mixed already.
    """

    def first(self, k: int) -> list[str]:
        """The first k keys."""
        with environment(self.place).begin() as transaction:
            keys = islice(transaction.cursor().iternext(values=False), k)
            return [bytes(key).decode() for key in keys]

    def find(self, line: str) -> str | None:
        """The line, if it is a key."""
        return None if value(self.place, line) is None else line

    def open(self, name: str, size: int) -> Picture:
        """The picture in the size that it has."""
        return BytesIO(value(self.place, name) or b"")


def keyed_lmdb(path: Path) -> Pool | None:
    """LSUN's LMDB; None where there is no LMDB. DclipError for one that cannot be read."""
    if not (path / "data.mdb").is_file():
        return None
    environment(path)
    return KeyedLmdb(path)


# ------------------------------------------------------------------------------------ of a data set

Pools = dict[str, Pool]  # "train" and "test", or "all"


def train_and_test(train: Pool | None, *tests: Pool | None) -> Pools:
    """Training images, and the first test (or validation) images there are.

    Where only one of both is there, it serves both.
    """
    test = next(filter(None, tests), None)
    if train and test:
        return {"train": train, "test": test}
    only = train or test
    return {"all": only} if only else {}


def split_folders(
    root: Path, order: Order, below: str = "", kept: Callable[[str], bool] = _every
) -> Pools:
    """``train``, ``test`` and ``val`` folders, or the folder ``below`` in each."""
    return train_and_test(
        files(root / "train" / below, order, kept),
        files(root / "test" / below, order, kept),
        files(root / "val" / below, order, kept),
    )


def split_lmdbs(root: Path, order: Order) -> Pools:
    """StyleMapGAN's ``LMDB_train``, ``LMDB_test`` and ``LMDB_val``."""
    return train_and_test(
        numbered_lmdb(root / "LMDB_train", order),
        numbered_lmdb(root / "LMDB_test", order),
        numbered_lmdb(root / "LMDB_val", order),
    )


def whole_folder(root: Path, order: Order) -> Pools:
    """All images below a folder, in one pool."""
    pool = files(root, order)
    return {"all": pool} if pool else {}
