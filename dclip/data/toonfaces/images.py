"""Cartoon faces as images, by split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count, islice

import numpy as np

from dclip.data.toonfaces.drawing import pixel_hash, read_manifest, strokes, versions
from dclip.data.toonfaces.faces import Drawing, Face, sample_face
from dclip.data.toonfaces.many import pictures_of
from dclip.data.toonfaces.truths import Truth
from dclip.errors import DclipError
from dclip.types import Images, from_uint8


@cache
def check_drawing() -> None:
    """Refuse to draw other pictures than the embedded networks were trained on.

    DclipError with the remedy.
    """
    manifest = read_manifest()
    if versions() != manifest["versions"] and pixel_hash() != manifest["pixel_sha256"]:
        wanted = " ".join(f"{name}=={version}" for name, version in manifest["versions"].items())
        raise DclipError(
            "dataset=toonfaces would draw other pixels than its networks know; "
            f"pip install {wanted}"
        )


def _indices(split: str, truth: Truth | None) -> Iterator[int]:
    """The faces of a split that the edit applies to (None: all faces)."""
    for index in count():
        if truth is None or truth.applies(sample_face(split, index)):
            yield index


def _ids(split: str, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{split}_{index:05d}" for index in indices)


def draw_faces(faces: list[Face], ids: tuple[str, ...]) -> Images:
    """Draw faces as images."""
    return Images(from_uint8(pictures_of(faces)), ids, tuple(faces))


def toonfaces(
    split: str, number: int, truth: Truth | None = None, domain: Drawing = Drawing.toon
) -> Images:
    """The first faces of a split that the edit applies to (None: all faces).

    Sketches and pixel art are other people, whose attributes are not known; strokes are of the
    faces themselves.
    """
    check_drawing()
    others = domain in (Drawing.sketch, Drawing.pixel)
    indices = list(islice(_indices(split, None if others else truth), number))
    faces, ids = [sample_face(split, index) for index in indices], _ids(split, indices)
    if others:
        styled = [face.with_(style=domain.value) for face in faces]
        return Images(from_uint8(pictures_of(styled)), ids)
    if domain is Drawing.strokes:
        painted = np.stack([strokes(face) for face in faces])
        return Images(from_uint8(painted), ids, tuple(faces))
    return draw_faces(faces, ids)


def class_images(attributes: dict[str, str], number: int) -> Images:
    """Test faces that truly show these attributes; all others are as they are drawn.

    Attributes are drawn independently, so setting one gives the same distribution as looking for
    faces that have it.
    """
    check_drawing()
    faces = [sample_face("test", index).with_(**attributes) for index in range(number)]
    return draw_faces(faces, _ids("test", range(number)))
