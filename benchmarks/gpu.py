"""The papers' 256 x 256 CelebA-HQ network on a GPU, with random weights: how fast an edit is learned
and made, in how much memory, and what share of the card that takes.

    python benchmarks/gpu.py [--seconds 300] [--compile blocks|whole|autotuned]

Needs an NVIDIA GPU; without one it says so in one line. ``--tiny`` rehearses every part with a tiny
network, on a CPU too.

Parts run in a fixed order, the most important first, and benchmarks/gpu.json is written anew after
each. One that would not end within ``--seconds`` is listed as not measured; one that fails, with its
error. Time and memory do not depend on what weights hold; pictures and weights are random, never
zero.

A line's ``seconds`` are of one image (of a guided step: of one image and step), the median of
several runs after those that warm up; ``compile_s`` is what the first run took longer. ``mfu`` is the
share of the rate at which this card multiplies matrices in the same precision. Beside them: the times
that the DiffusionCLIP paper reports for a Quadro RTX 6000.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import table
from dclip.config import Lora, Loss
from dclip.diffusion.sampler import EpsFn, Prediction, sample
from dclip.diffusion.timesteps import Pair, pairs_down, pairs_up
from dclip.errors import one_line
from dclip.files import write_json
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.objectives import Work
from dclip.methods.diffusionclip.options import (
    ChainCheckpointed,
    DiffusionClip,
    GpuEfficient,
    OneStep,
)
from dclip.methods.sampling.guidance import Context, Guide
from dclip.methods.sampling.guidances import Contrastive
from dclip.methods.sampling.objective import ClipObjective
from dclip.models.clip import ClipModel, build_clip
from dclip.models.clip_files import published_config
from dclip.models.compiled import compile_blocks
from dclip.models.identity import CELEBA_CROP, IR_SE50, IdentityModel, IrSe, IrSeConfig
from dclip.models.lora import LowRankUpdates
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet
from dclip.record.machine import environment
from dclip.text.features import PromptFeatures
from dclip.types import Images
from plan_constants import UNETS, count

T0, STEPS = 500, 6
PRECISIONS = ("fp32", "tf32", "bf16")
# seconds an image, Quadro RTX 6000; 82.2 s invert 50 images
PAPER = {"update": 0.826, "inversion, 40 calls": 82.2 / 50, "edit": 1.958}

TINY_UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "add_attention": False,
}
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
TINY_IDENTITY = IrSeConfig(input_size=16, stem=8, stages=((8, 1), (8, 1)), embedding=16)


# ------------------------------------------------------------------------------------ networks


@dataclass
class Nets:
    """The networks of a fine-tuning, random, on one device.

    Attributes:
        model: computes layer by layer, in either memory format.
        compiled: the same weights, compiled; a run holds the network twice, too.
        gflop: of one call for one image.
    """

    model: DiffusionModel
    clip: ClipModel
    identity: IdentityModel | None
    device: torch.device
    gflop: float = 0.0
    compiled: DiffusionModel = field(init=False)

    def __post_init__(self) -> None:
        self.compiled = copy.deepcopy(self.model)
        with torch.device("meta"):
            self.gflop = count(build_unet(self.model.info.unet))[1]

    @classmethod
    def published(cls, device: torch.device) -> Nets:
        """CelebA-HQ's U-Net, ViT-B/16, IR-SE50."""
        torch.manual_seed(0)
        unet = UNETS["ddim 256"]().eval()
        model = DiffusionModel(unet, ModelInfo("celeba_hq", dict(unet.config)))  # type: ignore[arg-type]
        net = build_clip(published_config("ViT-B-16-quickgelu")).eval().requires_grad_(False)
        clip = ClipModel(net, None, size=224)
        identity = IdentityModel(IrSe(IR_SE50).eval().requires_grad_(False), CELEBA_CROP)
        return cls(model.to(device), clip.to(device), identity.to(device), device)

    @classmethod
    def tiny(cls, device: torch.device) -> Nets:
        """Of the same kinds, for a rehearsal."""
        torch.manual_seed(0)
        model = DiffusionModel(build_unet(TINY_UNET).eval(), ModelInfo("tiny", TINY_UNET))
        clip = ClipModel(build_clip(TINY_CLIP).eval().requires_grad_(False), None, size=16)
        identity = IdentityModel(IrSe(TINY_IDENTITY).eval().requires_grad_(False))
        return cls(model.to(device), clip.to(device), identity.to(device), device)

    def images(self, number: int, seed: int = 0) -> Tensor:
        """Random pictures [N,3,H,W] in [-1, 1]."""
        size = self.model.image_size
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(number, 3, size, size, generator=generator) * 2 - 1
        return drawn.to(self.device, memory_format=torch.channels_last)

    def directions(self, number: int) -> Tensor:
        """Random unit vectors [N, D] among CLIP's features."""
        width = self.clip.image_features(self.images(1)).shape[1]
        drawn = torch.randn(number, width, generator=torch.Generator().manual_seed(number))
        return nn.functional.normalize(drawn, dim=1).to(self.device)

    def compile(self, how: str, backend: str) -> None:
        """``compiled`` as ``--compile`` says."""
        if how == "blocks":
            compile_blocks(self.compiled.unet, backend)
        elif how == "whole":
            self.compiled.unet.compile(dynamic=False, backend=backend)
        else:
            self.compiled.unet.compile(dynamic=False, mode="max-autotune-no-cudagraphs")

    def in_mode(self, mode: str) -> DiffusionModel:
        """The network that computes in this mode, in its memory format."""
        if mode.startswith("compiled"):
            self.compiled.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return self.compiled
        layout = torch.contiguous_format if mode == "eager" else torch.channels_last
        self.model.unet.to(memory_format=layout)  # type: ignore[call-overload]
        return self.model


class Graphed:
    """A network's call without gradient as a CUDA graph, replayed for inputs of one shape."""

    def __init__(self, eps_fn: EpsFn, like: Tensor) -> None:
        self.x = like.clone(memory_format=torch.preserve_format)
        self.t = torch.full((len(like),), T0, device=like.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                eps_fn(self.x, self.t)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = eps_fn(self.x, self.t).eps

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """The network's prediction."""
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        return Prediction(self.out.clone())


# ------------------------------------------------------------------------------ time and memory


def precision(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """Arithmetic inside the block, as ``trainer.precision`` has it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return torch.autocast(device.type, torch.bfloat16) if name == "bf16" else nullcontext()


@contextmanager
def tuned_convolutions(on: bool) -> Iterator[None]:
    """Let cuDNN try its algorithms, in the block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def once(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one run, once the device has done its work."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Timed:
    """Seconds of a run, the median of several; of its first run; a GPU's memory at the peak, in GB."""

    seconds: float
    first: float
    peak_gb: float | None


def timed(run: Callable[[], Any], device: torch.device, most: float = 3.0) -> Timed:
    """Time a run: two that warm up, then three to nine, of about ``most`` seconds in all."""
    first = once(run, device)
    second = once(run, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    repeats = min(9, max(3, int(most / max(second, 1e-6))))
    seconds = statistics.median(once(run, device) for _ in range(repeats))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    return Timed(seconds, first, peak)


def limits(device: torch.device, size: int = 8192) -> dict[str, float]:
    """TFLOP/s of square matrix products in every precision, and GB/s of a copy (read and write)."""
    found: dict[str, float] = {}
    for name in PRECISIONS:
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        a = torch.randn(size, size, device=device, dtype=dtype)
        b = torch.randn(size, size, device=device, dtype=dtype)
        with precision(name, device):
            seconds = timed(partial(torch.matmul, a, b), device, 0.3).seconds
        found[f"matmul_{name}_tflops"] = 2 * size**3 / seconds / 1e12
    x = torch.randn(8 * size * size, device=device)
    y = torch.empty_like(x)
    seconds = timed(lambda: y.copy_(x), device, 0.3).seconds
    found["copy_gb_per_s"] = 2 * x.numel() * 4 / seconds / 1e9
    return found


# --------------------------------------------------------------------------------------- tasks


def work_of(
    nets: Nets, model: DiffusionModel, batch: int, pairs: Sequence[Pair], seed: int = 0
) -> Work:
    """A batch of random images and latents, with the published loss."""
    images = nets.images(batch, seed)
    named = Images(images.cpu(), tuple(str(i) for i in range(batch)))
    direction = nets.directions(1)[0]
    loss = EditLoss.prepare(Loss(), nets.clip, nets.identity, named, direction)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(images.shape, generator=generator).to(nets.device)
    latents = noise.contiguous(memory_format=torch.channels_last)
    index = list(range(batch))
    return Work(model.predict, loss, model.schedule, pairs, latents, index, 0, 0.5)


def update(nets: Nets, spec: Spec, options: DiffusionClip, rank: int = 0) -> Callable[[], None]:
    """A fine-tuning step, optimiser included; with ``rank``, of low-rank updates."""
    model = nets.in_mode(spec.mode)
    work = work_of(nets, model, spec.batch, pairs_down(T0, STEPS))
    trained: list[nn.Parameter] = []
    lora = None
    if rank:
        lora = LowRankUpdates(model.unet, Lora(rank=rank)).to(nets.device)
        lora.attach(model.unet)
        trained = list(lora.parameters())
    else:
        model.unet.requires_grad_(True)
        trained = list(model.unet.parameters())
    optimizer = torch.optim.Adam(trained, 1e-6, fused=True)

    def run() -> None:
        for terms in options(work):
            optimizer.zero_grad()
            with torch.autocast(nets.device.type, enabled=False):
                terms["total"].backward()
            optimizer.step()

    def close() -> None:
        if lora is not None:
            lora.detach()
        optimizer.zero_grad()
        model.unet.requires_grad_(False)

    spec.closes.append(close)
    return run


def _eps_fn(nets: Nets, spec: Spec, x: Tensor) -> EpsFn:
    """The network as it is called where no gradient is needed."""
    model = nets.in_mode(spec.mode)
    model.fast = spec.precision == "bf16"
    if "graph" not in spec.mode:
        return model.predict
    with torch.no_grad():
        return Graphed(model.predict, x)


def trajectory(nets: Nets, spec: Spec, *ways: Sequence[Pair]) -> Callable[[], None]:
    """Images there, and back again if there are two ways."""
    images = nets.images(spec.batch)
    eps_fn = _eps_fn(nets, spec, images)

    @torch.no_grad()
    def run() -> None:
        x = images
        for pairs in ways:
            x = sample(eps_fn, x, pairs, nets.model.schedule)

    return run


def guided(nets: Nets, spec: Spec, pairs: Sequence[Pair]) -> Callable[[], None]:
    """Steps under contrastive guidance with three distractors."""
    images, ids = nets.images(spec.batch), [str(i) for i in range(spec.batch)]
    eps_fn = _eps_fn(nets, spec, images)
    texts = nets.directions(4)
    reader = PromptFeatures(nets.clip, texts[:1], (texts[1:],), 0.01)
    options = Contrastive()
    guide = Guide(options, ClipObjective(options, [reader], [1.0]), nets.model.schedule)

    @torch.no_grad()
    def run() -> None:
        sample(guide(eps_fn, Context(ids)), images, pairs, nets.model.schedule)

    return run


def gradient(nets: Nets, mode: str, name: str, batch: int, seed: int) -> Tensor:
    """The whole gradient of the loss of one step's prediction, in float32."""
    model = nets.in_mode(mode)
    model.unet.requires_grad_(True)
    work = work_of(nets, model, batch, pairs_down(T0, STEPS), seed)
    with precision(name, nets.device):
        (terms,) = OneStep()(work)
    weights = list(model.unet.parameters())
    gradients = torch.autograd.grad(terms["total"], weights, allow_unused=True)
    model.unet.requires_grad_(False)
    present = [g.float().flatten() for g in gradients if g is not None]
    return torch.cat(present)


def gradient_distances(nets: Nets, batch: int, draws: int = 3) -> dict[str, float]:
    """How far bf16's gradients are from eager float32's, as shares of its length: means."""
    nets.compiled.unet.load_state_dict(nets.model.unet.state_dict())  # as both were at first
    modes = ("channels_last", "compiled")
    found = dict.fromkeys((f"{mode}_bf16" for mode in modes), 0.0)
    for seed in range(draws):
        exact = gradient(nets, "channels_last", "fp32", batch, seed)
        for mode in modes:
            other = gradient(nets, mode, "bf16", batch, seed)
            found[f"{mode}_bf16"] += float((other - exact).norm() / exact.norm()) / draws
    return {**found, "times": found["compiled_bf16"] / found["channels_last_bf16"]}


# --------------------------------------------------------------------------------------- parts


@dataclass
class Spec:
    """One line of the table.

    Attributes:
        calls: of the network, in forward passes of one image; a backward pass counts as two.
        make: the run that is timed.
        steps: of one run, where the time of one step is wanted.
        tune: cuDNN tries its algorithms.
        closes: what is put back afterwards.
    """

    task: str
    batch: int
    precision: str
    mode: str
    calls: float
    make: Callable[[Nets, Spec], Callable[[], Any]]
    steps: int = 1
    tune: bool = False
    closes: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What identifies it."""
        return f"{self.task}, batch {self.batch}, {self.precision}, {self.mode}"


def spec_of(task: str, batch: int, arithmetic: str, mode: str) -> Spec:
    """A line for a task of ``TASKS``."""
    calls, make, steps = TASKS[task]
    return Spec(task, batch, arithmetic, mode, calls, make, steps, tune=mode.endswith("tuned"))


def _updating(options: DiffusionClip, rank: int = 0) -> Callable[[Nets, Spec], Callable[[], Any]]:
    return lambda nets, spec: update(nets, spec, options, rank)


def _carrying(*ways: Sequence[Pair]) -> Callable[[Nets, Spec], Callable[[], Any]]:
    return lambda nets, spec: trajectory(nets, spec, *ways)


UP_40, UP_23 = pairs_up(T0, 41), pairs_up(T0, 24)
GUIDED = pairs_down(900, 10)[:3]

# task -> network calls of an image (with BACKWARD = 2 more for a gradient), run, steps of a run
TASKS: dict[str, tuple[float, Callable[[Nets, Spec], Callable[[], Any]], int]] = {
    "update": (3 * STEPS, _updating(DiffusionClip(s_train=STEPS)), 1),
    "update, checkpointed": (4 * STEPS, _updating(ChainCheckpointed(s_train=STEPS)), 1),
    "update, gpu_efficient": (3 * STEPS, _updating(GpuEfficient(s_train=STEPS)), 1),
    "update, LoRA 8": (3 * STEPS, _updating(DiffusionClip(s_train=STEPS), 8), 1),
    "inversion, 23 calls": (len(UP_23), _carrying(UP_23), 1),
    "inversion, 40 calls": (len(UP_40), _carrying(UP_40), 1),
    "edit": (len(UP_40) + STEPS, _carrying(UP_40, pairs_down(T0, STEPS)), 1),
    "guided step": (1, lambda nets, spec: guided(nets, spec, GUIDED), len(GUIDED)),
}
GRADIENT = "gradient"  # the part that compares, and times nothing

# (task, batch, precision, mode, expected seconds with compilation), the most important first
PLAN: tuple[tuple[str, int, str, str, float], ...] = (
    ("update", 8, "bf16", "channels_last", 6),
    ("update", 8, "bf16", "compiled", 75),
    (GRADIENT, 8, "bf16", "compiled", 6),
    ("update", 8, "bf16", "compiled, tuned", 15),
    ("update, checkpointed", 1, "bf16", "channels_last", 3),
    ("update, checkpointed", 1, "fp32", "channels_last", 4),
    ("inversion, 23 calls", 8, "bf16", "channels_last", 3),
    ("inversion, 23 calls", 8, "bf16", "compiled", 35),
    ("inversion, 40 calls", 8, "bf16", "compiled", 4),
    ("edit", 8, "bf16", "compiled", 4),
    ("guided step", 8, "bf16", "compiled", 3),
    ("update, gpu_efficient", 8, "bf16", "compiled", 5),
    ("inversion, 40 calls", 1, "bf16", "channels_last", 4),
    ("inversion, 40 calls", 1, "bf16", "graph", 5),
    ("edit", 1, "bf16", "graph", 5),
    ("guided step", 1, "bf16", "graph", 4),
    ("inversion, 23 calls", 8, "bf16", "compiled, graph", 4),
    ("update", 4, "fp32", "eager", 8),
    ("update", 4, "fp32", "channels_last", 8),
    ("update", 4, "tf32", "channels_last", 6),
    ("update", 4, "bf16", "eager", 6),
    ("update", 4, "bf16", "channels_last", 4),
    ("update", 1, "bf16", "channels_last", 4),
    ("update, LoRA 8", 8, "bf16", "channels_last", 6),
    ("update, checkpointed", 8, "bf16", "compiled", 6),
    ("inversion, 23 calls", 16, "bf16", "channels_last", 5),
    ("inversion, 40 calls", 1, "fp32", "channels_last", 5),
    ("inversion, 40 calls", 1, "tf32", "channels_last", 5),
    ("edit", 1, "bf16", "channels_last", 4),
    ("update, checkpointed", 16, "bf16", "channels_last", 10),
    ("update", 16, "bf16", "compiled", 75),
    ("update", 1, "bf16", "compiled", 75),
    ("inversion, 40 calls", 1, "bf16", "compiled, graph", 35),
    ("inversion, 23 calls", 16, "bf16", "compiled", 35),
    ("update, LoRA 8", 8, "bf16", "compiled", 120),
)

# what is wanted: of which line, what, at most
GOALS: tuple[tuple[str, str, float], ...] = (
    ("update, batch 8, bf16, compiled", "seconds", 0.045),
    ("update, checkpointed, batch 1, bf16, channels_last", "peak_gb", 8.0),
    ("inversion, 23 calls, batch 8, bf16, compiled", "seconds", 0.060),
    (f"{GRADIENT}, batch 8, bf16, compiled", "times", 1.5),
)


class Measuring:
    """All parts within a budget, each kept in a file as soon as it is made."""

    def __init__(
        self,
        nets: Nets,
        budget: float,
        output: Path,
        settings: Mapping[str, Any],
        began: float | None = None,
    ) -> None:
        self.nets, self.budget, self.output = nets, budget, output
        self.began = began or time.perf_counter()
        # of one part's timed runs: a rehearsal needs no exact times
        self.most = 0.1 if nets.model.info.name == "tiny" else 3.0
        self.found: dict[str, Any] = {
            "settings": dict(settings),
            "limits": {},
            "lines": [],
            "not_measured": [],
            "failed": {},
            "environment": environment(),
        }

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def run(self, plan: Sequence[tuple[str, int, str, str, float]]) -> list[dict[str, Any]]:
        """Every part in its order; the lines."""
        for part in plan:
            self.part(*part)
            self.found["goals"] = goals_of(self.found["lines"])
            self.found["seconds"] = self.elapsed
            write_json(self.output, self.found)
        lines: list[dict[str, Any]] = self.found["lines"]
        return lines

    def part(self, task: str, batch: int, arithmetic: str, mode: str, expected: float) -> None:
        """Measure one, unless there is no time for it; what fails is noted."""
        name = f"{task}, batch {batch}, {arithmetic}, {mode}"
        if self.elapsed + expected > self.budget:
            self.found["not_measured"].append(name)
            return
        try:
            if task == GRADIENT:
                line = {"part": name, **gradient_distances(self.nets, batch)}
            else:
                line = self.line(spec_of(task, batch, arithmetic, mode))
        except Exception as error:
            self.found["failed"][name] = f"{type(error).__name__}: {one_line(error)}"
            line = {"part": name, "failed": self.found["failed"][name]}
        else:
            self.found["lines"].append(line)
        self.nets.model.fast = self.nets.compiled.fast = False
        gc.collect()
        if self.nets.device.type == "cuda":
            torch.cuda.empty_cache()
        shown = " ".join(f"{key} {_text(value)}" for key, value in line.items() if key in SHOWN)
        print(f"{self.elapsed:5.0f} s  {name}: {shown}", flush=True)

    def line(self, spec: Spec) -> dict[str, Any]:
        """Time a part, and say what share of the card it takes."""
        nets = self.nets
        backward = spec.task.startswith("update")
        outside = precision(spec.precision, nets.device)  # tf32, which stays set
        inside = outside if backward else nullcontext()  # else the network's own affair
        try:
            with tuned_convolutions(spec.tune):
                run = spec.make(nets, spec)
                with inside:
                    took = timed(run, nets.device, self.most)
        finally:
            for close in spec.closes:
                close()
        return line_of(spec, took, nets.gflop, self.found["limits"])


SHOWN = ("seconds", "mfu", "peak_gb", "compile_s", "times_faster", "times", "failed",
         "channels_last_bf16", "compiled_bf16")  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line_of(spec: Spec, took: Timed, gflop: float, limits: Mapping[str, float]) -> dict[str, Any]:
    """A line of the table."""
    seconds = took.seconds / (spec.batch * spec.steps)
    rate = spec.calls * gflop / seconds / 1e3
    paper = PAPER.get(spec.task)
    peak = limits.get(f"matmul_{spec.precision}_tflops")
    return {
        "part": spec.name,
        "task": spec.task,
        "batch": spec.batch,
        "precision": spec.precision,
        "mode": spec.mode,
        "seconds": seconds,
        "images_per_s": 1 / seconds,
        "unet_tflops": rate,
        "mfu": None if peak is None else rate / peak,
        "peak_gb": took.peak_gb,
        "compile_s": took.first - took.seconds,
        "paper_seconds": paper,
        "times_faster": None if paper is None else paper / seconds,
    }


def goals_of(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is wanted, beside what was found."""
    by_name = {line["part"]: line for line in lines}
    goals = []
    for name, what, most in GOALS:
        value = by_name.get(name, {}).get(what)
        reached = None if value is None else value <= most
        goals.append({"part": name, "what": what, "most": most, "found": value, "met": reached})
    return goals


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=300, help="no part begins that would end later"
    )
    parser.add_argument("--compile", choices=("blocks", "whole", "autotuned"), default="blocks",
                        help="the residual blocks, as trainer.speed=compiled does, or the network")  # fmt: skip
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny networks")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args(words)
    if not torch.cuda.is_available() and not args.tiny:
        print(
            "gpu: not measured, there is no CUDA GPU here; "
            "run python benchmarks/gpu.py on a machine with one"
        )
        return []
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nets = Nets.tiny(device) if args.tiny else Nets.published(device)
    nets.compile(args.compile, args.backend)
    settings = {"seconds": args.seconds, "compile": args.compile, "tiny": args.tiny}
    measuring = Measuring(nets, args.seconds, args.output, settings, began)
    found = limits(device, 64 if args.tiny else 8192)
    measuring.found["limits"] = found
    print(" ".join(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
    lines = measuring.run([part for part in PLAN if part[0].startswith(args.only)])
    print(table(measuring.found["goals"]))
    print(f"not measured: {measuring.found['not_measured'] or 'nothing'}")
    return lines


if __name__ == "__main__":
    main()
