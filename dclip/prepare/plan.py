"""``plan=true`` or ``task=plan``: what a run would fetch, and the time and memory it would take.

Imports nothing heavy. Time is work divided by speed. The work of a U-Net call is counted
(``benchmarks/plan_constants.py``); a backward pass costs two forward passes. The speeds are those
of two devices that were measured:

* CPU: the ToonFaces network on this project's machine, 74 GFLOP/s a thread (2.6 GFLOP in 35 ms, one
  thread, fp32);
* GPU: the paper's Quadro RTX 6000, 11.8 TFLOP/s (497 GFLOP in 42 ms: 40 steps of a 256x256 image in
  1.684 s, fp32).

Other devices differ; newer GPUs are faster. CLIP and the networks that measure are left out of the
time (about 2 %).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from dclip.config import (
    Carry,
    Config,
    DemoTask,
    Encode,
    Mix,
    PretrainTask,
    ReconstructTask,
    SampleTask,
    TranslateTask,
    WandbMode,
    option_name,
    planned,
)
from dclip.config.edit import (
    CALIBRATION_DEGREES,
    CALIBRATION_IMAGES,
    REFINING_STEPS,
    STRIP_IMAGES,
)
from dclip.data.folders import find_images
from dclip.data.missing import data_to_fetch, missing_data
from dclip.edits.weights import constant_weights
from dclip.errors import counted, unwritable
from dclip.files import write_json
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, method_of
from dclip.models import fetch, registry
from dclip.models.sizes import MOST_IMAGES, WORKING, Size, size_of
from dclip.prepare import needs
from dclip.prepare.pictures import warn_of_pictures
from dclip.record.identity import config_hash, run_name
from dclip.record.online import wandb_mode
from dclip.runtime.durations import duration
from dclip.text.known import warn_of_words

CPU_GFLOPS = 74.0  # a thread
RTX6000_GFLOPS = 11_800.0
PYTHON_MB = 900.0  # torch and the other libraries, before any network
# what an allocator needs at most of what is counted: the paper's code took 23 GB where 15 are counted
OVERHEAD = 1.5
BYTES = 4  # of a weight
TRAINED = 5  # copies of the weights in a pretraining: own, gradients, two moments, the average


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
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=2, check=True)
        name, memory = answer.stdout.splitlines()[0].rsplit(",", 1)
        return name.strip(), float(memory) / 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def device_of(cfg: Config) -> Device:
    """The device that ``trainer.accelerator`` would choose."""
    accelerator = cfg.trainer.accelerator
    basis = "the paper's Quadro RTX 6000"
    card = gpu() if accelerator in ("auto", "gpu", "cuda") else None
    if card is not None:
        name, memory = card
        return Device(name, RTX6000_GFLOPS, f"{basis}; newer GPUs are faster", memory)
    if accelerator in ("gpu", "cuda"):
        return Device("no NVIDIA GPU was found", RTX6000_GFLOPS, basis)
    if accelerator == "mps" or (accelerator == "auto" and sys.platform == "darwin"):
        return Device("Apple GPU", None, "its speed was not measured")
    threads = cfg.trainer.threads or int(os.environ.get("OMP_NUM_THREADS", "0"))
    threads = threads or os.cpu_count() or 1
    basis = "the ToonFaces network on one CPU thread"
    return Device(f"CPU, {counted(threads, 'thread')}", CPU_GFLOPS * threads, basis, memory_gb())


def memory_gb() -> float | None:
    """Memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None


def image_counts(cfg: Config) -> ImageCounts:
    """How many images are trained on, validated on, and edited or sampled."""
    data, task = cfg.dataset, cfg.task
    train, validation, count = data.train, data.validation, data.test
    if isinstance(task, DemoTask):  # one press of its button
        count = 1
    elif isinstance(task, SampleTask) and not task.from_images:
        count = task.count
    elif cfg.input is not None:
        count = len(find_images(Path(cfg.input)))
        train, validation = count, 0
    return ImageCounts(train, validation, count)


def calls(cfg: Config) -> dict[str, float]:
    """U-Net evaluations (in forward passes of one image) of every part of a run."""
    task, sampler, images = cfg.task, cfg.sampler, image_counts(cfg)
    if isinstance(task, PretrainTask):
        return {"train": BACKWARD * task.steps * task.batch}
    invert, source = sampler.encoding_calls(), sampler.source_calls()
    if isinstance(task, SampleTask):
        work = {"invert": float(images.test * invert)} if task.from_images else {}
        return {**work, **method_of(cfg).cost(cfg, images).calls}
    copies = images.test * cfg.variants
    apart = isinstance(task, TranslateTask) or sampler.encode is Encode.stochastic
    work = {
        "invert": float((copies if apart else images.test) * source),
        "edit": float(copies * _applied(cfg, [cfg.gamma])),
    }
    if isinstance(task, ReconstructTask):
        return {**work, **_axioms(cfg, images)}
    if isinstance(task, TranslateTask):
        translate = {"translate": float(task.rounds * task.steps * copies)}
        return {**translate, **work} if cfg.edit.adapters else translate
    if cfg.degrees:
        work["edit"] += min(STRIP_IMAGES, copies) * _applied(cfg, cfg.degrees)
    if task.learns:
        method = method_of(cfg)
        learned = images.train * method.needs_latents + images.validation
        work["invert"] += learned * invert
        work |= method.cost(cfg, images).calls
        work |= _calibration(cfg, images) | _location(cfg, images)
    return {**work, **_axioms(cfg, images)}


def _turns(cfg: Config) -> list[tuple[float, Config]]:
    """The weight and the settings of every edit of several that act one after the other."""
    edits = cfg.edit.adapters
    if not cfg.mix.in_turn or len(edits) < 2:
        return []
    own = cfg.edit.each or [cfg.edit] * len(edits)
    turns = []
    for name, weight, options in zip(
        edits, constant_weights(cfg.mix, len(edits)), own, strict=True
    ):
        alone = replace(options, adapter=name, regions=None)
        turns.append((weight, replace(cfg, edit=alone, mix=Mix())))
    return turns


def _applied(cfg: Config, gammas: Sequence[float]) -> int:
    """Network calls that make one image at these degrees, after its inversion."""
    sampler, turns = cfg.sampler, _turns(cfg)
    if not turns:
        return sampler.edit_calls(_networks(cfg, gammas)) + _refining(cfg, gammas)
    calls = 0
    for gamma in gammas:
        calls += (len(turns) - 1) * sampler.source_calls()
        calls += sum(_applied(own, [gamma * weight]) for weight, own in turns)
    return calls


def _networks(cfg: Config, gammas: Sequence[float]) -> int:
    """Networks that each step of an edit asks, beside the source's branch where there is one.

    A region is found from the whole edit, and from the picture without it. Edits that are mixed,
    each in its region, are each made alone, too.
    """
    at_once = 1 if cfg.mix.soup else max(1, len(cfg.edit.adapters))
    alone = cfg.sampler.carry is Carry.none
    if at_once > 1 and cfg.edit.each:
        confined = sum(own.confined for own in cfg.edit.each)
        apart = 1 + confined if alone else 2 * confined
        return apart + len(gammas) * (1 + at_once)
    degrees = {gamma * cfg.sampler.carry_weight for gamma in gammas}
    if cfg.edit.confined and not isinstance(cfg.task, ReconstructTask):
        degrees.add(1.0)
        if alone:
            degrees.add(0.0)
    return sum(1 if g == 0 else at_once + (g != 1) for g in degrees)


def _refining(cfg: Config, degrees: Sequence[float]) -> int:
    """Network calls that refine one image at these degrees."""
    if not cfg.edit.confined or cfg.edit.region_refine == 0:
        return 0
    return REFINING_STEPS * sum(degree != 0 for degree in degrees)


def _calibration(cfg: Config, images: ImageCounts) -> dict[str, float]:
    """The pictures of ``edit.degree=auto``: both networks at every degree but 0 and 1."""
    if cfg.edit.degree != "auto":
        return {}
    count = min(CALIBRATION_IMAGES, images.validation)
    networks = 2 * len(CALIBRATION_DEGREES) - 2
    return {"calibrate": float(count * networks * cfg.sampler.generation_calls())}


def _location(cfg: Config, images: ImageCounts) -> dict[str, float]:
    """The pictures that show what the edit usually does: of the edit, and without it."""
    if not cfg.edit.needs_usual:
        return {}
    count = min(cfg.edit.usual_images, images.train)
    return {"locate": float(2 * count * cfg.sampler.generation_calls())}


def _axioms(cfg: Config, images: ImageCounts) -> dict[str, float]:
    """Ten edits of degree 0; an edit and its opposite; and, of edits in turn, the other order."""
    count, source = min(cfg.metric.axioms, images.test), cfg.sampler.source_calls()
    if count == 0:
        return {}
    calls = 10 * _applied(cfg, [0.0]) + 9 * source
    if not isinstance(cfg.task, ReconstructTask):
        degree = cfg.gamma or cfg.edit.whole
        calls += _applied(cfg, [degree]) + source + _applied(cfg, [-degree])
        if _turns(cfg) and cfg.gamma != 0:
            calls += _applied(cfg, [degree])
    return {"axioms": float(count * calls)}


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
    if isinstance(cfg.task, PretrainTask):
        cost = Cost(weights=TRAINED, graphs=cfg.task.batch)
    elif cfg.task.learns or isinstance(cfg.task, SampleTask):
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
    device, size, weights = device_of(cfg), size_of(cfg), needs.needed(cfg)
    absent = [one for one in weights if one.path is None]
    required = [one for one in absent if not one.optional]
    optional = [one for one in absent if one.optional]
    work = calls(cfg)
    seconds = _seconds(work, size, device)
    basis = f"estimated from {device.basis}" if seconds else _unknown(cfg, size, device)
    gigabytes = device.memory_gb and round(device.memory_gb, 1)
    return {
        "task": option_name("task", cfg.task),
        "device": {"name": device.name, "memory_gb": gigabytes},
        "here": {one.name: str(one.path) for one in weights if one.path},
        "fetch": [_fetched(one) for one in required],
        "optional": [_fetched(one) for one in optional],
        "fetch_mb": round(sum(one.megabytes for one in required), 1),
        "may_not_fetch": fetch.offline_reason(cfg.offline),
        "data": missing_data(cfg),
        "data_to_fetch": data_to_fetch(cfg),
        "network": _network(cfg, required),
        "unet_calls": {part: round(count) for part, count in work.items()},
        "seconds": seconds,
        "seconds_basis": basis,
        "memory_mb": _memory_bounds(cfg, size, device),
    }


def _seconds(work: Mapping[str, float], size: Size | None, device: Device) -> dict[str, float]:
    """Time of every part of a run; empty where network or device is unknown."""
    if size is None or device.gflops is None:
        return {}
    return {part: round(count * size.gflop / device.gflops, 1) for part, count in work.items()}


def _memory_bounds(cfg: Config, size: Size | None, device: Device) -> dict[str, int] | None:
    if size is None:
        return None
    counted = memory_mb(cfg, size)
    if device.name.startswith("CPU"):
        counted += PYTHON_MB
    return {"counted": round(counted), "at_most": round(counted * OVERHEAD)}


def _fetched(need: needs.Need) -> dict[str, Any]:
    return {
        "name": need.name,
        "megabytes": need.megabytes,
        "licence": need.licence,
        "why": need.why,
        "sources": list(need.sources),
    }


def _unknown(cfg: Config, size: Size | None, device: Device) -> str:
    if size is not None:
        return device.basis
    if isinstance(cfg.task, PretrainTask):
        return f"unknown: nothing is known in advance of this task.net={cfg.task.net.value}"
    return "unknown: this checkpoint is none of the known ones, so its size is not known"


def _network(cfg: Config, required: Sequence[needs.Need]) -> list[str]:
    """Which hosts would be called, and why."""
    hosts: dict[str, None] = {}
    if fetch.offline_reason(cfg.offline) is None:
        for one in required:
            hosts |= dict.fromkeys(fetch.host(url) for url in one.sources)
    calls = [f"{host} (weights)" for host in hosts]
    if wandb_mode(cfg) is WandbMode.online:
        calls.append("api.wandb.ai (the run's records)")
    return calls


# ---------------------------------------------------------------------------------------------------- for people


def text(plan: Mapping[str, Any]) -> str:
    """A plan as a page of the terminal."""
    lines = [f"plan of task={plan['task']} on {plan['device']['name']}", ""]
    for name, path in plan["here"].items():
        lines.append(f"  here      {name}: {path}")
    for verb in ("fetch", "optional"):
        for item in plan[verb]:
            size = f"{item['megabytes']:,.0f} MB"
            lines.append(f"  {verb:9} {item['name']}: {size}; {item['licence']}; {item['why']}")
    for line in plan["data"]:
        lines.append(f"  data      {line}")
    if plan["data_to_fetch"]:
        lines.append(f"  fetch     {plan['data_to_fetch']}")
    lines += _fetch_lines(plan)
    lines.append(f"  network   {', '.join(plan['network']) or 'no calls'}")
    lines += _time_lines(plan)
    lines.append(f"  memory    {_memory(plan)}")
    return "\n".join(lines)


def _fetch_lines(plan: Mapping[str, Any]) -> list[str]:
    if plan["fetch"]:
        line = f"  in all    {plan['fetch_mb']:,.0f} MB to fetch, into {registry.home()}"
        if plan["may_not_fetch"]:
            line += f"; but nothing may be fetched ({plan['may_not_fetch']})"
        return [line]
    return [] if plan["data"] or plan["data_to_fetch"] else ["  fetch     nothing"]


def _time_lines(plan: Mapping[str, Any]) -> list[str]:
    time_line = "  time      not known"
    if plan["seconds"]:
        parts = ", ".join(f"{part} {duration(s)}" for part, s in plan["seconds"].items())
        time_line = f"  time      about {duration(sum(plan['seconds'].values()))}: {parts}"
    return [time_line, f"            {plan['seconds_basis']}"]


def _memory(plan: Mapping[str, Any]) -> str:
    if not plan["memory_mb"]:
        return "unknown"
    low, high = plan["memory_mb"]["counted"] / 1e3, plan["memory_mb"]["at_most"] / 1e3
    line = f"{low:.1f} GB counted, {high:.1f} GB at most"
    has = plan["device"]["memory_gb"]
    if not has:
        return line
    line += f" of {has:.0f} GB"
    if low > has:
        return f"{line}; that is too little"
    if high > has:
        return f"{line}; that may be tight"
    return line


def show(cfg: Config) -> Path:
    """Print a run's plan and keep it as JSON under ``output``/plans; returns the file."""
    contents, run = plan(cfg), planned(cfg)
    stem = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{run_name(run)}_{config_hash(run)}"
    path = Path(cfg.output) / "plans" / f"{stem}.json"
    try:
        write_json(path, contents)
    except OSError as error:
        raise unwritable(cfg.output, error) from error
    print(f"{text(contents)}\n\n  kept in   {path}")
    warn_of_words(run)
    warn_of_pictures(run)
    return path
