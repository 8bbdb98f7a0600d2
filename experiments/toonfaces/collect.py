"""Collect the runs of ``study=toonfaces_table5`` into a table and one picture.

    python experiments/toonfaces/collect.py [outputs/studies/toonfaces_table5]

The newest finished run of every edit on 100 test faces counts. Writes table.md, table.csv and edits.png beside this file.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from dclip.data.toonfaces import TRUTHS
from dclip.metrics.functional import HIGHER_IS_BETTER
from dclip.tracking import read_json

HERE = Path(__file__).resolve().parent
METRICS = (
    "judge_success",
    "judge_preservation",
    "counterfactual_ratio",
    "s_dir",
    "s_dir_heldout",
    "id",
    "sc",
    "mae",
    "kid",
    "seconds_adapt",
)
SETTINGS = {
    "t0": "sampler.t0",
    "objective": "method.objective",
    "lr": "method.lr",
    "epochs": "method.epochs",
    "images": "dataset.train",
    "clip": "loss.clip",
    "shift": "loss.shift",
    "margin": "loss.margin",
    "l1": "loss.l1",
    "id weight": "loss.id",
}
SHOWN = ("red_hair", "zombie", "tanned", "beard")


def newest_runs(outputs: Path) -> dict[str, Path]:
    """Edit -> its newest finished run on 100 test faces."""
    runs: dict[str, Path] = {}
    for status in sorted(outputs.glob("finetune_*/*/status.json")):
        folder = status.parent
        config: Any = OmegaConf.load(folder / "config.yaml")
        if read_json(status).get("status") == "finished" and config.dataset.test == 100:
            runs[config.edit.name] = folder
    return {name: runs[name] for name in TRUTHS if name in runs}


def rows(runs: dict[str, Path]) -> list[dict[str, Any]]:
    """One line an edit: its scores and the settings that made them."""
    table = []
    for name, folder in runs.items():
        metrics, config = read_json(folder / "metrics.json"), OmegaConf.load(folder / "config.yaml")
        scores = {m: metrics.get(m, "-") for m in METRICS}
        table.append(
            {"edit": name, "n": metrics["images"], **scores, **{k: OmegaConf.select(config, path) for k, path in SETTINGS.items()}}
        )
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    """The table, with an arrow for the better direction."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    arrows = {True: " ↑", False: " ↓"}
    heads = [k + (arrows[HIGHER_IS_BETTER[k]] if k in HIGHER_IS_BETTER else "") for k in table[0]]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row.values())) + " |" for row in table]) + "\n"


def montage(runs: dict[str, Path]) -> Image.Image:
    """The before / after / truth pictures of a few edits below each other."""
    pictures = [Image.open(runs[name] / "samples" / "before_after.png") for name in SHOWN if name in runs]
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height + 10 for p in pictures)), "white")
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height + 10
    return canvas


def main() -> None:
    runs = newest_runs(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/studies/toonfaces_table5"))
    if not runs:
        sys.exit("no finished runs on 100 test faces; first: python run.py study=toonfaces_table5")
    table = rows(runs)
    (HERE / "table.md").write_text(markdown(table), "utf-8")
    with (HERE / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    montage(runs).save(HERE / "edits.png")
    print(markdown(table))


if __name__ == "__main__":
    main()
