"""Pictures of a study's runs, put together: one row of the table below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.files import atomic_save
from dclip.record.identity import slug
from dclip.study.grid import Pictures
from dclip.study.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

STRIP = 16  # samples of a run that are shown
GAP = 2  # pixels between them
LABEL = 24  # pixels for a row's label


def write_sheets(progress: Progress, pictures: Pictures) -> None:
    """Write pictures.png, or one file a value of ``pictures.each``.

    They show the first finished run of every row. In experiments/, a sheet of more rows that lies
    there is left alone.
    """
    sheets: dict[str, dict[str, Image]] = {}
    for job in progress.study.jobs:
        key = dict(job.row)
        name = slug(key.pop(pictures.each, "pictures"))
        label = " ".join(key.values())
        run = progress.of(job).done
        rows = sheets.setdefault(name, {})
        if run is None or label in rows:
            continue
        picture = _picture(run.folder / "samples", pictures.of)
        if picture is not None:
            rows[label] = picture
    for name, rows in sheets.items():
        if rows:
            path = progress.folders.table / f"{name}.png"
            _save(stacked(rows), path, progress.folders.published)


def _picture(samples: Path, of: str) -> Image | None:
    from PIL import Image

    if of == "samples":
        files = sorted(samples.glob("image_*.png"))[:STRIP]
        return _strip(list(map(Image.open, files))) if files else None
    file = samples / "before_after.png"
    return Image.open(file).convert("RGB") if file.is_file() else None


def _strip(images: Sequence[Image]) -> Image:
    """Images of one size side by side; columns of different runs share their noise."""
    from PIL import Image

    width, height = images[0].size
    canvas = Image.new("RGB", (len(images) * (width + GAP), height + GAP), "white")
    for k, image in enumerate(images):
        canvas.paste(image, (k * (width + GAP), 0))
    return canvas


def stacked(rows: dict[str, Image]) -> Image:
    """Pictures below each other, each under its label."""
    from PIL import Image, ImageDraw, ImageFont

    width = height = 0
    for picture in rows.values():
        width = max(width, picture.width)
        height += picture.height + LABEL + GAP
    canvas = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(canvas), 0
    for label, picture in rows.items():
        pen.text((4, top + 4), label, "black", ImageFont.load_default(14))
        canvas.paste(picture, (0, top + LABEL))
        top += picture.height + LABEL + GAP
    return canvas


def _save(sheet: Image, path: Path, keep_larger: bool) -> None:
    from PIL import Image

    if keep_larger and path.is_file():
        with Image.open(path) as earlier:
            if earlier.height > sheet.height:
                return
    atomic_save(path, sheet.save)
