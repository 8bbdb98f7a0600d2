"""Reconstruction error against network calls for every solver: invert test faces to t0, generate them again, compare.

    python experiments/solvers/run.py [--faces 24] [--part 4] [--threads 1]
    python experiments/solvers/run.py --collect          # table.md, table.csv, curves.png again, from what was measured
    python experiments/solvers/run.py --learn red_hair [--faces 40]      # the edit learned anew on each solver's latents

One process through the library. Rows that share an inversion (DDIM (40,6) and (40,40)) share its latents; each counts its calls.
Faces are measured in parts, all rows of one part before the next. What was measured is kept in outputs/solvers.json and not
measured again, so a study that was stopped goes on, or is collected with the faces that it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from dclip.config import Grid, Sampler, Solver
from dclip.data.domains import true_images
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.diffusion.sampler import Prediction, sample
from dclip.diffusion.solvers import inverter_of, pairs_of, solver_of
from dclip.files import atomic_save, read_json, write_json
from dclip.metrics.functional import mae
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure as measure_edit
from dclip.models.checkpoints import load_model
from dclip.models.unet import DiffusionModel
from dclip.record.machine import environment
from dclip.types import Edited
from experiments.grid import ROOT, markdown, write_csv

HERE = Path(__file__).resolve().parent
TIMES, ORDER = (300, 400, 500, 600), (500, 300, 600, 400)
BASELINE, TRAINED, INVERTED = "ddim (200,40)", "ddim (40,6)", "fixed_point (6)"


@dataclass(frozen=True)
class Row:
    """One way up and down. ``times``: the t0 that it is measured at."""

    solver: str
    s_for: int
    s_gen: int
    grid: str = "uniform"
    options: dict[str, Any] = field(default_factory=dict)
    times: tuple[int, ...] = TIMES

    @property
    def name(self) -> str:
        steps = (
            f"({self.s_gen})"
            if self.solver in ("fixed_point", "belm")
            else f"({self.s_for},{self.s_gen})"
        )
        more = "".join(f", {k} {v}" for k, v in self.options.items())
        return f"{self.solver} {steps}" + (f" {self.grid}" if self.grid != "uniform" else "") + more

    def sampler(self, t0: int) -> Sampler:
        return Sampler(
            Solver(self.solver), t0, self.s_for, self.s_gen, grid=Grid(self.grid), **self.options
        )


PLAIN, MANY = {"accelerate": False}, {"sweeps": 20, "tolerance": 1e-4}
SOME = (300, 500)  # rows of less interest; they are measured last
ROWS = [
    Row("ab2", 40, 40), Row("belm", 20, 20, "rho"),
    Row("ddim", 40, 6), Row("fixed_point", 6, 6), Row("ab2", 10, 10, "quadratic"),
    Row("ab2", 15, 15, "quadratic"), Row("ab2", 20, 20, "quadratic"), Row("ddim", 40, 40), Row("ddim", 200, 40),
    Row("ab2", 20, 20, times=SOME), Row("ab2", 20, 6, times=SOME),
    Row("fixed_point", 6, 6, options=PLAIN, times=SOME), Row("fixed_point", 6, 6, options=MANY, times=SOME),
    Row("fixed_point", 6, 6, "quadratic", times=SOME),
    Row("dpmpp_2m", 15, 15, "quadratic", times=SOME), Row("heun", 8, 8, "quadratic", times=SOME),
    Row("ab2", 15, 15, "log_snr", times=SOME), Row("ab2", 15, 15, "rho", times=SOME),
    Row("ddim", 15, 15, "quadratic", times=SOME), Row("ddim", 6, 6, times=SOME), Row("ddim", 20, 20, times=SOME),
]  # fmt: skip


class Counted:
    """The network, and how often it was called."""

    def __init__(self, model: DiffusionModel) -> None:
        self.model, self.calls = model, 0

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        self.calls += 1
        return self.model.predict(x, t)


@torch.no_grad()
def measure(
    row: Row, t0: int, model: DiffusionModel, images: Tensor, known: dict[str, tuple[Tensor, int]]
) -> dict[str, Any]:
    """Up and down once. ``known``: latents by what decides them, with the calls that they took."""
    options, eps = row.sampler(t0), Counted(model)
    up, down = pairs_of(options)
    key = f"{t0} {inverter_of(options)!r} {up}"
    if key not in known:
        known[key] = sample(eps, images, up, model.schedule, solver=inverter_of(options)), eps.calls
    latents, calls_up = known[key]
    eps.calls = 0
    again = sample(eps, latents, down, model.schedule, solver=solver_of(options))
    state = latents if latents.ndim == 4 else latents[:, 0]
    return {
        "t0": t0, "row": row.name, "solver": row.solver, "grid": row.grid, "calls_up": calls_up, "calls_down": eps.calls,
        "errors": mae(images, again).tolist(), "latent_rms": float(state.square().mean().sqrt()),
    }  # fmt: skip


def study(output: Path, faces: int, part: int) -> None:
    """Measure what is not yet known, part by part of the faces."""
    model = load_model("toonfaces")
    found = read_json(output)
    lines, seconds = found.get("lines", []), found.get("cpu_seconds", 0.0)
    done = {(line["first"], line["t0"], line["row"]) for line in lines}
    everything = toonfaces("test", faces).pixels
    for first in range(0, faces, part):
        images = everything[first : first + part].contiguous(memory_format=torch.channels_last)
        known: dict[str, tuple[Tensor, int]] = {}
        for t0, row in [
            (t0, row)
            for few in (False, True)
            for t0 in ORDER
            for row in ROWS
            if few == (row.times == SOME)
        ]:
            if t0 in row.times and (first, t0, row.name) not in done:
                start = time.process_time()
                lines.append({"first": first, **measure(row, t0, model, images, known)})
                seconds += time.process_time() - start
                print(
                    f"faces from {first}  t0 {t0}  {row.name:40} MAE {mean(lines[-1]['errors']):.5f}",
                    flush=True,
                )
                write_json(
                    output, {"cpu_seconds": seconds, "lines": lines, "environment": environment()}
                )


def together(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a row and t0: the mean over all faces that were measured."""
    cells: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        cells[line["t0"], line["row"]].append(line)
    table = []
    for (t0, row), parts in cells.items():
        errors = [error for part in parts for error in part["errors"]]
        up, down, size = (
            mean(part[key] for part in parts) for key in ("calls_up", "calls_down", "latent_rms")
        )
        table.append({
            "t0": t0, "row": row, "solver": parts[0]["solver"], "grid": parts[0]["grid"], "faces": len(errors),
            "calls_up": round(up, 1), "calls_down": round(down, 1), "calls": round(up + down, 1),
            "mae": mean(errors), "mae_std": stdev(errors), "latent_rms": size,
        })  # fmt: skip
    return sorted(table, key=lambda line: (line["t0"], line["calls"]))


LEARNED = [
    ["sampler=ddim", "sampler.s_for=40"],
    ["sampler=ab2", "sampler.s_for=40"],
    ["sampler=fixed_point"],
]
GAMMAS = (0.5, 0.75, 1.0, 1.25)


def learn(edit: str, faces: int, output: Path) -> list[dict[str, Any]]:
    """Learn an edit on the latents of several inversions, as preset=quick does; score validation faces at several degrees.

    Training and generation have the same six steps of DDIM (of AB2 for its latents) throughout. Writes learned.md, too.
    """
    from dclip.edits.editor import apply, editor_of
    from hydra import compose, initialize_config_dir

    from dclip.encode.invert import encode
    from dclip.methods.diffusionclip.fit import adapt
    from dclip.models.networks import build_networks
    from dclip.prepare.checks import to_config
    from dclip.prepare.compose import CONF
    from dclip.record.record import Record

    lines: list[dict[str, Any]] = []
    for words in LEARNED:
        fixed = [
            "logger=csv",
            "trainer.progress=false",
            "metric.lpips=false",
            "metric.kid=false",
            "sampler.s_gen=6",
        ]
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            cfg = to_config(
                compose(
                    "config",
                    overrides=[f"experiment=toonfaces_{edit}", "preset=quick", *words, *fixed],
                )
            )
        truth, networks = TRUTHS[edit], build_networks(cfg)
        images = {
            "train": toonfaces("train", cfg.dataset.train, truth),
            "validation": toonfaces("validation", faces, truth),
        }
        latents = {
            split: encode(cfg, networks.model, part, split) for split, part in images.items()
        }
        original, held = load_model("toonfaces"), images["validation"]
        folder = output.parent / "solvers_learned" / f"{words[0]}_{time.time_ns()}"
        folder.mkdir(parents=True)
        silent = {**images, "validation": held.take([])}
        adapt(
            cfg,
            Record(folder, cfg, resumed=False),
            networks,
            silent,
            {**latents, "validation": latents["validation"][:0]},
        )
        editor = editor_of(original, networks.model)
        for gamma in GAMMAS:
            result = apply(cfg, editor, held, latents["validation"], gamma)
            made = Edited(held, result, true_images(held, truth))
            scores = measure_edit(
                made, cfg.metric, Scorers.of(networks), (cfg.edit.source, cfg.edit.target), truth
            ).values
            kept = (
                "judge_success",
                "judge_preservation",
                "counterfactual_ratio",
                "s_dir",
                "s_dir_heldout",
                "id",
                "mae",
            )
            name = " ".join(word.removeprefix("sampler=").replace("sampler.", "") for word in words)
            lines.append({"inversion": name, "gamma": gamma, **{k: scores[k] for k in kept}})
            print(
                " ".join(
                    f"{k} {v:.3f}" if isinstance(v, float) else str(v) for k, v in lines[-1].items()
                ),
                flush=True,
            )
    write_json(output, {"edit": edit, "faces": faces, "lines": lines, "environment": environment()})
    head = f"{edit}, preset=quick, t0 {cfg.sampler.t0}, {faces} validation faces, seed {cfg.seed}, git {environment()['git']}"
    (HERE / "learned.md").write_text(f"{head}\n\n{markdown(lines)}", "utf-8")
    return lines


def reads(lines: list[dict[str, Any]], t0: int) -> dict[str, Any]:
    """The two questions at one t0: cheapest row at the error of DDIM (200,40); fixed point against DDIM (40,6)."""
    by_name = {line["row"]: line for line in lines if line["t0"] == t0}
    base, trained, inverted = (by_name[name] for name in (BASELINE, TRAINED, INVERTED))
    reached = [line for line in by_name.values() if line["mae"] <= base["mae"] and line is not base]
    best = min(reached, key=lambda line: (line["calls"], line["mae"]))
    return {
        "t0": t0,
        f"{BASELINE}: MAE, calls": f"{base['mae']:.5f}, {base['calls']}",
        "cheapest with no more error": f"{best['row']}: {best['mae']:.5f}, {best['calls']}",
        "share of its calls": best["calls"] / base["calls"],
        f"{TRAINED}: MAE, calls": f"{trained['mae']:.5f}, {trained['calls']}",
        f"{INVERTED}: MAE, calls": f"{inverted['mae']:.5f}, {inverted['calls']}",
        "share of its error": inverted["mae"] / trained["mae"],
    }


def curves(lines: list[dict[str, Any]], path: Path) -> None:
    """Error against calls, one panel a t0, a line a solver and grid."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    times = [t0 for t0 in TIMES if any(line["t0"] == t0 for line in lines)]
    figure, axes = plt.subplots(
        1, len(times), figsize=(4.2 * len(times), 4.2), sharey=True, squeeze=False
    )
    kinds = sorted({(line["solver"], line["grid"]) for line in lines})
    colour = {kind: plt.get_cmap("tab20")(i) for i, kind in enumerate(kinds)}
    for axis, t0 in zip(axes[0], times, strict=True):
        for kind in kinds:
            points = sorted(
                (p["calls"], p["mae"])
                for p in lines
                if (p["solver"], p["grid"]) == kind and p["t0"] == t0
            )
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    "o-",
                    color=colour[kind],
                    label=f"{kind[0]}, {kind[1]}",
                    markersize=4,
                    linewidth=1,
                )
        base = next(line for line in lines if line["row"] == BASELINE and line["t0"] == t0)
        axis.axhline(base["mae"], color="grey", linestyle=":", linewidth=1)
        axis.set(
            xscale="log", yscale="log", title=f"t0 = {t0}", xlabel="network calls, up and down"
        )
        axis.set_xticks([20, 40, 80, 160, 240], ["20", "40", "80", "160", "240"])
        axis.minorticks_off()
    axes[0][0].set_ylabel("MAE of 8-bit images in [0, 1]")
    entries: dict[str, Any] = {}
    for axis in axes[0]:
        entries |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(entries.values(), entries.keys(), loc="lower center", ncols=6, fontsize=8)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    atomic_save(path, lambda p: figure.savefig(p, dpi=90, format="png"))
    plt.close(figure)


def collect(output: Path) -> None:
    """Write table.md, table.csv and curves.png beside this file."""
    found = read_json(output)
    if not found:
        sys.exit(f"{output} is not there; first: python experiments/solvers/run.py")
    lines = together(found["lines"])
    whole = [
        t0
        for t0 in TIMES
        if {BASELINE, TRAINED, INVERTED} <= {line["row"] for line in lines if line["t0"] == t0}
    ]
    answers = markdown([reads(lines, t0) for t0 in whole])
    shown = [{k: v for k, v in line.items() if k not in ("solver", "grid")} for line in lines]
    made = f"{found['cpu_seconds'] / 60:.1f} minutes of one CPU thread, git {found['environment']['git']}"
    (HERE / "table.md").write_text(f"{made}\n\n{answers}\n{markdown(shown)}", "utf-8")
    write_csv(HERE / "table.csv", lines)
    curves([line for line in lines if line["t0"] in whole], HERE / "curves.png")
    print(json.dumps([reads(lines, t0) for t0 in whole], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--part", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "solvers.json")
    parser.add_argument(
        "--learn",
        choices=sorted(TRUTHS),
        help="an edit of ToonFaces to learn on each solver's latents",
    )
    parser.add_argument("--collect", action="store_true", help="only collect what was measured")
    told = parser.parse_args()
    if told.threads:
        torch.set_num_threads(told.threads)
    if told.learn:
        learn(told.learn, told.faces, told.output.with_name("solvers_learned.json"))
        return
    if not told.collect:
        told.output.parent.mkdir(parents=True, exist_ok=True)
        study(told.output, told.faces, told.part)
    collect(told.output)


if __name__ == "__main__":
    main()
