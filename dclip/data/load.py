"""The images of a run, by split, from whatever the data set is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from dclip.config import Cifar10, Config, Photographs, TaskName, ToonFaces
from dclip.data.align import LARGEST, aligner
from dclip.data.images import read_files, read_images
from dclip.data.missing import asked
from dclip.data.pools import pools
from dclip.data.splits import SPLITS, deal
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import truth_named
from dclip.errors import DclipError
from dclip.runtime import parallel
from dclip.types import Images

log = logging.getLogger("dclip")


@runtime_checkable
class OwnImages(Protocol):
    """A data set of a user's (``docs/extend.md``)."""

    def load(self, split: str, size: int) -> Images:
        """The images of ``train``, ``validation`` or ``test``, as many as the option of that name says, [N,3,size,size]."""
        ...


def load_images(cfg: Config, split: str, size: int) -> Images:
    """Images of ``train``, ``validation`` or ``test``, at the model's size. An empty set where the count is 0."""
    count = int(getattr(cfg.dataset, split))
    if count == 0:
        return Images(torch.zeros(0, 3, size, size), ())
    if isinstance(cfg.dataset, ToonFaces):
        if size != 64:
            raise DclipError(
                f"dataset=toonfaces draws 64x64 pictures, but the checkpoint takes {size}x{size}; choose dataset=folder"
            )
        truth = truth_named(cfg.edit.name) if cfg.dataset.only_applicable else None
        return toonfaces(split, count, truth, cfg.dataset.domain)
    if isinstance(cfg.dataset, Photographs):
        return photographs(cfg.dataset, split, size)
    if isinstance(cfg.dataset, OwnImages):
        return cfg.dataset.load(split, size)
    raise DclipError(
        f"no images can be loaded from dataset {type(cfg.dataset).__name__}; give it a method load(split, size)"
    )


def photographs(data: Photographs, split: str, size: int) -> Images:
    """Images on disk of one split; the others before it decide which are left."""
    order = SPLITS[TaskName.finetune]
    dealt = deal(data, {name: int(getattr(data, name)) for name in order[: order.index(split) + 1]})
    wanted = (
        LARGEST if data.align else size
    )  # of data sets that have their pictures in several sizes
    named = [
        (name, lambda pool=pool, name=name: pool.open(name, wanted)) for pool, name in dealt[split]
    ]
    return read_images(named, size, f"dataset.root={data.root}", aligner(data))


def fetch_data(cfg: Config) -> None:
    """Fetch the data set where it is not there and may be. One process does it, the others wait."""
    data = cfg.dataset
    if not isinstance(data, Cifar10) or not data.fetch or cfg.offline or not asked(cfg):
        return
    if parallel.rank() == 0 and not pools(data):
        from dclip.data import cifar10

        cifar10.fetch(Path(data.root))
    parallel.all_gather_objects(None)


def load_input(cfg: Config, size: int) -> Images:
    """The images of ``input=``: a file, or a folder."""
    return read_files(Path(str(cfg.input)), size, aligner(cfg.dataset))
