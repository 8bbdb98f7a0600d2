"""The images of a run, by split, from whatever the data set is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from dclip.config import Config
from dclip.data.align import aligner
from dclip.data.images import read_files
from dclip.data.missing import images_needed
from dclip.errors import DclipError
from dclip.runtime import parallel
from dclip.types import Images


@runtime_checkable
class ImageSource(Protocol):
    """What every data set is, but those that the checkpoint draws (``docs/extend.md``)."""

    def load(self, split: str, size: int) -> Images:
        """The images of ``train``, ``validation`` or ``test``, [N,3,size,size].

        N is the option of that name.
        """
        ...


def load_images(cfg: Config, split: str, size: int) -> Images:
    """Images of ``train``, ``validation`` or ``test``, at the model's size.

    An empty set where the count is 0.
    """
    data = cfg.dataset.for_edit(cfg.edit.name)
    if data.count(split) == 0:
        return Images(torch.zeros(0, 3, size, size), ())
    if not isinstance(data, ImageSource):
        raise DclipError(
            f"no images can be loaded from dataset {type(data).__name__}; "
            "give it a method load(split, size)"
        )
    return data.load(split, size)


def fetch_data(cfg: Config) -> None:
    """Fetch the data set where it is not there and may be. One process does it, the others wait."""
    data = cfg.dataset
    if not data.downloads or cfg.offline or not images_needed(cfg):
        return
    if parallel.rank() == 0:
        data.download()
    parallel.all_gather_objects(None)


def load_input(cfg: Config, size: int) -> Images:
    """The images of ``input=``: a file, or a folder."""
    return read_files(Path(str(cfg.input)), size, aligner(cfg.dataset))
