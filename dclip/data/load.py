"""The images of a run, by split, from whatever the data set is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from dclip.config import Config, DclipError, Domain, Folder, ToonFaces
from dclip.data.images import find_images, read_images, split_folder
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


def toonfaces(split: str, count: int, truth: Truth | None = None, domain: Domain = Domain.toon) -> Images:
    """The first ``count`` faces of a split that the edit applies to (``None``: all faces).

    Sketches and pixel art are other people, whose attributes are not known; strokes are of the faces themselves.
    """
    check_drawing()
    stream = _faces(split, truth if domain in (Domain.toon, Domain.strokes) else None)
    chosen = [next(stream) for _ in range(count)]
    faces, ids = [face for _, face in chosen], tuple(f"{split}_{index:05d}" for index, _ in chosen)
    if domain is Domain.strokes:
        return Images(from_uint8(np.stack([strokes(face) for face in faces])), ids, tuple(faces))
    if domain is not Domain.toon:
        return Images(draw_faces([face.with_(style=domain.value) for face in faces], ids).pixels, ids)
    return draw_faces(faces, ids)


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
    if isinstance(cfg.dataset, Folder):
        counts = {"test": cfg.dataset.test, "train": cfg.dataset.train, "validation": cfg.dataset.validation}
        root = Path(cfg.dataset.root)
        return read_images(split_folder(root, counts)[split], size, root, "dataset.root")
    raise DclipError(f"no images can be loaded from dataset {type(cfg.dataset).__name__}")


def load_input(path: Path, size: int, setting: str = "input") -> Images:
    """The images of ``input=`` (or another setting): a file, or a folder."""
    found = find_images(path)
    if not found:
        raise DclipError(f"{setting}={path} holds no images; give a file, or a folder with PNG, JPEG or WebP files")
    return read_images(found, size, path, setting)


def true_images(images: Images, truth: Truth | None) -> torch.Tensor | None:
    """The true edited pictures [N,3,64,64], or None where there are none (styles, photographs)."""
    if truth is None or "style" in truth.attributes or not images.faces:
        return None
    return draw_faces([counterfactual(face, truth) for face in images.faces], images.ids).pixels
