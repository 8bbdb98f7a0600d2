"""What the experiments' scripts share: run cells that are not finished, find finished ones, write tables."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from dclip.files import read_json
from dclip.metrics.names import arrow

ROOT = Path(__file__).resolve().parent.parent


def call(*words: str) -> None:
    """One run, in a process of its own, so that its peak memory and its time are its own."""
    print("run.py", *words, flush=True)
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True)


def finished(output: Path, study: str) -> dict[tuple[str, ...], Path]:
    """What the notes of finished runs say after ``study /``, part by part -> the newest such run."""
    runs: dict[tuple[str, ...], Path] = {}
    for status in sorted(output.glob("*/*/status.json")):
        config: Any = OmegaConf.load(status.parent / "config.yaml")
        head, *cell = str(config.note).split(" / ")
        if read_json(status).get("status") == "finished" and head == study:
            runs[tuple(cell)] = status.parent
    return runs


def note(study: str, *cell: object) -> str:
    """The word of a command line that ``finished`` recognises."""
    return f"note='{' / '.join([study, *map(str, cell)])}'"


def over_seeds(found: Sequence[dict[str, Any]], metrics: Iterable[str]) -> dict[str, Any]:
    """Each metric's mean over runs, and as NAME_std its spread; "-" where there is none."""
    line: dict[str, Any] = {}
    for metric in metrics:
        values = [m[metric] for m in found if metric in m]
        line[metric] = mean(values) if values else "-"
        line[f"{metric}_std"] = stdev(values) if len(values) > 1 else "-"
    return line


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table, with an arrow for the better direction; mean ± standard deviation where there is one."""

    def cell(line: dict[str, Any], key: str) -> str:
        value, spread = line[key], line.get(f"{key}_std", "-")
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        return f"{text} ±{spread:.2g}" if isinstance(spread, float) else text

    keys = [k for k in table[0] if not k.endswith("_std")]
    heads = [f"{key} {arrow(key)}".rstrip() for key in keys]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return (
        "\n".join(lines + ["| " + " | ".join(cell(line, k) for k in keys) + " |" for line in table])
        + "\n"
    )


def with_kept(
    path: Path, table: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The table, and the lines of an earlier one at ``path`` that it lacks or has from fewer seeds; ``names`` tell lines apart."""
    lines = {tuple(str(line[name]) for name in names): line for line in table}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            for old in csv.DictReader(stream):
                new = lines.get(key := tuple(old[name] for name in names))
                if new is None or int(old.get("seeds", 0)) > int(new.get("seeds", 0)):
                    lines[key] = {k: value(v) for k, v in old.items()}
    return list(lines.values())


def value(text: str) -> Any:
    """A cell of a CSV file as a number, where it is one."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def strips(folders: Sequence[Path], scale: int = 1) -> Image.Image:
    """The first sixteen samples of every run, one row a run: columns share their noise."""
    rows = [
        [Image.open(f) for f in sorted((folder / "samples").glob("image_*.png"))[:16]]
        for folder in folders
    ]
    side = scale * rows[0][0].width
    canvas = Image.new("RGB", (16 * (side + 2), len(rows) * (side + 2)), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(
                picture.resize((side, side), Image.Resampling.NEAREST),
                (x * (side + 2), y * (side + 2)),
            )
    return canvas


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture unless the one that is there has more rows, of an earlier run."""
    if not path.is_file() or Image.open(path).height <= picture.height:
        picture.save(path)


def write_csv(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """All columns of the table's first line."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
