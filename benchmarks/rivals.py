"""Settings of the leaderboard's rivals, tried on validation faces.

    python benchmarks/rivals.py [--faces 8] [--edits red_hair beard] [--methods h-Edit ...]

One setting a method is tried at a few values; the others are those of conf/study/benchmark.yaml.
Writes a line a trial to experiments/benchmark/tuning.csv and leaves out what is there, so a command
that was stopped goes on. ``edit.degree`` is how much of a learned edit is applied: 1 as it was
learned. Pictures lie in outputs/rivals.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from dclip.config import Config
from dclip.data.toonfaces import options
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import Truth
from dclip.files import read_json, write_rows
from dclip.models.networks import build_networks
from dclip.pipeline import TASKS
from dclip.prepare.compose import configured
from dclip.prepare.networks import networks
from dclip.record.record import recording
from dclip.run import Run
from dclip.runtime import parallel
from dclip.study.grid import read_study
from dclip.types import Images

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "experiments" / "benchmark" / "tuning.csv"
OUTPUT = Path("outputs") / "rivals"
SCORES = (
    "counterfactual_ratio",
    "closer",
    "judge_success",
    "judge_preservation",
    "preservation_accuracy",
)
COLUMNS = ("method", "edit", "setting", "value", "as_listed", "faces", "truth_score", *SCORES)


@dataclass(frozen=True)
class Rival:
    """A method of the study and the setting that is tried; ``used`` is what the leaderboard has.

    Attributes:
        learned: the edit is learned once, by the study's settings, and applied at each value.
        quick: it is one of dclip's own, learned with preset=quick.
    """

    setting: str
    values: Sequence[float]
    used: float
    learned: bool = False
    quick: bool = False


RIVALS = {
    "guided, directional": Rival("guidance.scale", (0.1, 0.3, 0.5, 1), 0.5),
    "guided, contrastive": Rival("guidance.scale", (0.1, 0.2, 0.3, 0.6), 0.3),
    "guided, spherical": Rival("guidance.scale", (0.1, 0.2, 0.3, 0.6), 0.3),
    "SDEdit, guided": Rival("sampler.t0", (100, 200, 300, 500), 500),
    "h-Edit": Rival("method.scale", (3, 6, 10, 20), 10),
    "supervised h-direction": Rival("edit.degree", (0.1, 0.3, 1, 1.6), 1, learned=True),
    "supervised h-boundary": Rival("edit.degree", (0.1, 0.3, 1, 1.6), 1, learned=True),
    "Asyrp": Rival("edit.degree", (0.3, 0.6, 1, 1.5), 1, learned=True),
    "FlowEdit": Rival("edit.degree", (0.25, 0.5, 0.75, 1), 1, learned=True, quick=True),
    "InfEdit": Rival("edit.degree", (0.25, 0.5, 0.75, 1), 1, learned=True, quick=True),
}


def _validation_faces(
    self: options.ToonFaces, split: str, size: int, truth: Truth | None
) -> Images:
    """In place of ``ToonFaces._draw``: validation faces are what is edited and measured."""
    drawn = "validation" if split == "test" else split
    return toonfaces(drawn, self.count(split), truth, self.domain)


def settings_of(method: str, edit: str) -> list[str]:
    """What the study runs for one cell."""
    for job in read_study("benchmark").jobs:
        if dict(job.row) == {"method": method, "edit": edit}:
            return list(job.settings)
    raise SystemExit(f"the study has no {method} of {edit}")


def run(words: Sequence[str]) -> tuple[Path, dict[str, object]]:
    """One run without a report: its folder and its scores."""
    cfg: Config = configured([*words, f"output={OUTPUT}", "logger=csv", "trainer.progress=false"])
    parallel.begin(cfg.trainer.threads)
    with recording(cfg) as record, patch.object(options.ToonFaces, "_draw", _validation_faces):
        TASKS[type(cfg.task)](Run(cfg, build_networks(cfg, networks(cfg)), record))
    return record.folder, read_json(record.folder / "metrics.json")


def trials(method: str, edit: str, faces: int, done: set[str]) -> Iterator[dict[str, object]]:
    """A line for every value that was not tried yet."""
    rival = RIVALS[method]
    open_values = [value for value in rival.values if str(value) not in done]
    if not open_values:
        return
    settings = [*settings_of(method, edit), f"dataset.test={faces}"]
    if rival.quick:
        learning = [f"experiment=toonfaces_{edit}", "preset=quick", "degrees=[]", "dataset.test=1"]
        folder = run(learning)[0]
        settings = [word.replace(f"{{{edit}}}", str(folder)) for word in settings]
    elif rival.learned:
        folder = run([*settings, "dataset.test=1"])[0]
        region = [word for word in settings if word.startswith("edit.region=")]
        settings = ["task=edit", f"edit.adapter={folder}", *region, f"dataset.test={faces}"]
        settings += ["degrees=[]", "metric.kid=false", "seed=0"]
    elif "task=sample" in settings:
        settings.append("task.paired=false")
    for value in open_values:
        scores = run([*settings, f"{rival.setting}={value}"])[1]
        ratio = scores["counterfactual_ratio"]
        assert isinstance(ratio, float)
        line = {name: scores.get(name, "") for name in SCORES}
        yield {
            **dict(zip(COLUMNS, (method, edit, rival.setting, value), strict=False)),
            "as_listed": value == rival.used,
            "faces": faces,
            "truth_score": round(1 - ratio, 4),
            **line,
        }


def main() -> None:
    """Try what is not in the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--edits", nargs="+", default=["red_hair", "beard"])
    parser.add_argument("--methods", nargs="+", default=list(RIVALS), choices=list(RIVALS))
    args = parser.parse_args()
    lines: list[dict[str, object]] = []
    if TABLE.is_file():
        with TABLE.open(newline="", encoding="utf-8") as stream:
            lines += csv.DictReader(stream)
    for method in args.methods:
        for edit in args.edits:
            done = {
                str(line["value"])
                for line in lines
                if (line["method"], line["edit"], str(line["faces"]))
                == (method, edit, str(args.faces))
            }
            for line in trials(method, edit, args.faces, done):
                lines.append(line)
                print(", ".join(f"{name} {value}" for name, value in line.items()), flush=True)
                write_rows(TABLE, {name: [one[name] for one in lines] for name in COLUMNS})


if __name__ == "__main__":
    main()
