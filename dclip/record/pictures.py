"""Grids and strips of pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dclip.types import to_uint8

MARGIN = 92  # pixels for the row labels
GAP = 2  # pixels between images


def _tile(x: Tensor, scale: int) -> Image.Image:
    pixels = to_uint8(x).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def grid_picture(rows: Sequence[tuple[str, Tensor]], most: int = 12) -> Image.Image:
    """Rows of images, each with its label, one column a person. Tensors: [N,3,H,W] in [-1, 1].

    A label without a line break is broken at its first space.
    """
    side = rows[0][1].shape[-1]
    scale = max(1, round(96 / side))
    size, count = side * scale, min(most, len(rows[0][1]))
    pitch = size + GAP
    canvas = Image.new("RGB", (MARGIN + count * pitch, len(rows) * pitch), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for y, (label, images) in enumerate(rows):
        middle = y * pitch + size // 2 - 8
        broken = label if "\n" in label else label.replace(" ", "\n", 1)
        pen.multiline_text((4, middle), broken, "black", font)
        for x in range(count):
            canvas.paste(_tile(images[x], scale), (MARGIN + x * pitch, y * pitch))
    return canvas


def with_legend(picture: Image.Image, colors: Mapping[str, tuple[int, int, int]]) -> Image.Image:
    """A picture with a line below it that says what its colours mean."""
    font, box, gap = ImageFont.load_default(13), 12, 16
    widths = {text: round(font.getlength(text)) for text in colors}
    needed = sum(widths.values()) + len(colors) * (box + 6 + gap)
    canvas = Image.new("RGB", (max(picture.width, needed), picture.height + 24), "white")
    canvas.paste(picture)
    pen, x, y = ImageDraw.Draw(canvas), 4, picture.height + 6
    for text, color in colors.items():
        pen.rectangle((x, y, x + box, y + box), color, "grey")
        pen.text((x + box + 6, y - 2), text, "black", font)
        x += box + 6 + widths[text] + gap
    return canvas


def overlaid(images: Tensor, region: Tensor) -> Tensor:
    """A region [N,1,H,W] in [0, 1] over images [N,3,H,W]: outside of it they are grey and pale."""
    grey = images.mean(1, keepdim=True) * 0.4 + 0.3
    return region * images + (1 - region) * grey


def sheet_picture(images: Tensor, columns: int = 8, scale: int = 1) -> Image.Image:
    """Images [N,3,H,W] in [-1, 1] side by side, ``columns`` a row."""
    pitch = images.shape[-1] * scale + GAP
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * pitch, rows * pitch), "white")
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        canvas.paste(_tile(image, scale), (column * pitch, row * pitch))
    return canvas


def trace_picture(rows: Sequence[dict[str, Any]], title: str) -> Image.Image:
    """Probability of a target (bold) and its distractors while sampling, from noise to image.

    Rows hold ``t``, ``text``, ``mean`` (the probability) and ``target`` (whether it is one).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for text in dict.fromkeys(row["text"] for row in rows):
        points = [row for row in rows if row["text"] == text]
        axes.plot(
            [point["t"] for point in points],
            [point["mean"] for point in points],
            label=text,
            linewidth=2.6 if points[0]["target"] else 1.1,
            marker="." if len(points) < 15 else None,
        )
    axes.set(title=title, xlabel="t", ylabel="probability", ylim=(-0.02, 1.02))
    axes.invert_xaxis()
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")
