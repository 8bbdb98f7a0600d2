"""Fine-tuning images a second and peak memory: dclip's objectives against a plain transcription of the published procedure.

    python benchmarks/finetuning.py                                 # the embedded networks, batch 4, 6 steps
    python benchmarks/finetuning.py --batch 8 --repeats 5 --threads 1

Same weights, texts, images, latents and steps in one process; rounds take turns, and a ratio is taken within each round; the median
counts. Speed is by the clock, so nothing else should run; the ratio of CPU time stands beside it. dclip's updates are those of
its fine-tuning: on a CPU, threads share a batch (``threads.py``). First the gradient of one batch is compared: dclip's
against the mean of the transcription's over the same images. Peak memory is that of processes of their own: how far one update
rises above what the process held before it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import transcription
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


class Bench:
    """Networks, images and latents that all cases share."""

    def __init__(self, batch: int, model: str = "toonfaces") -> None:
        self.model = model
        self.images, self.clip, self.identity = (
            toonfaces("train", batch),
            load_clip(),
            load_identity(),
        )
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
    return {
        name: float(
            (gradient(bench.ours(name, steps), bench.threads) - expected).norm() / expected.norm()
        )
        for name in SAME_GRADIENT
    }


def timed(run: Callable[[], None]) -> float:
    """Seconds of CPU time: what other processes do counts less than on the clock."""
    return both_times(run)[1]


def both_times(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - cpu


def speeds(bench: Bench, steps: int, repeats: int) -> list[dict[str, Any]]:
    """One line a case. The first round warms up and does not count."""
    runs: dict[str, Callable[[], None]] = {"published": bench.their_updates(steps)}
    runs |= {name: bench.our_updates(name, steps) for name in (*SAME_GRADIENT, *OTHERS)}
    rounds = [{name: both_times(run) for name, run in runs.items()} for _ in range(repeats + 1)][1:]

    def ratio(name: str, kind: int) -> float:
        return statistics.median(r["published"][kind] / r[name][kind] for r in rounds)

    return [
        {
            "case": name,
            "batch": 1 if name == "published" else len(bench.images),
            "images_per_second": len(bench.images) / statistics.median(r[name][0] for r in rounds),
            "times_published": ratio(name, 0),
            "times_published_by_cpu_time": ratio(name, 1),
        }
        for name in runs
    ]


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
        words = [
            "--peak",
            name,
            "--steps",
            str(steps),
            "--batch",
            str(size),
            "--threads",
            str(torch.get_num_threads()),
        ]
        done = subprocess.run(
            [sys.executable, __file__, *words], capture_output=True, text=True, check=True
        )
        lines.append(
            {"case": name, "steps": steps, "batch": size, "peak_mb": float(done.stdout.split()[-1])}
        )
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    rows = (
        " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in line.values())
        for line in lines
    )
    return "\n".join(
        [
            "| " + " | ".join(lines[0]) + " |",
            "|" + "---|" * len(lines[0]),
            *(f"| {row} |" for row in rows),
        ]
    )


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write; returns what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "finetuning.json")
    told = parser.parse_args(words)
    if told.threads:
        torch.set_num_threads(told.threads)
    if told.peak:
        print(peak(told.peak, told.steps, told.batch))
        return {}
    bench = Bench(told.batch)
    found: dict[str, Any] = {"gradient_difference": differences(bench, told.steps)}
    print(
        "difference of the gradient from the transcription's, as a share of its length:",
        found["gradient_difference"],
        flush=True,
    )
    found["speed"] = speeds(bench, told.steps, told.repeats)
    print(table(found["speed"]), flush=True)
    if os.name == "posix" and Path("/proc/self/clear_refs").exists():
        wanted = [
            ("published", 6),
            ("chain", 6),
            ("chain_checkpointed", 6),
            ("chain", 12),
            ("chain_checkpointed", 12),
        ]
        found["memory"] = peaks(told.batch, wanted)
        print(table(found["memory"]), flush=True)
    content = {
        "settings": {
            "batch": told.batch,
            "steps": told.steps,
            "repeats": told.repeats,
            "threads": torch.get_num_threads(),
        },
        **found,
        "environment": environment(),
    }
    write_json(told.output, content)
    return content


if __name__ == "__main__":
    main()
