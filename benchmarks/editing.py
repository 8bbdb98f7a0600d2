"""Time and network calls of one edit, published and ours, at no more reconstruction error.

    python benchmarks/editing.py [--images 4] [--t0 500] [--threads 1]

Published: DDIM, 200 steps up and 40 down, one image at a time, by the plain transcription. Ours:
batched, on solvers and grids that need fewer calls. An edit costs what a reconstruction costs (the
network down is the fine-tuned one), and a reconstruction has a right answer, so that is what is
timed. Errors are the MAE of 8-bit images in [0, 1]. ``--published 1`` times one image only.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

import transcription
from common import add_threads, arguments, table, use_threads
from dclip.config import Grid
from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.options import Sampler, inverter_of, pairs_of, sampler_named, solver_of
from dclip.diffusion.sampler import Prediction, sample
from dclip.files import write_json
from dclip.metrics.functional import mae
from dclip.models.checkpoints import load_model
from dclip.models.unet import DiffusionModel
from dclip.record.machine import environment

OURS: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "ab2 (15,15) quadratic": ("ab2", 15, "quadratic", {}),
    "ab2 (10,10) quadratic": ("ab2", 10, "quadratic", {}),
    "fixed_point (6)": ("fixed_point", 6, "uniform", {}),
    "fixed_point (6), trainer.speed=fast": ("fixed_point", 6, "uniform", {}),
}
FAST = "trainer.speed=fast"


@torch.no_grad()
def ours(model: DiffusionModel, images: Tensor, options: Sampler) -> tuple[Tensor, int]:
    """Reconstructions and network calls."""
    calls = 0

    def eps(x: Tensor, t: Tensor) -> Prediction:
        nonlocal calls
        calls += 1
        return model.predict(x, t)

    up, down = pairs_of(options)
    latents = sample(
        eps,
        images.contiguous(memory_format=torch.channels_last),
        up,
        model.schedule,
        solver=inverter_of(options),
    )
    return sample(eps, latents, down, model.schedule, solver=solver_of(options)), calls


@torch.no_grad()
def theirs(net: transcription.Network, images: Tensor, t0: int) -> tuple[Tensor, int]:
    """The same by the transcription, image by image."""
    net.calls = 0
    made = [
        transcription.generate(net, transcription.invert(net, image, t0, 200), t0, 40)
        for image in images.split(1)
    ]
    return torch.cat(made), net.calls // len(images)


def measure(images: Tensor, t0: int, few: int) -> list[dict[str, Any]]:
    """One line a way."""
    model = load_model("toonfaces")
    net = transcription.Network(model)
    lines: list[dict[str, Any]] = []
    for name in ("published (200,40)", *OURS):
        shown = images[:few] if name.startswith("published") else images
        start, clock = time.process_time(), time.perf_counter()
        if name in OURS:
            solver, steps, grid, more = OURS[name]
            model.fast = name.endswith(FAST)
            options = sampler_named(solver)(t0, steps, steps, grid=Grid(grid), **more)
            again, calls = ours(model, shown, options)
        else:
            again, calls = theirs(net, shown, t0)
        cpu, wall = (
            (now - then) / len(shown)
            for now, then in ((time.process_time(), start), (time.perf_counter(), clock))
        )
        lines.append(
            {
                "way": name,
                "calls": calls,
                "images": len(shown),
                "cpu_seconds_per_image": cpu,
                "seconds_per_image": wall,
            }
        )
        lines[-1] |= {
            "mae": float(mae(shown, again).mean()),
            "mae_of_the_same": float(mae(shown, again)[:few].mean()),
        }
    for line in lines:
        line["share_of_published_time"] = (
            line["cpu_seconds_per_image"] / lines[0]["cpu_seconds_per_image"]
        )
        line["share_of_published_error"] = line["mae_of_the_same"] / lines[0]["mae"]
    return lines


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument(
        "--published", type=int, default=1, help="images that the published way is timed on"
    )
    parser.add_argument("--t0", type=int, default=500)
    add_threads(parser)
    args = parser.parse_args(words)
    use_threads(args)
    lines = measure(toonfaces("test", args.images).pixels, args.t0, args.published)
    print(table(lines))
    write_json(args.output, {"t0": args.t0, "lines": lines, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
