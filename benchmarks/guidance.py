"""What does guidance cost? Guided and unguided sampling side by side in one process, and where the
time goes.

    python benchmarks/guidance.py               # the embedded networks, at the default settings
    python benchmarks/guidance.py --images 16 --steps 20 --repeats 5 --kind spherical

Variants take turns, and a ratio is taken within each turn; the median of the repeats counts. On a
machine that is busy with other things, look at the ratio of CPU time. Prints a table and writes
benchmarks/guidance.json (``--out``).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common import median_of
from dclip.config import OPTIONS
from dclip.data.toonfaces.words import siblings
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDPM, sample
from dclip.diffusion.timesteps import pairs_down
from dclip.files import write_json
from dclip.methods.sampling.guidance import Context, Guide
from dclip.methods.sampling.guidances import guidances
from dclip.methods.sampling.objective import ClipObjective
from dclip.models.checkpoints import load_clip, load_model
from dclip.record.machine import environment
from dclip.text.features import read_prompts
from dclip.text.prompts import Prompt

PARTS = ("unet", "clip_forward", "clip_backward")


class Clock:
    """Seconds spent in wrapped functions, by name. On a GPU it waits for the work to be done."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def wrap(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            start = now()
            result = fn(*args, **options)
            self.seconds[name] += now() - start
            return result

        return timed


def now() -> float:
    """Seconds on the clock, once a GPU has done what it was args."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Bench:
    """The networks and the noise; one timed walk a call."""

    def __init__(
        self, images: int, steps: int, kind: str, checkpoint: str, clip: str, text: str
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(checkpoint).to(self.device)
        self.clip = load_clip(clip).to(self.device)
        self.kind, self.steps = kind, steps
        self.ids = [f"image_{i}" for i in range(images)]
        size = self.model.image_size
        self.x = ImageNoise(self.ids).like(torch.empty(images, 3, size, size)).to(self.device)
        self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.reader = read_prompts(
            self.clip,
            [Prompt(text, 1.0, siblings(text))],
            source="person" if guidances()[kind].needs_direction else None,
        )

    def walk(self, every: int | None) -> dict[str, float]:
        """Seconds of one sampling (``wall``, ``cpu``) and of its parts.

        ``every=None``: without guidance.
        """
        clock = Clock()
        features, grad = self.clip.image_features, torch.autograd.grad
        eps_fn = clock.wrap("unet", self.model.predict)
        if every is not None:
            options = guidances()[self.kind](every=every)
            objective = ClipObjective(options, [self.reader], [1.0])
            guide = Guide(options, objective, self.model.schedule)
            eps_fn = guide(eps_fn, Context(self.ids, self.x.clamp(-1, 1)))
        self.clip.image_features = clock.wrap("clip_forward", features)  # type: ignore[method-assign]
        torch.autograd.grad = clock.wrap("clip_backward", grad)
        try:
            start, cpu = now(), time.process_time()
            with torch.no_grad():
                sample(
                    eps_fn,
                    self.x,
                    pairs_down(999, self.steps),
                    self.model.schedule,
                    solver=DDPM(self.model.info.variance),
                    noise=ImageNoise(self.ids, 1),
                    clip_x0=True,
                )
            return {"wall": now() - start, "cpu": time.process_time() - cpu, **clock.seconds}
        finally:
            self.clip.image_features, torch.autograd.grad = features, grad  # type: ignore[method-assign]


def measure(bench: Bench, repeats: int, every: tuple[int, ...] = (1, 2, 4)) -> list[dict[str, Any]]:
    """One row a variant: median seconds an image, ratio to no guidance, share of each part."""
    variants: list[int | None] = [None, *every]
    bench.walk(1)  # warm up
    runs: dict[int | None, list[dict[str, float]]] = {v: [] for v in variants}
    for _ in range(repeats):
        for variant in variants:
            runs[variant].append(bench.walk(variant))
    rows = []
    for variant, done in runs.items():
        name = "none" if variant is None else f"{bench.kind}, every={variant}"
        rows.append({"guidance": name, **summary(done, runs[None], len(bench.ids))})
    return rows


def summary(
    done: list[dict[str, float]], free: list[dict[str, float]], images: int
) -> dict[str, float]:
    """Medians of a variant's rounds beside those without guidance."""
    both = list(zip(done, free, strict=True))
    row = {
        "seconds_per_image": median_of(done, lambda times: times["wall"]) / images,
        "ratio": median_of(both, lambda pair: pair[0]["wall"] / pair[1]["wall"]),
        "ratio_cpu": median_of(both, lambda pair: pair[0]["cpu"] / pair[1]["cpu"]),
    }
    other = 1.0
    for part in PARTS:
        row[part] = statistics.median([times[part] / times["wall"] for times in done])
        other -= row[part]
    return {**row, "other": other}


def table(rows: list[dict[str, Any]]) -> str:
    """For the console."""
    head = f"{'guidance':26} {'s/image':>8} {'ratio':>6} {'of CPU':>6}   share of time: "
    lines = [head + "U-Net, CLIP forward, CLIP backward, other"]
    for row in rows:
        line = f"{row['guidance']:26} {row['seconds_per_image']:8.3f} "
        line += f"{row['ratio']:6.2f} {row['ratio_cpu']:6.2f} "
        for part in (*PARTS, "other"):
            line += f"{100 * row[part]:7.1f} %"
        lines.append(line)
    return "\n".join(lines)


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--kind",
        default="contrastive",
        choices=sorted(k for k in OPTIONS["guidance"] if k != "none"),
    )
    parser.add_argument("--checkpoint", default="toonfaces")
    parser.add_argument("--clip", default="toonfaces")
    parser.add_argument("--text", default="a person with a beard")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args(words)
    rows = measure(
        Bench(args.images, args.steps, args.kind, args.checkpoint, args.clip, args.text),
        args.repeats,
    )
    print(table(rows))
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    write_json(args.out, {"settings": settings, "rows": rows, "environment": environment()})
    return rows


if __name__ == "__main__":
    main()
