"""Where images come from: what every option of ``dataset=`` is.

The data sets themselves lie in :mod:`dclip.data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from dclip.config.options import check_not_negative, check_positive
from dclip.config.task import PretrainTask


@dataclass
class Dataset:
    """How many images each part of a run sees.

    ``align`` turns and crops photographs (also ``input``) around the face.

    A data set is a subclass with ``load(split, size) -> Images`` (``docs/extend.md``). The rest has
    defaults that fit pictures which are simply there.

    Attributes:
        shows: the domain of its pictures (``dclip/data/domains.py``), where that is sure.
        drawn: its pictures are drawn, not photographed, so there is nothing to align.
        needs_model: the checkpoint draws its pictures (``dclip/encode/source.py``); no ``load``.
        compares: samples from noise are compared with its test images.
        photographs: they are photographs for sure, which a CLIP of cartoons has never seen.
        trains: ``task=pretrain`` can train networks on it.
        random: ``seed`` decides its pictures.
    """

    shows: ClassVar[str] = ""
    drawn: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    photographs: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    random: ClassVar[bool] = False

    train: int = 32
    validation: int = 8
    test: int = 32
    align: bool = False  # as FFHQ's faces were; needs faces in the pictures
    # CSV or JSON with eyes and mouth of every picture; without it a detector looks for them
    landmarks: str | None = None

    def __post_init__(self) -> None:
        check_positive("dataset", train=self.train, test=self.test)
        check_not_negative("dataset", validation=self.validation)

    def count(self, split: str) -> int:
        """How many images of ``train``, ``validation`` or ``test`` a run sees."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def resized(self, train: int) -> Self:
        """The same data set with another number of images to learn from."""
        return replace(self, train=train)

    # --------------------------------------------------------------------------------- which images

    def for_edit(self, edit: str) -> Dataset:
        """The images for which the edit of this name means something."""
        return self

    def everything(self) -> Dataset:
        """All images, whatever the edit."""
        return self

    @property
    def unseen(self) -> str:
        """The setting that makes its images of a kind which the model has never seen.

        Such images are for ``task=translate`` only.
        """
        return ""

    # ---------------------------------------------------------------------------------------- files

    @property
    def downloads(self) -> bool:
        """Whether :meth:`download` may fetch it."""
        return False

    def download(self) -> None:
        """Fetch what is not on disk."""

    @property
    def to_download(self) -> str:
        """What :meth:`download` would fetch, how much and whereto; empty where all is on disk."""
        return ""

    def missing(self, downloads: bool = False) -> list[str]:
        """One line for everything not on disk; with ``downloads``, for what cannot be fetched."""
        return []

    def check(self, counts: Mapping[str, int]) -> None:
        """DclipError where a split has fewer images than these; called if nothing is missing."""

    def check_training(self, task: PretrainTask) -> None:
        """DclipError for a network that it cannot train; called if it ``trains`` any."""
