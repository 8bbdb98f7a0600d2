"""The images of a run, by split, from whatever the data set is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from dclip import parallel
from dclip.config import Cifar10, Config, DclipError, Drawing, Photographs, TaskName, ToonFaces
from dclip.data.align import LARGEST, aligner
from dclip.data.images import read_files, read_images
from dclip.data.listing import SPLITS, asked, deal, pools
from dclip.data.toonfaces import (
    Face,
    Truth,
    counterfactual,
    pixel_hash,
    read_manifest,
    sample_face,
    strokes,
    truth_named,
    versions,
)
from dclip.types import Images, from_uint8

log = logging.getLogger("dclip")


@runtime_checkable
class OwnImages(Protocol):
    """A data set of a user's (``docs/extend.md``)."""

    def load(self, split: str, size: int) -> Images:
        """The images of ``train``, ``validation`` or ``test``, as many as the option of that name says, [N,3,size,size]."""
        ...


def truth_of(cfg: Config) -> Truth | None:
    """What the edit truly means on ToonFaces: known by its name, and only while its target text is its own."""
    return truth_named(cfg.edit.name) if isinstance(cfg.dataset, ToonFaces) else None


def _faces(split: str, truth: Truth | None) -> Iterator[tuple[int, Face]]:
    index = 0
    while True:
        face = sample_face(split, index)
        if truth is None or truth.applies(face):
            yield index, face
        index += 1


@cache
def check_drawing() -> None:
    """Refuse to draw other pictures than the embedded networks were trained on. DclipError with the remedy."""
    made = read_manifest()
    if versions() != made["versions"] and pixel_hash() != made["pixel_sha256"]:
        wanted = " ".join(f"{name}=={version}" for name, version in made["versions"].items())
        raise DclipError(f"dataset=toonfaces would draw other pixels than its networks know; pip install {wanted}")


def draw_faces(faces: list[Face], ids: tuple[str, ...]) -> Images:
    """Draw faces as images."""
    from dclip.data.pools import drawn

    return Images(from_uint8(drawn(faces)), ids, tuple(faces))


def toonfaces(split: str, count: int, truth: Truth | None = None, domain: Drawing = Drawing.toon) -> Images:
    """The first ``count`` faces of a split that the edit applies to (``None``: all faces).

    Sketches and pixel art are other people, whose attributes are not known; strokes are of the faces themselves.
    """
    check_drawing()
    stream = _faces(split, truth if domain in (Drawing.toon, Drawing.strokes) else None)
    chosen = [next(stream) for _ in range(count)]
    faces, ids = [face for _, face in chosen], tuple(f"{split}_{index:05d}" for index, _ in chosen)
    if domain is Drawing.strokes:
        return Images(from_uint8(np.stack([strokes(face) for face in faces])), ids, tuple(faces))
    if domain is not Drawing.toon:
        return Images(draw_faces([face.with_(style=domain.value) for face in faces], ids).pixels, ids)
    return draw_faces(faces, ids)


def class_images(attributes: dict[str, str], count: int) -> Images:
    """Test faces that truly show these attributes, in or outside the domain; all others are as they are drawn.

    Attributes are drawn independently, so setting one gives the same distribution as looking for faces that have it.
    """
    check_drawing()
    faces = [sample_face("test", i).with_(**attributes) for i in range(count)]
    return draw_faces(faces, tuple(f"test_{i:05d}" for i in range(count)))


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
        return toonfaces(split, count, truth_of(cfg) if cfg.dataset.only_applicable else None, cfg.dataset.domain)
    if isinstance(cfg.dataset, Photographs):
        return photographs(cfg.dataset, split, size)
    if isinstance(cfg.dataset, OwnImages):
        return cfg.dataset.load(split, size)
    raise DclipError(f"no images can be loaded from dataset {type(cfg.dataset).__name__}; give it a method load(split, size)")


def photographs(data: Photographs, split: str, size: int) -> Images:
    """Images on disk of one split; the others before it decide which are left."""
    order = SPLITS[TaskName.finetune]
    dealt = deal(data, {name: int(getattr(data, name)) for name in order[: order.index(split) + 1]})
    wanted = LARGEST if data.align else size  # of data sets that have their pictures in several sizes
    named = [(name, lambda pool=pool, name=name: pool.open(name, wanted)) for pool, name in dealt[split]]
    return read_images(named, size, f"dataset.root={data.root}", aligner(data))


def fetch_data(cfg: Config) -> None:
    """Fetch the data set where it is not there and may be. One process does it, the others wait."""
    data = cfg.dataset
    if not isinstance(data, Cifar10) or not data.fetch or cfg.offline or not asked(cfg):
        return
    if parallel.rank() == 0 and not pools(data):
        from dclip.data import cifar10

        cifar10.fetch(Path(data.root))
    parallel.broadcast_objects(None)


def load_input(cfg: Config, size: int) -> Images:
    """The images of ``input=``: a file, or a folder."""
    return read_files(Path(str(cfg.input)), size, aligner(cfg.dataset))


def true_images(images: Images, truth: Truth | None) -> torch.Tensor | None:
    """The true edited pictures [N,3,64,64], or None where there are none (styles, photographs)."""
    if truth is None or "style" in truth.attributes or not images.faces:
        return None
    return draw_faces([counterfactual(face, truth) for face in images.faces], images.ids).pixels
