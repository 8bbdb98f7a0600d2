"""Photographs turned and cropped around a face, as FFHQ's were (Karras, Laine, Aila 2019).

Models of faces know them so. Only eyes and mouth matter: they come from a file of landmarks, or
from a detector, MTCNN (Zhang et al. 2016) in the package facenet-pytorch, whose wheel holds the
weights.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclip.config import Dataset
from dclip.data.pools import aliases
from dclip.errors import DclipError

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

log = logging.getLogger("dclip")

Points = NDArray[np.float64]

SURE = 0.9  # the detector's probability from which a face is one
LARGEST = 2048  # pixels of an aligned picture


# ----------------------------------------------------------------------------------------- geometry


def four_points(landmarks: Points) -> Points:
    """Eyes and mouth corners [4,2], left before right as one sees them, from landmarks [K,2].

    K = 4 (these), 5 (with the nose in the middle, as MTCNN finds them) or 68 (iBUG's scheme, dlib).
    DclipError otherwise.
    """
    if landmarks.ndim != 2 or landmarks.shape[1:] != (2,) or len(landmarks) not in (4, 5, 68):
        raise DclipError(
            f"landmarks must be 4, 5 or 68 points of two numbers, not {list(landmarks.shape)}"
        )
    if len(landmarks) == 4:
        return landmarks
    if len(landmarks) == 5:
        return landmarks[[0, 1, 3, 4]]
    left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    return np.stack([left, right, landmarks[48], landmarks[54]])


def face_square(landmarks: Points) -> tuple[Points, Points, Points]:
    """Centre [2] of FFHQ's crop, and the vectors [2] from there to its right and lower side.

    The square is as wide as 4 distances between the eyes or 3.6 from eyes to mouth, whichever is
    more, and turned with the face: half by the line of the eyes, half by that from eyes to mouth.
    """
    left, right, mouth_left, mouth_right = four_points(landmarks)
    eyes = (left + right) / 2
    across = right - left
    down = (mouth_left + mouth_right) / 2 - eyes
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
    """An RGB picture turned and cropped to the square around the face.

    Beyond its borders it is mirrored and blurred.
    """
    centre, x, y = face_square(landmarks)
    side = 2 * float(np.hypot(*x))
    picture, offset = _around(picture, centre, x, y, side)
    size = int(np.clip(round(side), 1, LARGEST))
    corner, right, down = centre - x - y - offset, 2 * x / size, 2 * y / size
    # from a pixel of the result to the picture
    matrix = (right[0], down[0], corner[0], right[1], down[1], corner[1])
    return picture.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _around(
    picture: Image.Image, centre: Points, x: Points, y: Points, side: float
) -> tuple[Image.Image, Points]:
    """The part of the picture that the square needs, and where that part begins [2].

    Where the square reaches beyond the picture, the part is widened.
    """
    corners = np.stack([centre - x - y, centre - x + y, centre + x - y, centre + x + y])
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
    """Mirrored beyond its borders by ``pad`` (left, top, right, bottom) pixels.

    The further out, the more blurred and grey.
    """
    left, top, right, bottom = pad.tolist()
    pixels = np.pad(
        np.asarray(picture, np.float32), ((top, bottom), (left, right), (0, 0)), "reflect"
    )
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    across = np.minimum(columns / left, (width - 1 - columns) / right)
    along = np.minimum(rows / top, (height - 1 - rows) / bottom)
    # 1 at the outer border, 0 where the picture begins, negative inside
    outside = (1 - np.minimum(across, along))[..., None]
    from scipy.ndimage import gaussian_filter

    pixels += (gaussian_filter(pixels, (blur, blur, 0)) - pixels) * np.clip(3 * outside + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outside, 0, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# ---------------------------------------------------------------------------------- where faces are


def read_landmarks(path: Path) -> dict[str, Points]:
    """Landmarks [4,2] by name, from JSON ({name: [[x, y], ...]}) or CSV (name,x,y,x,y,...).

    DclipError for a file of another kind.
    """
    landmarks: dict[str, Points] = {}
    try:
        for name, values in _landmark_rows(path).items():
            landmarks[name] = four_points(np.asarray(values, np.float64).reshape(-1, 2))
    except (ValueError, TypeError, DclipError) as error:
        raise DclipError(
            f"dataset.landmarks={path}: {error}; "
            "write name,x,y,x,y,... or JSON, with 4, 5 or 68 points"
        ) from error
    return landmarks


def _landmark_rows(path: Path) -> Mapping[str, Sequence[object]]:
    """What the file says of every picture."""
    text = path.read_text("utf-8")
    if path.suffix.lower() == ".json":
        return dict(json.loads(text))
    rows: dict[str, Sequence[object]] = {}
    lines = [line for line in csv.reader(text.splitlines()) if line]
    for line in lines[1:] if lines and _is_heading(lines[0]) else lines:
        rows[line[0].strip()] = line[1:]
    return rows


def _is_heading(line: list[str]) -> bool:
    """Whether a line names its columns: the second is no number."""
    if len(line) < 2:
        return False
    try:
        float(line[1])
    except ValueError:
        return True
    return False


class Aligner:
    """Aligns pictures one by one, and says which face it took."""

    def __init__(self, landmarks: Mapping[str, Points] | None = None) -> None:
        """Without ``landmarks`` a detector looks for the faces.

        DclipError if it is not installed.
        """
        self.landmarks = landmarks
        self.detector = _detector() if landmarks is None else None

    def __call__(self, name: str, picture: Image.Image) -> Image.Image:
        """The aligned picture. DclipError, with its name, where no face is known or found."""
        try:
            return align(picture, self._points(name, picture))
        except DclipError as error:
            raise DclipError(f"{name} cannot be aligned: {error}") from error

    def _points(self, name: str, picture: Image.Image) -> Points:
        if self.detector is not None:
            return _detected(self.detector, name, picture)
        for alias in aliases(name):
            if self.landmarks is not None and alias in self.landmarks:
                return self.landmarks[alias]
        raise DclipError("it is not in dataset.landmarks")


def _detected(detector: MTCNN, name: str, picture: Image.Image) -> Points:
    """Landmarks of the largest face."""
    boxes, probabilities, points = detector.detect(picture, landmarks=True)
    faces: list[int] = []
    if boxes is not None:
        faces = [k for k in range(len(boxes)) if probabilities[k] >= SURE]
    if not faces:
        raise DclipError("no face was found")
    largest = max(faces, key=lambda k: _area(boxes[k]))
    if len(faces) > 1:
        x0, y0, x1, y1 = (round(float(v)) for v in boxes[largest])
        place = f"x {x0}-{x1}, y {y0}-{y1}"
        log.warning("%s: %d faces, the largest is taken (%s)", name, len(faces), place)
    return four_points(np.asarray(points[largest], np.float64))


def _area(box: Points) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _detector() -> MTCNN:
    try:
        from facenet_pytorch import MTCNN
    except ImportError as error:
        raise DclipError(
            "dataset.align=true needs a face detector: "
            "pip install 'dclip[align]', or give dataset.landmarks"
        ) from error
    return MTCNN(keep_all=True, device="cpu")


def aligner(data: Dataset) -> Aligner | None:
    """What ``dataset.align`` asks for; None where pictures stay as they are."""
    if not data.align:
        return None
    if data.landmarks:
        return Aligner(read_landmarks(Path(data.landmarks)))
    return Aligner()
