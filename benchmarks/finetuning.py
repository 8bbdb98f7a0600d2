"""Fine-tuning images a second and peak memory: dclip's objectives against a plain transcription of
the published procedure.

    python benchmarks/finetuning.py                # the embedded networks, batch 4, 6 steps
    python benchmarks/finetuning.py --batch 8 --repeats 5 --threads 1

Same weights, texts, images, latents and steps in one process; rounds take turns, and a ratio is
taken within each round; the median counts. Speed is by the clock, so nothing else should run; the
ratio of CPU time stands beside it. dclip's updates are those of its fine-tuning: on a CPU, threads
share a batch (``threads.py``). First the gradient of one batch is compared: dclip's against the
mean of the transcription's over the same images. Peak memory is that of processes of their own: how
far one update rises above what the process held before it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import transcription
from common import add_threads, arguments, in_rounds, median_of, table, use_threads
from dclip.config import Loss
from dclip.data.toonfaces.images import toonfaces
from dclip.files import write_json
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.threads import BatchThreads
from dclip.models.checkpoints import load_clip, load_identity, load_model
from dclip.record.machine import environment
from objectives import Case, make_case

HERE = Path(__file__).resolve().parent
TEXTS, T0 = ("person", "person with red hair"), 500
SAME_GRADIENT = ("chain", "chain_checkpointed")
OTHERS = ("gpu_efficient", "onestep")
MEMORY = [  # objectives and steps whose memory is measured
    ("published", 6),
    ("chain", 6),
    ("chain_checkpointed", 6),
    ("chain", 12),
    ("chain_checkpointed", 12),
]


class Bench:
    """Networks, images and latents that all cases share."""

    def __init__(self, batch: int, model: str = "toonfaces") -> None:
        self.model = model
        self.images = toonfaces("train", batch)
        self.clip, self.identity = load_clip(), load_identity()
        self.loss = EditLoss.prepare(Loss(), self.clip, self.identity, self.images, TEXTS)
        self.latents = torch.randn(
            self.images.pixels.shape, generator=torch.Generator().manual_seed(0)
        )
        self.latents = self.latents.contiguous(memory_format=torch.channels_last)
        self.threads = BatchThreads()

    def ours(self, name: str, steps: int) -> Case:
        """One of dclip's objectives on all images at once."""
        return make_case(name, 0, steps, self.model, self.loss, self.latents)

    def our_updates(self, name: str, steps: int) -> Callable[[], None]:
        """All updates of one batch."""
        case = self.ours(name, steps)
        return lambda: case.shared(self.threads)

    def theirs(self) -> tuple[transcription.Network, transcription.Criterion]:
        """The transcription's network and loss."""
        return transcription.Network(load_model(self.model)), transcription.Criterion(
            self.clip, self.identity, TEXTS, Loss()
        )

    def their_updates(self, steps: int) -> Callable[[], None]:
        """One update an image, as published."""
        net, criterion = self.theirs()
        optimizer = torch.optim.Adam(transcription.parameters(net), 1e-6)

        def run() -> None:
            for image, latent in zip(
                self.images.pixels.split(1), self.latents.contiguous().split(1), strict=True
            ):
                optimizer.zero_grad()
                criterion(transcription.generate(net, latent, T0, steps), image).backward()
                optimizer.step()

        return run


def gradient(case: Case, threads: BatchThreads) -> Tensor:
    """dclip's gradient of a batch, as one vector."""
    next(threads.updates(case.options, case.work, case.trained))
    return torch.cat([p.grad.flatten() for p in case.trained if p.grad is not None])


def their_gradient(bench: Bench, steps: int) -> Tensor:
    """The transcription's: the mean over the images."""
    net, criterion = bench.theirs()
    for image, latent in zip(
        bench.images.pixels.split(1), bench.latents.contiguous().split(1), strict=True
    ):
        (
            criterion(transcription.generate(net, latent, T0, steps), image) / len(bench.images)
        ).backward()
    return torch.cat(
        [p.grad.flatten() for p in transcription.parameters(net) if p.grad is not None]
    )


def differences(bench: Bench, steps: int) -> dict[str, float]:
    """How far our gradients are from the transcription's, as a share of its length."""
    expected = their_gradient(bench, steps)
    shares = {}
    for name in SAME_GRADIENT:
        difference = gradient(bench.ours(name, steps), bench.threads) - expected
        shares[name] = float(difference.norm() / expected.norm())
    return shares


def speeds(bench: Bench, steps: int, repeats: int) -> list[dict[str, Any]]:
    """One line a case."""
    runs: dict[str, Callable[[], None]] = {"published": bench.their_updates(steps)}
    for name in (*SAME_GRADIENT, *OTHERS):
        runs[name] = bench.our_updates(name, steps)
    rounds = in_rounds(runs, repeats)
    lines = []
    for name in runs:
        seconds = statistics.median([times[name][0] for times in rounds])
        lines.append(
            {
                "case": name,
                "batch": 1 if name == "published" else len(bench.images),
                "images_per_second": len(bench.images) / seconds,
                "times_published": _ratio(rounds, name, 0),
                "times_published_by_cpu_time": _ratio(rounds, name, 1),
            }
        )
    return lines


def _ratio(rounds: list[dict[str, tuple[float, float]]], name: str, kind: int) -> float:
    """How many times faster than the published way, by the clock (0) or CPU time (1)."""
    return median_of(rounds, lambda times: times["published"][kind] / times[name][kind])


# ------------------------------------------------------------------------------------------- memory


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def peak(name: str, steps: int, batch: int) -> float:
    """MB that one update adds to this process at its peak (Linux)."""
    bench = Bench(batch)
    run = bench.their_updates(steps) if name == "published" else bench.our_updates(name, steps)
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # forget the peak of loading
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def peaks(batch: int, wanted: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Every case in a process of its own."""
    lines = []
    for name, steps in wanted:
        size = 1 if name == "published" else batch
        threads = torch.get_num_threads()
        words = f"--peak {name} --steps {steps} --batch {size} --threads {threads}".split()
        command = [sys.executable, __file__, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes = float(done.stdout.split()[-1])
        lines.append({"case": name, "steps": steps, "batch": size, "peak_mb": megabytes})
    return lines


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write; returns what was written."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    add_threads(parser)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    use_threads(args)
    if args.peak:
        print(peak(args.peak, args.steps, args.batch))
        return {}
    bench = Bench(args.batch)
    found: dict[str, Any] = {"gradient_difference": differences(bench, args.steps)}
    print(
        "difference of the gradient from the transcription's, as a share of its length:",
        found["gradient_difference"],
        flush=True,
    )
    found["speed"] = speeds(bench, args.steps, args.repeats)
    print(table(found["speed"]), flush=True)
    if os.name == "posix" and Path("/proc/self/clear_refs").exists():
        found["memory"] = peaks(args.batch, MEMORY)
        print(table(found["memory"]), flush=True)
    content = {
        "settings": {
            "batch": args.batch,
            "steps": args.steps,
            "repeats": args.repeats,
            "threads": torch.get_num_threads(),
        },
        **found,
        "environment": environment(),
    }
    write_json(args.output, content)
    return content


if __name__ == "__main__":
    main()
