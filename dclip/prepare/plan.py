"""``task=plan`` or ``plan=true``: what a run would fetch, how long it would take and how much memory, before anything is spent.

Imports nothing heavy. Time is work divided by speed. The work of a U-Net call is counted (``benchmarks/plan_constants.py``);
a backward pass costs two forward passes. The speeds are those of two devices that were measured:

* CPU: the ToonFaces network on this project's machine, 74 GFLOP/s a thread (2.6 GFLOP in 35 ms, one thread, fp32);
* GPU: the paper's Quadro RTX 6000, 11.8 TFLOP/s (497 GFLOP in 42 ms: 40 steps of a 256x256 image in 1.684 s, fp32).

Other devices differ; newer GPUs are faster. CLIP and the networks that measure are left out of the time (about 2 %).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dclip.config import (
    Config,
    DemoTask,
    Encode,
    FinalStep,
    PretrainTask,
    ReconstructTask,
    Sampler,
    SampleTask,
    Solver,
    TranslateTask,
    WandbMode,
    option_name,
    planned,
)
from dclip.data.missing import missing_data
from dclip.files import write_json
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, method_of
from dclip.models import fetch, registry
from dclip.models.sizes import MOST_IMAGES, WORKING, Size, size_of
from dclip.prepare import needs
from dclip.record.identity import config_hash, run_name
from dclip.record.online import wandb_mode

CPU_GFLOPS = 74.0  # a thread


RTX6000_GFLOPS = 11_800.0


PYTHON_MB = 900.0  # torch and the other libraries, before any network


OVERHEAD = 1.5  # what an allocator needs beyond what is counted, at most: the paper's code took 23 GB where 15 are counted


BYTES = 4  # of a weight


@dataclass(frozen=True)
class Device:
    """Where the run would compute, and how fast that is known to be."""

    name: str
    gflops: float | None
    basis: str
    memory_gb: float | None = None


@cache
def gpu() -> tuple[str, float] | None:
    """Name and memory (GB) of the first NVIDIA GPU, asked without torch."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        lines = subprocess.run(
            asked, capture_output=True, text=True, timeout=2, check=True
        ).stdout.splitlines()
        name, memory = lines[0].rsplit(",", 1)
        return name.strip(), float(memory) / 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def device_of(cfg: Config) -> Device:
    """The device that ``trainer.accelerator`` would choose."""
    told = cfg.trainer.accelerator
    found = gpu() if told in ("auto", "gpu", "cuda") else None
    if found is not None:
        return Device(
            found[0], RTX6000_GFLOPS, "the paper's Quadro RTX 6000; newer GPUs are faster", found[1]
        )
    if told in ("gpu", "cuda"):
        return Device("no NVIDIA GPU was found", RTX6000_GFLOPS, "the paper's Quadro RTX 6000")
    if told == "mps" or (told == "auto" and sys.platform == "darwin"):
        return Device("Apple GPU", None, "its speed was not measured")
    threads = (
        cfg.trainer.threads or int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
    )
    return Device(
        f"CPU, {threads} threads",
        CPU_GFLOPS * threads,
        "the ToonFaces network on one CPU thread",
        _ram(),
    )


def _ram() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None


def image_counts(cfg: Config) -> ImageCounts:
    """How many images are trained on, validated on, and edited or sampled."""
    data, task = cfg.dataset, cfg.task
    count = data.test
    if isinstance(task, DemoTask):  # one press of its button
        count = 1
    elif isinstance(task, SampleTask) and not task.from_images:
        count = task.count
    elif cfg.input is not None:
        path = Path(cfg.input)
        count = sum(p.is_file() for p in path.rglob("*")) if path.is_dir() else 1
    return ImageCounts(data.train, data.validation, count)


def inversion_calls(sampler: Sampler) -> int:
    """Network calls that bring one image to t0, at most."""
    if sampler.encode is Encode.stochastic:
        return 0
    # steps of the generation's way back
    mirrored = sampler.s_gen - (sampler.final_step is FinalStep.to_t0)
    return {
        Solver.fixed_point: sampler.sweeps * mirrored + 1,
        Solver.belm: mirrored + 1,
        Solver.ab2: sampler.s_for,
        Solver.heun: 2 * (sampler.s_for - 1),
    }.get(sampler.solver, sampler.s_for - 1)


def calls(cfg: Config) -> dict[str, float]:
    """U-Net evaluations (in forward passes of one image) of every part of a run."""
    task, sampler, images = cfg.task, cfg.sampler, image_counts(cfg)
    if isinstance(task, PretrainTask):
        return {"train": BACKWARD * task.steps * task.batch}
    invert = inversion_calls(sampler)
    if isinstance(task, SampleTask):
        work = {"invert": float(images.test * invert)} if task.from_images else {}
        return {**work, **method_of(cfg).cost(cfg, images).calls}
    both = 1 if cfg.gamma in (0, 1) else 2
    work = {
        "invert": float(images.test * invert),
        "edit": float(images.test * sampler.s_gen * both),
    }
    if isinstance(task, ReconstructTask):
        return work
    if isinstance(task, TranslateTask):
        translate = {"translate": float(task.rounds * task.steps * images.test)}
        return {**translate, **work} if cfg.edit.adapters else translate
    work["edit"] += 2 * len(cfg.degrees) * min(6, images.test) * sampler.s_gen  # the strip
    if task.learns:
        work["invert"] += (images.train + images.validation) * invert
        work |= method_of(cfg).cost(cfg, images).calls
    return work


def most_images(device: Device, size: Size) -> int:
    """How many images ``trainer.batch=null`` would take at a time, were all memory free."""
    most = MOST_IMAGES["cpu" if device.name.startswith("CPU") else "gpu"]
    if device.memory_gb is None:
        return most
    fitting = int(device.memory_gb * 1e3 / 2 / (WORKING * size.kept_mb))
    return max(1, min(most, fitting))


def memory_mb(cfg: Config, size: Size) -> float:
    """What is counted: copies of the weights, other networks, and what autograd keeps.

    Where nothing is differentiated, what a call without gradient needs.
    """
    weights = size.parameters * BYTES / 1e6
    others: float = sum(need.megabytes for need in needs.needed(cfg) if need.entry.kind != "ddpm")
    cost = Cost()
    if cfg.task.learns or isinstance(cfg.task, SampleTask):
        cost = method_of(cfg).cost(cfg, image_counts(cfg))
    if cost.graphs:
        kept = size.kept_mb * cost.graphs
    else:
        batch = cfg.trainer.batch or most_images(device_of(cfg), size)
        kept = WORKING * size.kept_mb * batch
    return cost.weights * weights + others + kept


def plan(cfg: Config) -> dict[str, Any]:
    """What a run would fetch, take and need, as plain data."""
    cfg = planned(cfg)
    device, size, wanted = device_of(cfg), size_of(cfg), needs.needed(cfg)
    absent = [need for need in wanted if need.path is None]
    work = calls(cfg)
    seconds: dict[str, float] = {}
    if size is not None and device.gflops is not None:
        seconds = {
            part: round(count * size.gflop / device.gflops, 1) for part, count in work.items()
        }
    counted = memory_mb(cfg, size) if size else None
    if counted is not None and device.name.startswith("CPU"):
        counted += PYTHON_MB
    return {
        "task": option_name("task", cfg.task),
        "device": {
            "name": device.name,
            "memory_gb": device.memory_gb and round(device.memory_gb, 1),
        },
        "here": {need.name: str(need.path) for need in wanted if need.path},
        "fetch": [_fetched(need) for need in absent if not need.optional],
        "optional": [_fetched(need) for need in absent if need.optional],
        "fetch_mb": round(sum(need.megabytes for need in absent if not need.optional), 1),
        "may_not_fetch": fetch.offline_reason(cfg.offline),
        "data": missing_data(cfg),
        "network": _network(cfg, absent),
        "unet_calls": {part: round(count) for part, count in work.items()},
        "seconds": seconds,
        "seconds_basis": f"estimated from {device.basis}" if seconds else _unknown(size, device),
        "memory_mb": counted and {"counted": round(counted), "at_most": round(counted * OVERHEAD)},
    }


def _fetched(need: needs.Need) -> dict[str, Any]:
    return {
        "name": need.name,
        "megabytes": need.megabytes,
        "licence": need.licence,
        "why": need.why,
        "sources": list(need.sources),
    }


def _unknown(size: Size | None, device: Device) -> str:
    return (
        device.basis
        if size is not None
        else "unknown: this checkpoint is none of the known ones, so its size is not known"
    )


def _network(cfg: Config, absent: list[needs.Need]) -> list[str]:
    """Who would be called."""
    hosts = {
        fetch.host(url): "weights" for need in absent if not need.optional for url in need.sources
    }
    called = (
        [f"{name} ({why})" for name, why in hosts.items()]
        if fetch.offline_reason(cfg.offline) is None
        else []
    )
    online = wandb_mode(cfg) is WandbMode.online
    return [*called, *(["api.wandb.ai (the run's records)"] if online else [])]


# ---------------------------------------------------------------------------------------------------- for people


def duration(seconds: float) -> str:
    """A length of time, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def text(found: Mapping[str, Any]) -> str:
    """A plan as a page of the terminal."""
    lines = [f"plan of task={found['task']} on {found['device']['name']}", ""]
    lines += [f"  here      {name}: {path}" for name, path in found["here"].items()]
    lines += [
        f"  {verb:9} {_line(item)}"
        for verb, key in (("fetch", "fetch"), ("optional", "optional"))
        for item in found[key]
    ]
    lines += [f"  data      {line}" for line in found["data"]]
    if found["fetch"]:
        may_not = (
            f"; but nothing may be fetched ({found['may_not_fetch']})"
            if found["may_not_fetch"]
            else ""
        )
        lines.append(
            f"  in all    {found['fetch_mb']:,.0f} MB to fetch, into {registry.home()}{may_not}"
        )
    elif not found["data"]:
        lines.append("  fetch     nothing")
    lines.append(f"  network   {', '.join(found['network']) or 'no calls'}")
    total, each = sum(found["seconds"].values()), found["seconds"].items()
    parts = ", ".join(f"{part} {duration(s)}" for part, s in each)
    lines.append(
        f"  time      about {duration(total)}: {parts}" if each else "  time      not known"
    )
    lines.append(f"            {found['seconds_basis']}")
    lines.append(f"  memory    {_memory(found)}")
    return "\n".join(lines)


def _line(item: Mapping[str, Any]) -> str:
    return f"{item['name']}: {item['megabytes']:,.0f} MB; {item['licence']}; {item['why']}"


def _memory(found: Mapping[str, Any]) -> str:
    if not found["memory_mb"]:
        return "unknown"
    low, high = found["memory_mb"]["counted"] / 1e3, found["memory_mb"]["at_most"] / 1e3
    has = found["device"]["memory_gb"]
    verdict = (
        ""
        if not has
        else f" of {has:.0f} GB"
        + ("; that is too little" if low > has else "; that may be tight" if high > has else "")
    )
    return f"{low:.1f} GB counted, {high:.1f} GB at most{verdict}"


def show(cfg: Config) -> Path:
    """Print a run's plan and keep it as JSON under ``output``/plans; returns the file."""
    found = plan(cfg)
    stem = (
        f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{run_name(planned(cfg))}_{config_hash(planned(cfg))}"
    )
    path = Path(cfg.output) / "plans" / f"{stem}.json"
    write_json(path, found)
    print(f"{text(found)}\n\n  kept in   {path}")
    return path
