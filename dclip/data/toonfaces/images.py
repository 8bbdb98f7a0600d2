"""Cartoon faces as images, by split."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from dclip.data.toonfaces.drawing import pixel_hash, read_manifest, strokes, versions
from dclip.data.toonfaces.faces import Drawing, Face, sample_face
from dclip.data.toonfaces.many import drawn
from dclip.data.toonfaces.truths import Truth
from dclip.errors import DclipError
from dclip.types import Images, from_uint8


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
        raise DclipError(
            f"dataset=toonfaces would draw other pixels than its networks know; pip install {wanted}"
        )


def draw_faces(faces: list[Face], ids: tuple[str, ...]) -> Images:
    """Draw faces as images."""
    return Images(from_uint8(drawn(faces)), ids, tuple(faces))


def toonfaces(
    split: str, count: int, truth: Truth | None = None, domain: Drawing = Drawing.toon
) -> Images:
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
        return Images(
            draw_faces([face.with_(style=domain.value) for face in faces], ids).pixels, ids
        )
    return draw_faces(faces, ids)


def class_images(attributes: dict[str, str], count: int) -> Images:
    """Test faces that truly show these attributes, in or outside the domain; all others are as they are drawn.

    Attributes are drawn independently, so setting one gives the same distribution as looking for faces that have it.
    """
    check_drawing()
    faces = [sample_face("test", i).with_(**attributes) for i in range(count)]
    return draw_faces(faces, tuple(f"test_{i:05d}" for i in range(count)))
