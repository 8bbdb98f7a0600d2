"""Every picture of a run by itself: before, after, the truth, what is wrong, and its numbers.

Read from the files of the run's folder; what a run of an older version did not keep is left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dclip.metrics.counterfactual import error_map
from dclip.metrics.names import higher_is_better, ordered
from dclip.pages.render import data_address
from dclip.record.runs import SOURCES, TRUTHS
from dclip.types import to_uint8

MOST = 120  # pictures that a page shows one by one
SIDE = 256  # pixels: larger pictures are shown smaller
LOSSLESS = 96  # pixels: up to this size a picture is shown bit by bit
TILE = ("before", "after", "picture")  # what the grid shows of every picture
GAIN = 3  # how much stronger a change is drawn than it is

# By what pictures are ordered at first: how near the truth, else what a CLIP sees, else what is left.
DISTANCE = "distance to the truth, untouched = 1"
FIRST = (DISTANCE, "s_dir_heldout", "s_dir", "p_target_heldout", "p_target_guide", "lpips", "mae")

Pixels = NDArray[np.uint8]  # [H,W,3]


@dataclass(frozen=True)
class View:
    """One picture of a face, with what it shows."""

    label: str
    address: str


@dataclass(frozen=True)
class Face:
    """One edited picture.

    Attributes:
        views: before, after, the truth and its errors, as far as they are known; addresses.
        numbers: metric -> its value, None where it means nothing for this picture.
        file: the edited picture's file, in the run's folder.
    """

    id: str
    views: Sequence[View]
    numbers: Mapping[str, float | None]
    file: str


@dataclass(frozen=True)
class Order:
    """A number that pictures can be ordered by; ``higher`` says which way is better, where known."""

    name: str
    higher: bool | None


@dataclass(frozen=True)
class Faces:
    """The pictures of a run that are shown one by one.

    Attributes:
        faces: in the run's order.
        orders: what they can be ordered by, the one that comes first first.
        count: how many pictures the run edited.
        chosen: the best, the median and the worst by the first order; empty of fewer than three.
        judged_by: the first order's name.
        tile: the views that the grid shows of every picture.
    """

    faces: Sequence[Face]
    orders: Sequence[Order]
    count: int
    chosen: Sequence[tuple[str, Face]]
    judged_by: str
    tile: Sequence[str] = TILE

    @property
    def has_errors(self) -> bool:
        """Whether an error map is among what is shown first."""
        labels = {view.label for _, face in self.chosen for view in face.views}
        return "errors" in labels

    @property
    def tiny(self) -> bool:
        """Whether pictures are so small that they are shown larger, pixel by pixel."""
        return all(face.views[0].address.startswith("data:image/png") for face in self.faces)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads; pictures that the page has anyway are None."""
        faces = []
        for face in self.faces:
            views = []
            for view in face.views:
                views.append([view.label, None if view.label in self.tile else view.address])
            numbers = list(face.numbers.items())
            faces.append({"id": face.id, "file": face.file, "views": views, "numbers": numbers})
        return {"faces": faces, "orders": [asdict(order) for order in self.orders]}


# ------------------------------------------------------------ numbers


def rows_of(folder: Path) -> dict[str, dict[str, float | None]]:
    """rows.csv: the numbers of every picture, by its id."""
    path = folder / "rows.csv"
    if not path.is_file():
        return {}
    rows = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        for line in csv.DictReader(stream):
            name = line.pop("image", "")
            rows[name] = _with_distance({key: _number(value) for key, value in line.items()})
    return rows


def _number(text: str | None) -> float | None:
    """A number, or None where there is none or it is not finite."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _with_distance(numbers: dict[str, float | None]) -> dict[str, float | None]:
    """A picture's numbers, and its distance to the truth as a share of the untouched one's."""
    distance, untouched = numbers.get("truth_distance"), numbers.get("truth_distance_untouched")
    if distance is None or not untouched:
        return numbers
    return {DISTANCE: round(distance / untouched, 6), **numbers}


def better_of(name: str) -> bool | None:
    """Whether more of a picture's number is better; None where that is not known."""
    if name in (DISTANCE, "truth_distance"):
        return False
    return higher_is_better(name)


def orders_of(faces: Sequence[Face]) -> list[Order]:
    """What pictures can be ordered by: numbers that differ between them."""
    names: dict[str, None] = {}
    for face in faces:
        names |= dict.fromkeys(face.numbers)
    first = [name for name in FIRST if name in names]
    listed = dict.fromkeys((*first, *ordered(names), *names))
    orders = []
    for name in listed:
        values = {face.numbers.get(name) for face in faces}
        if len(values - {None}) > 1:
            orders.append(Order(name, better_of(name)))
    return orders


def _ranked(faces: Sequence[Face], order: Order) -> list[Face]:
    """Those that have the number, the best first."""
    known = [face for face in faces if face.numbers.get(order.name) is not None]

    def value(face: Face) -> float:
        return face.numbers.get(order.name) or 0.0

    return sorted(known, key=value, reverse=bool(order.higher))


def best_median_worst(
    faces: Sequence[Face], orders: Sequence[Order]
) -> tuple[list[tuple[str, Face]], str]:
    """Three pictures that stand for all, and by which number; none of fewer than three pictures."""
    for order in orders:
        if order.higher is None:
            continue
        ranked = _ranked(faces, order)
        if len(ranked) < 3:
            continue
        middle = ranked[len(ranked) // 2]
        return [("best", ranked[0]), ("median", middle), ("worst", ranked[-1])], order.name
    return [], ""


# ------------------------------------------------------------ pictures


def pixels_of(path: Path) -> Pixels | None:
    """A picture's pixels; None where it is missing or damaged."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError:
        return None


def address_of(pixels: Pixels, sharp: bool = False, side: int = SIDE) -> str:
    """A picture as an address: small ones and maps bit by bit, others as WebP.

    Args:
        side: pixels; larger pictures are made smaller.
    """
    picture = Image.fromarray(pixels)
    if max(picture.size) > side:
        way = Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS
        picture.thumbnail((side, side), way)
    kind = "png" if sharp or max(picture.size) <= LOSSLESS else "webp"
    content = io.BytesIO()
    picture.save(content, kind, quality=88)
    return data_address(content.getvalue(), kind)


def _errors(after: Pixels, before: Pixels, truth: Pixels) -> Pixels:
    """Where an edit is right, where it spilled, what it missed (``counterfactual.error_map``)."""
    picture = error_map(_tensor(after), _tensor(before), _tensor(truth))[0]
    pixels: Pixels = to_uint8(picture).permute(1, 2, 0).numpy()
    return pixels


def _tensor(pixels: Pixels) -> Tensor:
    """float32 [1,3,H,W] in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def change_of(after: Pixels, before: Pixels) -> Pixels:
    """What an edit has changed, on white; drawn stronger than it is."""
    difference = np.abs(after.astype(np.int16) - before.astype(np.int16))
    pixels: Pixels = (255 - np.clip(GAIN * difference, 0, 255)).astype(np.uint8)
    return pixels


def views_of(after: Pixels, before: Pixels | None, truth: Pixels | None) -> list[View]:
    """What is shown of one picture; of other sizes than the edited one nothing is compared."""
    if before is None:
        return [View("picture", address_of(after))]
    views = [View("before", address_of(before)), View("after", address_of(after))]
    if before.shape != after.shape:
        return views
    if truth is None or truth.shape != after.shape:
        return [*views, View("change", address_of(change_of(after, before)))]
    errors = address_of(_errors(after, before, truth), sharp=True)
    return [*views, View("truth", address_of(truth)), View("errors", errors)]


# ------------------------------------------------------------ all of it


def faces_of(folder: Path) -> Faces:
    """The pictures of a run that are shown one by one, at most ``MOST``."""
    rows = rows_of(folder)
    files, faces = files_of(folder), []
    for file in files[:MOST]:
        after = pixels_of(file)
        if after is None:
            continue
        before = pixels_of(folder / SOURCES / file.name)
        truth = pixels_of(folder / TRUTHS / file.name)
        name = id_of(file)
        views = views_of(after, before, truth)
        faces.append(Face(name, views, rows.get(name, {}), f"samples/{file.name}"))
    orders = orders_of(faces)
    chosen, judged_by = best_median_worst(faces, orders)
    return Faces(faces, orders, max(len(files), len(rows)), chosen, judged_by)


def files_of(folder: Path) -> list[Path]:
    """The edited pictures of a run: in the order of rows.csv, then by name."""
    return sorted((folder / "samples").glob("image_*.png"), key=_listed(rows_of(folder)))


def id_of(file: Path) -> str:
    """A picture's id, as text: a file's name may be bytes that are none."""
    name = file.stem.removeprefix("image_")
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _listed(rows: Mapping[str, object]) -> Callable[[Path], tuple[int, str]]:
    """The order of files: as in rows.csv, then by name."""
    places = {name: place for place, name in enumerate(rows)}
    return lambda file: (places.get(id_of(file), len(places)), file.name)
