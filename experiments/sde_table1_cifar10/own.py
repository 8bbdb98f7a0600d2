"""CLIP-guided sampling on CIFAR-10 with networks of one's own: classes x methods x {time, KID, probability of the class}.

    python -m experiments.sde_table1_cifar10.own --nets DIR [--classes airplane] [--methods contrastive] [setting=value ...]
    python -m experiments.sde_table1_cifar10.own --collect

``DIR`` holds cifar10_ddpm, cifar10_clip and cifar10_heldout.safetensors, as ``experiment=pretrain_cifar10_...`` writes them. All
methods start from the same noise and see the same step noise. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dclip.files import read_json
from experiments.grid import (
    ROOT,
    call,
    finished,
    markdown,
    note,
    over_seeds,
    save_picture,
    strips,
    write_csv,
)

HERE = Path(__file__).resolve().parent
STUDY = "sde_table1_cifar10_own"
BASE = [
    "experiment=cifar10_unconditional", "sampler.s_gen=25", "sampler.variance=fixed_small", "task.count=64", "task.paired=false",
    "metric.features=heldout", "logger=csv",
]  # fmt: skip
METHODS = {
    "unconditional": [],
    "contrastive": ["guidance=contrastive"],
    "spherical": ["guidance=spherical"],
}
METRICS = ("seconds_per_image", "p_target_guide", "p_target_heldout", "kid_10", "kid_50", "fid")


def collect(output: Path) -> None:
    """Write own.md, own.csv and a picture a class beside this file."""
    runs = finished(output, STUDY)
    if not runs:
        sys.exit(
            f"no finished runs under {output}; first: python -m experiments.sde_table1_cifar10.own --nets DIR"
        )
    categories = list(dict.fromkeys(category for category, _ in runs))
    table = []
    for category in categories:
        cells = {method: runs[category, method] for method in METHODS if (category, method) in runs}
        save_picture(HERE / f"{category}.png", strips(list(cells.values()), scale=2))
        for method, folder in cells.items():
            found = read_json(folder / "metrics.json")
            table.append(
                {"class": category, "method": method, "n": found["count"]}
                | over_seeds([found], METRICS)
            )
    (HERE / "own.md").write_text(markdown(table), "utf-8")
    write_csv(HERE / "own.csv", table)
    print(markdown(table))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="settings of every run")
    parser.add_argument("--nets", type=Path, help="folder of the three weights files")
    parser.add_argument("--classes", default="airplane,automobile")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / STUDY)
    parser.add_argument("--collect", action="store_true", help="only collect what was run")
    told = parser.parse_intermixed_args()
    if not told.collect:
        if told.nets is None:
            sys.exit(
                "give --nets DIR, the folder of cifar10_ddpm.safetensors, cifar10_clip.safetensors and cifar10_heldout.safetensors"
            )
        nets = {"checkpoint.name": "ddpm", "clip.name": "clip", "clip.heldout": "heldout"}
        files = [
            f"{setting}={told.nets / f'cifar10_{net}.safetensors'}" for setting, net in nets.items()
        ]
        done = finished(told.output, STUDY)
        for category in told.classes.split(","):
            for method in told.methods.split(","):
                if (category, method) not in done:
                    asked = [
                        f"dataset.category={category}",
                        f"guidance.targets={category}",
                        f"output={told.output}",
                    ]
                    call(
                        *BASE,
                        *METHODS[method],
                        *files,
                        *asked,
                        note(STUDY, category, method),
                        *told.words,
                    )
    collect(told.output)


if __name__ == "__main__":
    main()
