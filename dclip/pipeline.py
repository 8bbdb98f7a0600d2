"""What a run does, from its configuration to its report. Read this first.

image -> encode (invert) -> adapt (fine-tune, or nothing) -> edit -> image -> measure -> record
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip import needs, parallel, plan
from dclip.build import Networks, build_networks
from dclip.config import Config, DclipError, TaskName, planned
from dclip.data.images import save_png
from dclip.data.load import fetch_data, load_input, true_images, truth_of
from dclip.diffusion.mix import degree
from dclip.diffusion.solvers import pairs_of, solver_of
from dclip.methods import sampling
from dclip.methods.adapter import read_edit, save_edit
from dclip.methods.drawn import source_images
from dclip.methods.objectives import needs_latents
from dclip.methods.walk import Walk, encode, run_walk
from dclip.metrics.suite import measure
from dclip.models.unet import DiffusionModel
from dclip.report import grid_picture, text_table, write_report
from dclip.tracking import Record, peak_memory_mb, read_json, recording
from dclip.types import Edited, Images

log = logging.getLogger("dclip")


def run(cfg: Config) -> Path:
    """Do one run; returns its folder. DclipError for bad input, before anything expensive.

    With ``plan=true`` (or ``task=plan``) only the plan is made; its file is returned.
    """
    if planned(cfg).plan:
        return plan.show(cfg)
    needs.obtain([cfg])
    torch.set_num_threads(cfg.trainer.threads or torch.get_num_threads())
    parallel.join()
    with recording(cfg) as record:
        fetch_data(cfg)
        TASKS[cfg.task.name](cfg, record)
    if record.writes:  # last, so that the page shows the run's final status
        title = cfg.name or (sampling.title_of(cfg) if cfg.task.name is TaskName.sample else _title(cfg))
        report = write_report(record.folder, title, f"dclip · seed {cfg.seed} · {record.folder.name}")
        log.info("%s\n%s", text_table(read_json(record.folder / "metrics.json")), f"report: {report}")
    return record.folder


def _title(cfg: Config) -> str:
    return f"{cfg.task.name.value}: {cfg.edit.source} → {cfg.edit.target}"


def finetune(cfg: Config, record: Record) -> None:
    """Adapt the model to the edit, apply it to the test images, measure."""
    from dclip.methods.adapt import adapt

    networks = build_networks(cfg)
    model = networks.model
    images = {split: source_images(cfg, model, split) for split in ("train", "validation", "test")}
    with record.timing("invert"):
        unused = () if needs_latents(cfg.method.objective) else ("train",)
        latents = {
            split: part.pixels[:0] if split in unused else encode(cfg, model, part, f"{split} images")
            for split, part in images.items()
        }
    original = copy.deepcopy(model)
    with record.timing("adapt"):
        lora = adapt(cfg, record, networks, images, latents)
    if record.writes:
        save_edit(record.folder / "adapter.safetensors", cfg, model, record.seconds["seconds_adapt"], lora)
    edited = apply_edit(cfg, record, networks, images["test"], latents["test"], original)
    finish(cfg, record, networks, edited, latents["test"], original)


def edit(cfg: Config, record: Record) -> None:
    """Apply an edit that was fine-tuned before to a file, a folder, or the test images."""
    networks = build_networks(cfg)
    model = networks.model
    original = copy.deepcopy(model)
    read_edit(str(cfg.edit.adapter), cfg.sampler.t0).put_on(model)
    images = load_input(cfg, model.image_size) if cfg.input else source_images(cfg, original, "test")
    with record.timing("invert"):
        latents = encode(cfg, original, images)
    edited = apply_edit(cfg, record, networks, images, latents, original)
    for name, pixels in zip(images.ids, edited.result, strict=True):
        if record.writes:
            save_png(pixels, record.folder / "samples" / f"image_{name}.png")
    finish(cfg, record, networks, edited, latents, original)


def reconstruct(cfg: Config, record: Record) -> None:
    """Send the test images up to t0 and back through the unchanged model."""
    networks = build_networks(cfg)
    model = networks.model
    images = source_images(cfg, model, "test")
    with record.timing("invert"):
        latents = encode(cfg, model, images)
    with record.timing("edit"):
        result = generate(cfg, model, model.predict, images, latents)
    edited = Edited(images, result)
    scores = measure(edited, cfg.metric, networks.scorers())
    record.rows(images.ids, scores.rows)
    record.picture("before_after", grid_picture([("source", images.pixels), ("reconstruction", result)]))
    record.metrics({**scores.values, **record.seconds, "peak_memory_mb": peak_memory_mb()})


def sample_noise(cfg: Config, record: Record) -> None:
    """Draw images from noise (or from the latents of images), freely or under guidance; measure what was asked for."""
    networks = build_networks(cfg)
    asked = sampling.Asked.of(cfg, networks)
    with record.timing("invert"):
        origin = sampling.origin_of(cfg, networks.model)
    outcome = sampling.carry_out(cfg, record, networks, asked, origin)
    sampling.finish(cfg, record, networks, asked, origin, outcome)


def pretrain(cfg: Config, record: Record) -> None:
    """Train one of the embedded networks."""
    from dclip.methods.pretrain_run import train_network

    train_network(cfg, record)


TASKS: dict[TaskName, Callable[[Config, Record], None]] = {
    TaskName.finetune: finetune,
    TaskName.edit: edit,
    TaskName.reconstruct: reconstruct,
    TaskName.sample: sample_noise,
    TaskName.pretrain: pretrain,
}


def generate(cfg: Config, model: DiffusionModel, eps_fn: Any, images: Images, latents: Tensor, what: str = "generating") -> Tensor:
    """Images [N,3,H,W] from latents at t0, in ``sampler.s_gen`` steps."""
    walk = Walk(eps_fn, [model], pairs_of(cfg.sampler)[1], model.schedule, solver_of(cfg.sampler, model.info.variance), cfg.seed)
    return run_walk(cfg, walk, images.ids, latents, what)


def apply_edit(
    cfg: Config, record: Record, networks: Networks, images: Images, latents: Tensor, original: DiffusionModel
) -> Edited:
    """Generate with the fine-tuned model, at the degree of change ``gamma``."""
    model = networks.model.eval().requires_grad_(False)
    eps_fn: Any = model.predict
    if cfg.gamma != 1:
        eps_fn = degree(original.predict, model.predict, cfg.gamma)
    with record.timing("edit"):
        result = generate(cfg, model, eps_fn, images, latents)
    if not bool(torch.isfinite(result).all()):
        raise DclipError("the edited images are not finite: the fine-tuning diverged; lower method.lr")
    truth = true_images(images, truth_of(cfg)) if cfg.gamma == 1 else None
    return Edited(images, result, truth)


def finish(cfg: Config, record: Record, networks: Networks, edited: Edited, latents: Tensor, original: DiffusionModel) -> None:
    """Measure, draw the pictures, write the numbers."""
    images = edited.source
    scores = measure(
        edited, cfg.metric, networks.scorers(), (cfg.edit.source, cfg.edit.target), truth_of(cfg) if images.faces else None
    )
    shown = images.take(range(min(12, len(images))))
    rows = [("source", shown.pixels), (cfg.edit.name or "edited", edited.result)]
    if edited.truth is not None:
        rows.append(("the truth", edited.truth))
    record.picture("before_after", grid_picture(rows))
    few = shown.take(range(min(6, len(shown))))
    strip = [("source", few.pixels)]
    for gamma in (0.0, 0.5, 1.0, 1.5):
        eps_fn = degree(original.predict, networks.model.predict, gamma)
        strip.append((f"gamma {gamma:g}", generate(cfg, networks.model, eps_fn, few, latents[: len(few)], f"degree {gamma:g}")))
    record.picture("degree_of_change", grid_picture(strip))
    record.rows(images.ids, scores.rows)
    record.metrics({**scores.values, **record.seconds, "peak_memory_mb": peak_memory_mb(), "images": len(images)})
