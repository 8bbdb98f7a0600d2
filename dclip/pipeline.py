"""What a run does, from its configuration to its report. Read this first.

image -> encode (invert) -> adapt (fine-tune, or nothing) -> edit -> image -> measure -> record
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config, TaskName, planned
from dclip.data.domains import true_images, truth_of
from dclip.data.images import save_pngs
from dclip.data.load import fetch_data, load_input
from dclip.edits.editor import (
    Editor,
    apply,
    editor_of,
    encode_variants,
    generate,
    read_editor,
    strip,
)
from dclip.edits.saved import save_edit
from dclip.encode.invert import encode
from dclip.encode.source import source_images
from dclip.encode.translate import into_domain
from dclip.files import read_json
from dclip.methods.diffusionclip.objectives import needs_latents
from dclip.methods.sampling import draw, results, start
from dclip.metrics.functional import variety
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.metrics.translated import translation_scores
from dclip.models.networks import Networks, build_networks
from dclip.models.unet import DiffusionModel
from dclip.pages.report import text_table, write_report
from dclip.prepare import needs, plan
from dclip.record.machine import peak_memory_mb
from dclip.record.pictures import grid_picture, sheet_picture
from dclip.record.record import Record, recording
from dclip.runtime import parallel
from dclip.text.direction import direction_of
from dclip.types import Edited, Images

log = logging.getLogger("dclip")


def run(cfg: Config) -> Path:
    """Do one run; returns its folder. DclipError for bad input, before anything expensive.

    With ``plan=true`` (or ``task=plan``) only the plan is made; its file is returned. ``task=demo`` makes no run: it returns the
    output folder when its page is closed.
    """
    if planned(cfg).plan:
        return plan.show(cfg)
    needs.obtain([cfg])
    torch.set_num_threads(cfg.trainer.threads or torch.get_num_threads())
    parallel.join()
    if cfg.task.name is TaskName.demo:
        from dclip.pages.demo_page import serve

        fetch_data(cfg)
        serve(cfg)
        return Path(cfg.output)
    with recording(cfg) as record:
        fetch_data(cfg)
        TASKS[cfg.task.name](cfg, record)
    if record.writes:  # last, so that the page shows the run's final status
        title = cfg.name or (
            results.title_of(cfg) if cfg.task.name is TaskName.sample else _title(cfg)
        )
        report = write_report(
            record.folder, title, f"dclip · seed {cfg.seed} · {record.folder.name}"
        )
        log.info(
            "%s\n%s", text_table(read_json(record.folder / "metrics.json")), f"report: {report}"
        )
    return record.folder


def _title(cfg: Config) -> str:
    return f"{cfg.task.name.value}: {cfg.edit.source} → {cfg.edit.target}"


def finetune(cfg: Config, record: Record) -> None:
    """Adapt the model to the edit, apply it to the test images, measure."""
    from dclip.methods.diffusionclip.fit import adapt

    networks = build_networks(cfg)
    model = networks.model
    images = images_to_learn(cfg, model)
    with record.timing("invert"):
        unused = () if needs_latents(cfg.method.objective) else ("train",)
        latents = {
            split: part.pixels[:0]
            if split in unused
            else encode(cfg, model, part, f"{split} images")
            for split, part in images.items()
        }
    original = copy.deepcopy(model)
    with record.timing("adapt"):
        lora = adapt(cfg, record, networks, images, latents)
    if record.writes:
        save_edit(
            record.folder / "adapter.safetensors", cfg, model, record.seconds["seconds_adapt"], lora
        )
    editor = editor_of(original, model)
    edited = apply_edit(cfg, record, editor, images["test"], latents["test"])
    if cfg.input:
        save_pictures(record, images["test"].ids, edited.result)
    scores = finish(cfg, record, networks, edited, latents["test"], editor)
    if record.writes:  # once more, with what it is worth
        save_edit(
            record.folder / "adapter.safetensors",
            cfg,
            model,
            record.seconds["seconds_adapt"],
            lora,
            scores,
        )


def edit(cfg: Config, record: Record) -> None:
    """Apply an edit that was fine-tuned before to a file, a folder, or the test images."""
    networks = build_networks(cfg)
    model = networks.model
    images = load_input(cfg, model.image_size) if cfg.input else source_images(cfg, model, "test")
    editor = read_editor(cfg, model)
    with record.timing("invert"):
        images, latents = encode_variants(cfg, model, images)
    edited = apply_edit(cfg, record, editor, images, latents)
    save_pictures(record, images.ids, edited.result)
    finish(cfg, record, networks, edited, latents, editor)


def translate(cfg: Config, record: Record) -> None:
    """Bring images of an unseen kind into the model's domain, and edit them there."""
    networks = build_networks(cfg)
    model = networks.model
    images = load_input(cfg, model.image_size) if cfg.input else source_images(cfg, model, "test")
    images = images.repeat(cfg.variants)
    with record.timing("translate"):
        domain = into_domain(cfg, model, images)
    shown = [("source", images.pixels), ("in domain", domain.pixels)]
    values: dict[str, Any] = translation_scores(images, domain.pixels, networks.judge, cfg.variants)
    if cfg.edit.adapters:
        editor = read_editor(cfg, model)
        with record.timing("invert"):
            latents = encode(cfg, model, domain)
        edited = apply_edit(cfg, record, editor, domain, latents)
        shown.append((cfg.edit.name or "edited", edited.result))
        scores = measure(
            edited, cfg.metric, Scorers.of(networks), direction_of(cfg, domain), truth_of(cfg)
        )
        record.rows(images.ids, scores.rows)
        values |= scores.values
    save_pictures(record, images.ids, shown[-1][1])
    record.picture("before_after", grid_picture(shown))
    record.metrics(
        {**values, **record.seconds, "peak_memory_mb": peak_memory_mb(), "images": len(images)}
    )


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
    scores = measure(edited, cfg.metric, Scorers.of(networks))
    record.rows(images.ids, scores.rows)
    record.picture(
        "before_after", grid_picture([("source", images.pixels), ("reconstruction", result)])
    )
    record.metrics(
        {
            **scores.values,
            **record.seconds,
            "peak_memory_mb": peak_memory_mb(),
            "images": len(images),
        }
    )


def sample_noise(cfg: Config, record: Record) -> None:
    """Draw images from noise (or from the latents of images), freely or under guidance; measure what was asked for."""
    networks = build_networks(cfg)
    asked = start.Asked.of(cfg, networks)
    with record.timing("invert"):
        origin = start.origin_of(cfg, networks.model)
    outcome = draw.carry_out(cfg, record, networks, asked, origin)
    results.finish(cfg, record, networks, asked, origin, outcome)


def pretrain(cfg: Config, record: Record) -> None:
    """Train one of the embedded networks."""
    from dclip.pretrain.run import train_network

    train_network(cfg, record)


TASKS: dict[TaskName, Callable[[Config, Record], None]] = {
    TaskName.finetune: finetune,
    TaskName.edit: edit,
    TaskName.reconstruct: reconstruct,
    TaskName.sample: sample_noise,
    TaskName.pretrain: pretrain,
    TaskName.translate: translate,
}


def images_to_learn(cfg: Config, model: DiffusionModel) -> dict[str, Images]:
    """The images of a fine-tuning by split; those of ``input`` are learned from and edited, with none left to validate."""
    if cfg.input:
        mine = load_input(cfg, model.image_size)
        return {"train": mine, "validation": mine.take([]), "test": mine}
    return {split: source_images(cfg, model, split) for split in ("train", "validation", "test")}


def save_pictures(record: Record, ids: Sequence[str], pictures: Tensor) -> None:
    """Every picture as a file of its name."""
    if record.writes:
        save_pngs(pictures, ids, record.folder / "samples")


def apply_edit(
    cfg: Config, record: Record, editor: Editor, images: Images, latents: Tensor
) -> Edited:
    """Generate at the degree of change ``gamma``."""
    with record.timing("edit"):
        result = apply(cfg, editor, images, latents, cfg.gamma)
    whole = (
        cfg.gamma == 1 or len(cfg.edit.adapters) > 1
    )  # several edits, each at half weight, are whole at gamma = 2
    return Edited(images, result, true_images(images, truth_of(cfg)) if whole else None)


def finish(
    cfg: Config, record: Record, networks: Networks, edited: Edited, latents: Tensor, editor: Editor
) -> dict[str, float | str]:
    """Measure, draw the pictures, write the numbers; returns the scores."""
    images = edited.source
    scores = measure(
        edited,
        cfg.metric,
        Scorers.of(networks),
        direction_of(cfg, images),
        truth_of(cfg) if images.facts else None,
    )
    if cfg.variants > 1:
        scores.values["variety"] = variety(edited.result, cfg.variants)
    shown = images.take(range(min(12, len(images))))
    rows = [("source", shown.pixels), (cfg.edit.name or "edited", edited.result)]
    if edited.truth is not None:
        rows.append(("the truth", edited.truth))
    record.picture("before_after", grid_picture(rows))
    few = shown.take(range(min(6, len(shown))))
    if cfg.degrees:
        made = strip(cfg, editor, few, latents[: len(few)], cfg.degrees).unbind(1)
        record.picture(
            "degree_of_change",
            grid_picture(
                [
                    ("source", few.pixels),
                    *((f"gamma {g:g}", x) for g, x in zip(cfg.degrees, made, strict=True)),
                ]
            ),
        )
        record.animation("degree_of_change", [sheet_picture(x, len(x), scale=2) for x in made])
    record.rows(images.ids, scores.rows)
    record.metrics(
        {
            **scores.values,
            **record.seconds,
            "peak_memory_mb": peak_memory_mb(),
            "images": len(images),
        }
    )
    return scores.values
