"""The papers' 256 x 256 CelebA-HQ network on a GPU, with random weights: fine-tuning step,
inversion, edit, and the card's limits.

    python benchmarks/gpu.py [--images 50] [--batch 8]

Needs an NVIDIA GPU; without one it says so in one line.

Beside the DiffusionCLIP paper's times on a Quadro RTX 6000: 0.826 s for a fine-tuning step (one
image, 6 steps), 82.2 s to invert 50 images (40 steps), 1.958 s for an edit (40 steps up, 6 down).
Time and memory do not depend on what weights hold. In the same run: the card's matrix-multiply rate
in every precision and its memory bandwidth, and what share of that rate the U-Net reaches. Prints a
table and writes benchmarks/gpu.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import table
from dclip.config import Loss
from dclip.diffusion.sampler import sample
from dclip.diffusion.schedule import pairs_down, pairs_up
from dclip.files import write_json
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.objectives import Work
from dclip.methods.diffusionclip.options import ChainCheckpointed, DiffusionClip
from dclip.models.clip import ClipModel, build_clip
from dclip.models.clip_files import published_config
from dclip.models.identity import CELEBA_CROP, IR_SE50, IdentityModel, IrSe
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet
from dclip.record.machine import environment
from dclip.types import Images, batches
from plan_constants import UNETS, count

T0 = 500
PAPER = {
    "fine-tuning step": 0.826,
    "inversion of 50 images": 82.2,
    "edit": 1.958,
}  # seconds, Quadro RTX 6000
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass
class Nets:
    """The networks of a fine-tuning, random, on one device."""

    model: DiffusionModel
    clip: ClipModel
    identity: IdentityModel | None
    device: torch.device

    @classmethod
    def published(cls, device: torch.device) -> Nets:
        """CelebA-HQ's U-Net, ViT-B/16, IR-SE50."""
        unet = UNETS["ddim 256"]().eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model = DiffusionModel(unet, ModelInfo("celeba_hq", dict(unet.config)))
        net = build_clip(published_config("ViT-B-16-quickgelu")).eval().requires_grad_(False)
        clip = ClipModel(net, None, size=224)
        identity = IdentityModel(IrSe(IR_SE50).eval().requires_grad_(False), CELEBA_CROP)
        return cls(model, clip.to(device), identity.to(device), device)

    def images(self, number: int) -> Tensor:
        """Random pictures in [-1, 1]."""
        size = self.model.image_size
        drawn = (
            torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        )
        return drawn.to(self.device, memory_format=torch.channels_last)


def precision(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """Arithmetic inside the block."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return torch.autocast(device.type, torch.bfloat16) if name == "bf16" else nullcontext()


def seconds(run: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """The best of the repeats, once the device has done its work; one run before them warms up."""
    best = float("inf")
    for number in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if number:
            best = min(best, time.perf_counter() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def limits(device: torch.device, size: int = 8192) -> dict[str, float]:
    """TFLOP/s of square matrix products in every precision, and GB/s of a copy (read and write)."""
    found: dict[str, float] = {}
    for name in PRECISIONS:
        with precision(name, device):
            dtype = torch.bfloat16 if name == "bf16" else torch.float32
            a = torch.randn(size, size, device=device, dtype=dtype)
            product = partial(torch.matmul, a, a)
            found[f"matmul_{name}_tflops"] = 2 * size**3 / seconds(product, device, 5) / 1e12
    x = torch.empty(2 * size * size, device=device)
    y = torch.empty_like(x)
    found["copy_gb_per_s"] = 2 * x.numel() * 4 / seconds(lambda: y.copy_(x), device, 5) / 1e9
    return found


def update(nets: Nets, objective: type[DiffusionClip], steps: int = 6) -> Callable[[], None]:
    """One fine-tuning step on one image, optimiser included."""
    nets.model.unet.requires_grad_(True)
    images = Images(nets.images(1).cpu(), ("image",))
    direction = nn.functional.normalize(
        torch.randn(nets.clip.image_features(nets.images(1)).shape[1]), dim=0
    ).to(nets.device)
    loss = EditLoss.prepare(Loss(), nets.clip, nets.identity, images, direction)
    latents = torch.randn_like(nets.images(1))
    options, down = objective(s_train=steps), pairs_down(T0, steps)
    work = Work(nets.model.predict, loss, nets.model.schedule, down, latents, [0], 0, 0.5)
    optimizer = torch.optim.Adam(nets.model.unet.parameters(), 1e-6, fused=True)

    def run() -> None:
        for terms in options(work):
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()

    return run


@torch.no_grad()
def invert(nets: Nets, number: int, batch: int, steps: int = 40) -> None:
    """Latents of ``number`` images."""
    images = nets.images(number)
    for part in batches(number, batch):
        sample(nets.model.predict, images[part], pairs_up(T0, steps), nets.model.schedule)


@torch.no_grad()
def edit(nets: Nets) -> None:
    """40 steps up and 6 down, one image."""
    latents = sample(nets.model.predict, nets.images(1), pairs_up(T0, 40), nets.model.schedule)
    sample(nets.model.predict, latents, pairs_down(T0, 6), nets.model.schedule)


def measure(nets: Nets, images: int, batch: int) -> list[dict[str, Any]]:
    """One line a task and precision."""
    with torch.device("meta"):
        gflop = count(build_unet(nets.model.info.unet))[1]
    tasks: dict[str, tuple[str, Callable[[], Any], float]] = {
        "fine-tuning step": ("fine-tuning step", update(nets, DiffusionClip), 18),
        "fine-tuning step, checkpointed": (
            "fine-tuning step",
            update(nets, ChainCheckpointed),
            24,
        ),
        f"inversion of {images} images": (
            f"inversion of {images} images",
            lambda: invert(nets, images, batch),
            39 * images,
        ),
        "edit": ("edit", lambda: edit(nets), 45),
    }
    lines = []
    for task, (key, run, calls) in tasks.items():
        for name in PRECISIONS:
            if nets.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with precision(name, nets.device):
                took = seconds(run, nets.device)
            peak = (
                torch.cuda.max_memory_allocated() / 1e6
                if nets.device.type == "cuda"
                else float("nan")
            )
            lines.append(
                {
                    "task": task,
                    "precision": name,
                    "seconds": took,
                    "paper_seconds": PAPER.get(key, float("nan")),
                    "times_faster": PAPER.get(key, float("nan")) / took,
                    "unet_tflops": calls * gflop / took / 1e3,
                    "peak_mb": peak,
                }
            )
            print(table(lines[-1:]), flush=True)
    return lines


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args(words)
    if not torch.cuda.is_available():
        print(
            "gpu: not measured, there is no CUDA GPU here; "
            "run python benchmarks/gpu.py on a machine with one"
        )
        return []
    device = torch.device("cuda")
    found = limits(device)
    print(" ".join(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
    lines = measure(Nets.published(device), args.images, args.batch)
    settings = {"images": args.images, "batch": args.batch}
    write_json(
        args.output,
        {"settings": settings, "limits": found, "lines": lines, "environment": environment()},
    )
    return lines


if __name__ == "__main__":
    main()
