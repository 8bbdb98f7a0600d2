"""Choose an edit's hyper-parameters on the validation split: fine-tune with each setting, score validation faces only.

    python experiments/toonfaces/tune.py red_hair sampler.t0=400,500 loss.l1=1,3 [...]

Prints one line a setting and appends it to tuning.csv in the folder of ``--output`` (default: outputs/tuning).
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from pathlib import Path

import torch
from dclip.edits.editor import generate
from hydra import compose, initialize_config_dir

from dclip.config import Config
from dclip.data.domains import true_images, truth_of
from dclip.data.load import load_images
from dclip.encode.invert import encode
from dclip.methods.diffusionclip.fit import adapt
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.models.networks import build_networks
from dclip.prepare.checks import to_config
from dclip.prepare.compose import CONF
from dclip.record.pictures import grid_picture
from dclip.record.record import Record
from dclip.types import Edited

FACES = 40  # validation faces that score a setting
FIXED = [
    "logger=csv",
    "metric.lpips=false",
    "metric.kid=false",
    f"dataset.validation={FACES}",
    "trainer.progress=false",
]


def score(cfg: Config, folder: Path) -> dict[str, float]:
    """Fine-tune once; the scores of the validation faces."""
    networks = build_networks(cfg)
    images = {split: load_images(cfg, split, 64) for split in ("train", "validation")}
    latents = {split: encode(cfg, networks.model, part, split) for split, part in images.items()}
    nothing = {"train": images["train"], "validation": images["validation"].take([])}
    record = Record(folder, cfg, resumed=False)
    start = time.perf_counter()
    adapt(cfg, record, networks, nothing, {**latents, "validation": latents["validation"][:0]})
    seconds = time.perf_counter() - start
    model, held = networks.model, images["validation"]
    with torch.no_grad():
        result = generate(cfg, model, model.predict, held, latents["validation"])
    truth = truth_of(cfg)
    edited = Edited(held, result, true_images(held, truth))
    values = measure(
        edited, cfg.metric, Scorers.of(networks), (cfg.edit.source, cfg.edit.target), truth
    ).values
    rows = [("source", held.pixels), ("edited", result)] + (
        [("truth", edited.truth)] if edited.truth is not None else []
    )
    record.picture("validation", grid_picture(rows))
    return {"seconds": seconds, **{k: v for k, v in values.items() if isinstance(v, float)}}


def main() -> None:
    name, *words = sys.argv[1:]
    grid = [
        [f"{word.split('=')[0]}={value}" for value in word.split("=")[1].split(",")]
        for word in words
    ]
    output = Path("outputs/tuning")
    for number, setting in enumerate(itertools.product(*grid)):
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            cfg = to_config(
                compose("config", overrides=[f"experiment=toonfaces_{name}", *FIXED, *setting])
            )
        folder = output / f"{name}_{time.strftime('%H%M%S')}_{number}"
        folder.mkdir(parents=True)
        values = score(cfg, folder)
        shown = (
            "judge_success",
            "judge_preservation",
            "counterfactual_ratio",
            "s_dir",
            "s_dir_heldout",
            "id",
            "seconds",
        )
        print(
            name,
            *setting,
            *(f"{k.removeprefix('judge_')}={values[k]:.3f}" for k in shown if k in values),
            flush=True,
        )
        with (output / "tuning.csv").open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow(
                [name, *setting, *(f"{k}={v:.4f}" for k, v in values.items())]
            )


if __name__ == "__main__":
    main()
