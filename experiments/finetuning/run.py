"""Every fine-tuning objective at equal budgets: run the grid, then collect it into a table.

    python -m experiments.finetuning.run [red_hair,zombie] [--presets chain,onestep_lora] [--seeds 0,1,2] [--budget 1,0.25]
                                          [setting=value ...]
    python -m experiments.finetuning.run --collect

A budget of 1 is what the edit's own experiment (conf/experiment/toonfaces_EDIT.yaml) spends on the chain, counted in network
calls: one call forward is 1, one backward 2. Every objective gets as many epochs as that allows. A cell that is finished is not
run again. Each cell is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from dclip.files import read_json
from dclip.prepare.compose import CONF
from experiments.grid import (
    ROOT,
    call,
    finished,
    markdown,
    note,
    over_seeds,
    save_picture,
    with_kept,
    write_csv,
)

HERE = Path(__file__).resolve().parent
Cells = dict[tuple[str, str, float, int], Path]
EDITS = "red_hair,zombie"
PRESETS = "chain,chain_checkpointed,gpu_efficient,gpu_efficient_faithful,last_k,annealed,onestep,onestep_invert,lora,onestep_lora"
METRICS = (
    "seconds_adapt", "peak_memory_mb", "file_mb", "judge_success", "judge_preservation", "counterfactual_ratio",
    "s_dir", "s_dir_heldout", "id", "sc", "mae",
)  # fmt: skip


def calls(preset: str, steps: int) -> float:
    """Cost of one batch in forward calls of the network; a backward counts 2."""
    costs = {
        "chain_checkpointed": 4 * steps,
        "last_k": steps + 2,
        "annealed": steps + 2 * (steps + 1) / 2,
    }
    return 3 if preset.startswith("onestep") else costs.get(preset, 3 * steps)


def epochs(edit: str, preset: str, budget: float) -> int:
    """How many epochs the budget allows this objective."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        method = compose("config", overrides=[f"experiment=toonfaces_{edit}"]).method
    return max(
        1, round(method.epochs * budget * 3 * method.s_train / calls(preset, method.s_train))
    )


def cells(output: Path) -> Cells:
    """(edit, preset, budget, seed) -> its newest finished run."""
    found = finished(output, "finetuning")
    return {
        (edit, preset, float(budget), int(seed)): folder
        for (edit, preset, budget, seed), folder in found.items()
    }


def run_cell(
    output: Path, edit: str, preset: str, budget: float, seed: int, more: list[str]
) -> None:
    """One process: one edit learned, applied to 100 test faces, measured."""
    words = [
        f"experiment=toonfaces_{edit}", f"preset={preset}", f"method.epochs={epochs(edit, preset, budget)}", f"seed={seed}",
        "dataset.test=100", "logger=csv", f"name={edit}_{preset}", f"output={output}",
        note("finetuning", edit, preset, f"{budget:g}", seed), *more,
    ]  # fmt: skip
    call(*words)


def rows(runs: Cells) -> list[dict[str, Any]]:
    """One line an edit, objective and budget: mean and spread over seeds. What was not run anew stays as it was."""
    groups: dict[tuple[str, str, float], list[Path]] = defaultdict(list)
    for (edit, preset, budget, _), folder in runs.items():
        groups[edit, preset, budget].append(folder)
    order = PRESETS.split(",")
    table = []
    for (edit, preset, budget), folders in sorted(
        groups.items(), key=lambda c: (c[0][0], order.index(c[0][1]), -c[0][2])
    ):
        found = [read_json(f / "metrics.json") for f in folders]
        for metrics, folder in zip(found, folders, strict=True):
            metrics["file_mb"] = (folder / "adapter.safetensors").stat().st_size / 1e6
        config: Any = OmegaConf.load(folders[0] / "config.yaml")
        line: dict[str, Any] = {
            "edit": edit,
            "objective": preset,
            "budget": budget,
            "epochs": config.method.epochs,
        }
        line |= {"n": found[0]["images"], "seeds": len(found)}
        table.append(line | over_seeds(found, METRICS))
    kept = with_kept(HERE / "table.csv", table, ("edit", "objective", "budget"))
    return sorted(
        kept,
        key=lambda line: (line["edit"], order.index(line["objective"]), -float(line["budget"])),
    )


def montage(runs: Cells, edit: str) -> Image.Image:
    """Before / after / truth of every objective at the largest budget, first seed, below each other."""
    chosen: dict[str, Path] = {}
    for (name, preset, _, _), folder in sorted(runs.items(), key=lambda r: (r[0][2], -r[0][3])):
        if name == edit:
            chosen[preset] = folder
    shown = [chosen[p] for p in PRESETS.split(",") if p in chosen]
    pictures = [Image.open(folder / "samples" / "before_after.png") for folder in shown]
    canvas = Image.new(
        "RGB", (max(p.width for p in pictures), sum(p.height + 10 for p in pictures)), "white"
    )
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height + 10
    return canvas


def collect(output: Path) -> None:
    """Write table.md, table.csv and a picture an edit beside this file."""
    runs = cells(output)
    if not runs:
        sys.exit(f"no finished runs under {output}; first: python -m experiments.finetuning.run")
    table = rows(runs)
    (HERE / "table.md").write_text(markdown(table), "utf-8")
    write_csv(HERE / "table.csv", table)
    for edit in {key[0] for key in runs}:
        save_picture(HERE / f"{edit}.png", montage(runs, edit))
    print(markdown(table))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words", nargs="*", help="edits (comma-separated), then settings of every run"
    )
    parser.add_argument("--presets", default=PRESETS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", default="1")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "finetuning")
    parser.add_argument("--collect", action="store_true", help="only collect what was run")
    told = parser.parse_intermixed_args()
    edits = [w for w in told.words if "=" not in w] or [EDITS]
    if not told.collect:
        done = cells(told.output)
        for seed in map(int, told.seeds.split(",")):
            for budget in map(float, told.budget.split(",")):
                for edit in edits[0].split(","):
                    for preset in told.presets.split(","):
                        if (edit, preset, budget, seed) not in done:
                            run_cell(
                                told.output,
                                edit,
                                preset,
                                budget,
                                seed,
                                [w for w in told.words if "=" in w],
                            )
    collect(told.output)


if __name__ == "__main__":
    main()
