"""Photographs turned and cropped around a face, as FFHQ's were (Karras, Laine, Aila 2019), so that a face model knows them.

Only eyes and mouth matter. They come from a file of landmarks, or from a detector: MTCNN (Zhang et al. 2016) in the
package facenet-pytorch, whose wheel holds the weights.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from dclip.config import Dataset
from dclip.data.pools import aliases
from dclip.errors import DclipError

log = logging.getLogger("dclip")


Points = NDArray[np.float64]


SURE = 0.9  # the detector's probability from which a face is one


LARGEST = 2048  # pixels of an aligned picture


# ---------------------------------------------------------------------------------------------------- geometry


def four_points(landmarks: Points) -> Points:
    """Eyes and mouth corners [4,2], left before right as one sees them, from landmarks [K,2] in pixels.

    K = 4 (these), 5 (with the nose in the middle, as MTCNN finds them) or 68 (iBUG's scheme, dlib). DclipError otherwise.
    """
    if landmarks.ndim != 2 or landmarks.shape[1:] != (2,) or len(landmarks) not in (4, 5, 68):
        raise DclipError(
            f"landmarks must be 4, 5 or 68 points of two numbers, not {list(landmarks.shape)}"
        )
    if len(landmarks) == 68:
        return np.stack(
            [landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[48], landmarks[54]]
        )
    return landmarks if len(landmarks) == 4 else landmarks[[0, 1, 3, 4]]


def face_square(landmarks: Points) -> tuple[Points, Points, Points]:
    """Centre [2] of FFHQ's crop and the vectors [2] from there to its right and to its lower side, in pixels.

    The square is as wide as 4 distances between the eyes or 3.6 from eyes to mouth, whichever is more, and turned with
    the face: half by the line of the eyes, half by that from eyes to mouth.
    """
    left, right, mouth_left, mouth_right = four_points(landmarks)
    eyes, across, down = (
        (left + right) / 2,
        right - left,
        (mouth_left + mouth_right) / 2 - (left + right) / 2,
    )
    direction = across + np.array([down[1], -down[0]])  # a quarter turn brings "down" to "across"
    length = float(np.hypot(*direction))
    if not length > 1e-6:
        raise DclipError(
            "landmarks: eyes and mouth are at one point, or the face is upside down in itself"
        )
    reach = max(2.0 * float(np.hypot(*across)), 1.8 * float(np.hypot(*down)))
    x = direction / length * reach
    return eyes + 0.1 * down, x, np.array([-x[1], x[0]])


def align(picture: Image.Image, landmarks: Points) -> Image.Image:
    """An RGB picture turned and cropped to the square around the face; beyond its borders it is mirrored and blurred."""
    centre, x, y = face_square(landmarks)
    side = 2 * float(np.hypot(*x))
    picture, offset = _around(picture, centre, x, y, side)
    size = int(np.clip(round(side), 1, LARGEST))
    corner, right, down = centre - x - y - offset, 2 * x / size, 2 * y / size
    maps = (
        right[0],
        down[0],
        corner[0],
        right[1],
        down[1],
        corner[1],
    )  # of a pixel of the result to the picture
    return picture.transform((size, size), Image.Transform.AFFINE, maps, Image.Resampling.BICUBIC)


def _around(
    picture: Image.Image, centre: Points, x: Points, y: Points, side: float
) -> tuple[Image.Image, Points]:
    """The part of the picture that the square needs, widened where it reaches beyond; and where that part begins [2]."""
    corners = np.stack([centre + a * x + b * y for a in (-1, 1) for b in (-1, 1)])
    border = max(3, round(0.1 * side))
    low = np.floor(corners.min(0)).astype(int) - border
    high = np.ceil(corners.max(0)).astype(int) + border
    start, end = np.maximum(low, 0), np.minimum(high, picture.size)
    if (start >= end).any():
        raise DclipError("landmarks lie outside the picture")
    part = picture.crop((*start.tolist(), *end.tolist()))
    beyond = np.maximum(np.concatenate([start - low, high - end]), 0)
    if beyond.max() <= border:  # only the border is not in the picture
        return part, start.astype(float)
    pad = np.maximum(beyond, round(0.3 * side))
    return _widened(part, pad, 0.02 * side), (start - pad[:2]).astype(float)


def _widened(picture: Image.Image, pad: NDArray[np.int64], blur: float) -> Image.Image:
    """Mirrored beyond its borders by ``pad`` (left, top, right, bottom) pixels, the more blurred and grey the further out."""
    left, top, right, bottom = pad.tolist()
    pixels = np.pad(
        np.asarray(picture, np.float32), ((top, bottom), (left, right), (0, 0)), "reflect"
    )
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    inward = np.minimum(
        np.minimum(columns / left, (width - 1 - columns) / right),
        np.minimum(rows / top, (height - 1 - rows) / bottom),
    )
    outside = (1 - inward)[
        ..., None
    ]  # 1 at the outer border, 0 where the picture begins, negative inside
    pixels += (gaussian_filter(pixels, (blur, blur, 0)) - pixels) * np.clip(3 * outside + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outside, 0, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# ---------------------------------------------------------------------------------------------------- where faces are


def read_landmarks(path: Path) -> dict[str, Points]:
    """Landmarks [K,2] by the picture's name, from JSON ({name: [[x, y], ...]}) or CSV (name,x,y,x,y,...). DclipError if odd."""
    try:
        if path.suffix.lower() == ".json":
            rows = dict(json.loads(path.read_text("utf-8")))
        else:
            lines = [line for line in csv.reader(path.read_text("utf-8").splitlines()) if line]
            rows = {line[0].strip(): line[1:] for line in lines if not _is_heading(line)}
        found = {
            name: np.asarray(values, np.float64).reshape(-1, 2) for name, values in rows.items()
        }
        return {name: four_points(points) for name, points in found.items()}
    except (ValueError, TypeError, DclipError) as error:
        raise DclipError(
            f"dataset.landmarks={path}: {error}; write name,x,y,x,y,... or JSON, with 4, 5 or 68 points"
        ) from error


def _is_heading(line: list[str]) -> bool:
    return len(line) > 1 and not line[1].strip().replace(".", "").lstrip("-").isdigit()


class Aligner:
    """Aligns pictures one by one, and says which face it took."""

    def __init__(self, known: Mapping[str, Points] | None = None) -> None:
        self.known = known
        self.detector: Any = None if known is not None else _detector()

    def __call__(self, name: str, picture: Image.Image) -> Image.Image:
        """The aligned picture. DclipError, with its name, where no face is known or found."""
        try:
            return align(
                picture,
                self._listed(name) if self.known is not None else self._found(name, picture),
            )
        except DclipError as error:
            raise DclipError(f"{name} cannot be aligned: {error}") from error

    def _listed(self, name: str) -> Points:
        assert self.known is not None
        key = next((alias for alias in aliases(name) if alias in self.known), None)
        if key is None:
            raise DclipError("it is not in dataset.landmarks")
        return self.known[key]

    def _found(self, name: str, picture: Image.Image) -> Points:
        boxes, sure, points = self.detector.detect(picture, landmarks=True)
        faces = [k for k in range(len(boxes)) if sure[k] >= SURE] if boxes is not None else []
        if not faces:
            raise DclipError("no face was found")
        largest = max(
            faces, key=lambda k: float((boxes[k][2] - boxes[k][0]) * (boxes[k][3] - boxes[k][1]))
        )
        x0, y0, x1, y1 = (round(float(v)) for v in boxes[largest])
        if len(faces) > 1:
            log.warning(
                "%s: %d faces, the largest is taken (x %d-%d, y %d-%d)",
                name,
                len(faces),
                x0,
                x1,
                y0,
                y1,
            )
        return four_points(np.asarray(points[largest], np.float64))


def _detector() -> Any:
    try:
        from facenet_pytorch import MTCNN
    except ImportError as error:
        raise DclipError(
            "dataset.align=true needs a face detector: pip install 'dclip[align]', or give dataset.landmarks"
        ) from error
    return MTCNN(keep_all=True, device="cpu")


def aligner(data: Dataset) -> Aligner | None:
    """What ``dataset.align`` asks for; None where pictures stay as they are."""
    if not data.align:
        return None
    return Aligner(read_landmarks(Path(data.landmarks)) if data.landmarks else None)
