"""Which images a data set has, and which of them each split gets: by name, before a pixel is read, without torch.

A :class:`Pool` is a set of named images: files below a folder, the keys of an LMDB, the rows of CIFAR-10. A data set is one
pool, or one for training and one for test; :func:`deal` hands them out. What is not there is said by :func:`missing`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.util import find_spec
from io import BytesIO
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import Any

from dclip.config import (
    CIFAR10,
    Afhq,
    CelebaHq,
    Cifar10,
    Ffhq,
    Folder,
    ImageNet,
    Lsun,
    Order,
    Photographs,
)
from dclip.data.imagenet import wnid
from dclip.errors import DclipError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


PER_CLASS = {"train": 5000, "test": 1000}  # images of each class of CIFAR-10


Picture = Path | BytesIO | Any  # a file, an encoded picture, or a decoded one (PIL)


Chosen = tuple["Pool", str]


@dataclass(frozen=True, eq=False)
class Pool:
    """Images with names.

    ``first(k)`` are the first k names (fewer if there are fewer) in the order they are dealt; ``find`` is the name that a
    line of an id list means, if any; ``open(name, size)`` a picture that shall become ``size`` pixels.
    """

    place: Path
    first: Callable[[int], list[str]]
    find: Callable[[str], str | None]
    open: Callable[[str, int], Picture]


# ---------------------------------------------------------------------------------------------------- names


def by_hash(name: str) -> bytes:
    """Sorts names into an order that is mixed, and the same on every machine."""
    return hashlib.sha256(name.encode()).digest()


def aliases(name: str) -> list[str]:
    """What else a name may be called in a list, the most exact first: without suffix, without folder, as a number."""
    path = PurePosixPath(name)
    given = [name, str(path.with_suffix("")), path.name, path.stem]
    return list(
        dict.fromkeys(
            [*given, *(stem.lstrip("0") or "0" for stem in (path.stem,) if stem.isdigit())]
        )
    )


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
        number = line.lstrip("0") or "0" if line.isdigit() else ""
        found = self._table.get(line) or self._table.get(number, [])
        if line in found or len(found) == 1:
            return line if line in found else found[0]
        if found:
            raise DclipError(
                f"dataset.ids: {line} could be {found[0]} or {found[1]}; write the path below dataset.root"
            )
        return None


def find_images(root: Path) -> list[Path]:
    """Image files under a folder, sorted; the file itself if ``root`` is one."""
    if root.is_file():
        return [root]
    found = (
        Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names
    )
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


# ---------------------------------------------------------------------------------------------------- pools


def _files(
    root: Path, order: Order, kept: Callable[[str], bool] = lambda name: True
) -> Pool | None:
    """All images below a folder; None where there are none."""
    names = (
        [path.relative_to(root).as_posix() for path in find_images(root)] if root.is_dir() else []
    )
    names = sorted(filter(kept, names), key=by_hash if order is Order.hash else None)
    return (
        Pool(root, lambda k: names[:k], Finder(names), lambda name, _: root / name)
        if names
        else None
    )


def _classes(root: Path, order: Order) -> Pool | None:
    """A folder of class folders with very many images: one image of each class, then the next. Lists only what is needed."""
    key = by_hash if order is Order.hash else None
    folders = (
        sorted((p.name for p in os.scandir(root) if p.is_dir()), key=key) if root.is_dir() else []
    )

    @cache
    def inside(folder: str) -> list[str]:
        return sorted((f"{folder}/{path.name}" for path in find_images(root / folder)), key=key)

    def names() -> Iterator[str]:
        rest = folders
        for layer in count():
            rest = [folder for folder in rest if len(inside(folder)) > layer] if layer else rest
            for folder in rest:
                yield from inside(folder)[layer : layer + 1]
            if not rest:
                return

    @cache
    def find() -> Finder:
        return Finder([name for folder in folders for name in inside(folder)])

    pool = Pool(
        root,
        lambda k: list(islice(names(), k)),
        lambda line: find()(line),
        lambda name, _: root / name,
    )
    return pool if folders and pool.first(1) else None


@cache
def _environment(path: Path) -> Any:
    if find_spec("lmdb") is None:
        raise DclipError(
            f"{path} is an LMDB, and the lmdb package is not installed; pip install 'dclip[lmdb]'"
        )
    import lmdb

    try:
        return lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DclipError(
            f"{path} is not a readable LMDB ({error}); fetch or make it again"
        ) from error


def _value(path: Path, key: str) -> bytes | None:
    with _environment(path).begin() as transaction:
        value: bytes | None = transaction.get(key.encode())
        return value


def _numbered_lmdb(path: Path, order: Order) -> Pool | None:
    """StyleMapGAN's LMDB: ``length``, and every picture in one or more sizes under ``{size}-{index:05d}``."""
    if not (path / "data.mdb").is_file():
        return None
    length = int(_value(path, "length") or 0)
    names = sorted(
        (f"{i:05d}" for i in range(length)), key=by_hash if order is Order.hash else None
    )
    sizes = [
        size for size in (64, 128, 256, 512, 1024) if _value(path, f"{size}-00000") is not None
    ]
    if not (names and sizes):
        raise DclipError(
            f"{path} has no keys length and 256-00000 (or another size): not an LMDB as StyleMapGAN makes it"
        )

    def read(name: str, size: int) -> Picture:
        best = next((s for s in sizes if s >= size), sizes[-1])
        return BytesIO(_value(path, f"{best}-{name}") or b"")

    return Pool(path, lambda k: names[:k], Finder(names), read)


def _keyed_lmdb(path: Path) -> Pool | None:
    """LSUN's LMDB: a picture a key. Its keys are hashes, so that their own order is mixed already."""
    if not (path / "data.mdb").is_file():
        return None
    _environment(path)  # refuses what is none

    def first(k: int) -> list[str]:
        with _environment(path).begin() as transaction:
            return [
                bytes(key).decode()
                for key in islice(transaction.cursor().iternext(values=False), k)
            ]

    def find(line: str) -> str | None:
        return line if _value(path, line) is not None else None

    return Pool(path, first, find, lambda name, _: BytesIO(_value(path, name) or b""))


def _cifar_batches(data: Cifar10, split: str) -> Pool | None:
    """CIFAR-10 in its own format; names are ``{class}/{number within the class}``."""
    root = Path(data.root)
    if not (root / "cifar-10-batches-py").is_dir():
        return None
    wanted = [data.category] if data.category else list(CIFAR10)
    names = [f"{name}/{i:04d}" for name in wanted for i in range(PER_CLASS[split])]
    names = sorted(names, key=by_hash if data.order is Order.hash else None)

    def read(name: str, _: int) -> Picture:
        from dclip.data.cifar10 import picture

        return picture(root, split == "train", *name.split("/"))

    return Pool(root / "cifar-10-batches-py" / split, lambda k: names[:k], Finder(names), read)


# ---------------------------------------------------------------------------------------------------- layouts

Pools = dict[str, Pool]  # "train" and "test", or "all"


def _two(train: Pool | None, *tests: Pool | None) -> Pools:
    """Training and test images; where only one of them is there, it serves both."""
    test = next(filter(None, tests), None)
    if train and test:
        return {"train": train, "test": test}
    only = train or test
    return {"all": only} if only else {}


def _split_folders(
    root: Path, order: Order, below: str = "", kept: Callable[[str], bool] = lambda name: True
) -> Pools:
    return _two(*(_files(root / split / below, order, kept) for split in ("train", "test", "val")))


def _split_lmdbs(root: Path, order: Order) -> Pools:
    return _two(
        *(_numbered_lmdb(root / f"LMDB_{split}", order) for split in ("train", "test", "val"))
    )


def _folder(data: Photographs) -> Pools:
    pool = _files(Path(data.root), data.order)
    return {"all": pool} if pool else {}


def _celeba_hq(data: CelebaHq) -> Pools:
    root, order = Path(data.root), data.order
    lmdbs = partial(_split_lmdbs, root, order)
    return (
        _split_folders(root, order)
        or _split_folders(root / "raw_images", order)
        or lmdbs()
        or _folder(data)
    )


def _afhq(data: Afhq) -> Pools:
    root, order = Path(data.root), data.order

    def is_of_it(
        name: str,
    ) -> bool:  # StyleMapGAN mixes the animals; the files' own names tell: flickr_dog_000043.jpg
        return data.category in re.split(r"[/_.]", name)

    mixed = _split_folders(root / "raw_images", order, kept=is_of_it)
    return _split_folders(root, order, data.category) or mixed or _split_lmdbs(root, order)


def _lsun(data: Lsun) -> Pools:
    return _two(
        *(
            _keyed_lmdb(Path(data.root) / f"{data.category}_{split}_lmdb")
            for split in ("train", "test", "val")
        )
    )


def _imagenet(data: ImageNet) -> Pools:
    root, order = Path(data.root), data.order
    if data.category is not None:
        return _split_folders(root, order, wnid(data.category))
    return _two(*(_classes(root / split, order) for split in ("train", "val")))


def _cifar10(data: Cifar10) -> Pools:
    batches = _two(_cifar_batches(data, "train"), _cifar_batches(data, "test"))
    return batches or _split_folders(Path(data.root), data.order, data.category or "")


LAYOUTS: dict[type[Photographs], Callable[[Any], Pools]] = {
    Folder: _folder,
    Ffhq: _folder,
    CelebaHq: _celeba_hq,
    Afhq: _afhq,
    Lsun: _lsun,
    ImageNet: _imagenet,
    Cifar10: _cifar10,
}


def pools(data: Photographs) -> Pools:
    """The images of a data set as they lie on disk; empty where nothing of the expected layout is there."""
    return next(LAYOUTS[kind] for kind in type(data).__mro__ if kind in LAYOUTS)(data)
