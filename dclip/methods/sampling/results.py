"""What a sampling run leaves behind: scores, pictures, traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config
from dclip.data.domains import domain_of, true_images, truth_of
from dclip.data.images import save_pngs
from dclip.data.load import load_images
from dclip.edits.edit import save_beside
from dclip.encode.encoded import Encoded
from dclip.encode.source import scored_region
from dclip.files import write_rows
from dclip.methods.sampling.draw import SHOWN, Samples
from dclip.methods.sampling.prompts import task_of
from dclip.methods.sampling.read import ReadPrompts
from dclip.metrics.error_picture import error_picture
from dclip.metrics.functional import clipped
from dclip.metrics.sampled import measure_samples
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import Scores, measure
from dclip.record.machine import peak_memory_mb
from dclip.record.pictures import grid_picture, sheet_picture, trace_picture
from dclip.record.record import Record
from dclip.record.runs import SOURCES, TRUTHS
from dclip.run import Run
from dclip.text.prompts import Prompt, attributes_of
from dclip.types import Edited, Images


@dataclass
class Outcome:
    """What became of the latents.

    Attributes:
        final: the resulting images [N,3,H,W].
        rows: the same images method by method, for the grid.
        free: the images without CLIP, where there are any.
        drawn: the samples behind ``final``, with film, traces and costs.
        optimiser_steps: of each image's latent, where latents were optimised.
    """

    final: Tensor
    rows: list[tuple[str, Tensor]]
    free: Tensor | None = None
    drawn: Samples | None = None
    free_seconds: float | None = None
    optimiser_steps: Tensor | None = None


def present(
    run: Run, prompts: ReadPrompts, start: Encoded, outcome: Outcome
) -> dict[str, float | str]:
    """Measure, draw the pictures, write the numbers; returns them."""
    record = run.record
    if record.writes:
        save_pngs(outcome.final, start.ids, record.folder / "samples")
    record.picture("sheet", sheet_picture(outcome.final))
    if len(outcome.rows) > 1:
        record.picture("before_after", grid_picture(outcome.rows))
    seen: dict[str, float] = {}
    if outcome.drawn is not None:
        record.picture("film", grid_picture(outcome.drawn.film.rows(), most=SHOWN))
        guided = bool(outcome.drawn.trace.sums)
        traces = trace_rows(prompts, outcome.drawn)
        write_traces(record, traces, prompts.prompts)
        if guided:
            seen["p_target_path"] = mean(row["mean"] for row in traces if row["target"])
    values, rows = _all_scores(run, prompts, start, outcome)
    values |= seen
    record.rows(start.ids, rows)
    costs = _costs(outcome, len(start), record.seconds)
    values = {**values, "clipped": float(clipped(outcome.final).mean())}
    count = {"count": len(start), "peak_memory_mb": peak_memory_mb()}
    record.metrics({**values, **costs, **record.seconds, **count})
    return values


def reference_of(cfg: Config, prompts: Sequence[Prompt], size: int) -> Tensor | str:
    """True pictures of what the prompts ask for, or why there are none."""
    wanted = attributes_of(prompts) if prompts else None
    pictures = domain_of(cfg.dataset).class_images(wanted, cfg.metric.reference, size)
    if pictures is not None:
        return pictures
    if task_of(cfg).from_images:
        return "sampling started from images, and no true pictures of what is asked for are known"
    if cfg.dataset.compares:
        return load_images(cfg, "test", size).pixels
    return (
        "no true pictures are given; dataset=folder dataset.root=DIR, a folder of the target class"
    )


def score(run: Run, prompts: ReadPrompts, images: Tensor, reference: Tensor | str) -> Scores:
    """All metrics of drawn images."""
    readers = {"guide": prompts.guides[0] if prompts.guides else None, "heldout": prompts.heldout}
    return measure_samples(
        images, prompts.prompts, run.cfg.metric, readers, run.networks.judge, reference
    )


def against(scores: Scores, free: Scores) -> dict[str, float | str]:
    """A run's numbers, and as NAME_free those of the same noise without guidance (the base rate)."""
    values = dict(scores.values)
    for name, value in free.values.items():
        if not name.endswith(("_absent", "_features", "_note")):
            values[_free(name)] = value
    return values


def _free(name: str) -> str:
    """NAME_free; NAME_free_low and NAME_free_high for the ends of an interval."""
    number, _, end = name.rpartition("_")
    if end in ("low", "high"):
        return f"{number}_free_{end}"
    return f"{name}_free"


def edit_scores(run: Run, prompts: ReadPrompts, images: Images, result: Tensor) -> Scores:
    """Where sampling started from images: all that is measured of an edit; draws its errors."""
    cfg = run.cfg
    if cfg.guidance.targets is None:
        target, truth = cfg.edit.target, truth_of(cfg)
    else:
        target = " and ".join(prompt.text for prompt in prompts.prompts)
        truth = domain_of(cfg.dataset).truth_of(attributes_of(prompts.prompts))
    texts = (cfg.edit.source, target) if prompts.prompts else None
    known = truth if images.facts else None
    region = scored_region(cfg, images)
    edited = Edited(images, result, true_images(images, known), region)
    save_beside(run, SOURCES, images.ids, images.pixels)
    if edited.truth is not None:
        save_beside(run, TRUTHS, images.ids, edited.truth)
    errors = error_picture(edited, "guided")
    if errors is not None:
        run.record.picture("error_map", errors)
    return measure(edited, cfg.metric, Scorers.of(run.networks), texts, known)


def trace_rows(prompts: ReadPrompts, drawn: Samples) -> list[dict[str, Any]]:
    """Probability of every prompt at every guided step (or film frame): mean and spread over images."""
    trace = drawn.trace
    if not trace.sums:
        _trace_film(prompts, drawn)
    texts = []
    for k, prompt in enumerate(prompts.prompts):
        texts += [(k, text, text == prompt.text) for text in prompt.texts]
    rows = []
    for t, (n, total, squares) in sorted(trace.sums.items(), reverse=True):
        mean = total / n
        std = (squares / n - mean.square()).clamp_min(0).sqrt()
        for i, (k, text, is_target) in enumerate(texts):
            row = {"t": t, "prompt": k, "text": text, "target": int(is_target)}
            row |= {"mean": round(float(mean[i]), 6), "std": round(float(std[i]), 6), "n": n}
            rows.append(row)
    return rows


def _trace_film(prompts: ReadPrompts, drawn: Samples) -> None:
    """Where nothing guided, the film's frames are read by the CLIP that guides, or the one that scores."""
    reader = prompts.guides[0] if prompts.guides else prompts.heldout
    competing = all(prompt.distractors for prompt in prompts.prompts)
    if reader is None or not competing:
        return
    with torch.no_grad():
        for t, pictures in drawn.film.frames.items():
            frames = torch.stack([pictures[name] for name in drawn.film.ids]).clamp(-1, 1)
            features = reader.clip.image_features(frames.to(reader.targets.device))
            drawn.trace.add(t, reader.probabilities(features))


def write_traces(record: Record, rows: list[dict[str, Any]], prompts: Sequence[Prompt]) -> None:
    """traces.csv, and one plot a prompt."""
    if not rows or not record.writes:
        return
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write_rows(record.folder / "traces.csv", columns)
    for k, prompt in enumerate(prompts):
        name = "traces" if len(prompts) == 1 else f"traces_{k + 1}"
        own = [row for row in rows if row["prompt"] == k]
        record.picture(name, trace_picture(own, prompt.text))


def _all_scores(
    run: Run, prompts: ReadPrompts, start: Encoded, outcome: Outcome
) -> tuple[dict[str, float | str], dict[str, list[float]]]:
    """Numbers of the run, and of its images."""
    reference: Tensor | str = ""
    if run.cfg.metric.kid:
        reference = reference_of(run.cfg, prompts.prompts, run.model.image_size)
    scores = score(run, prompts, outcome.final, reference)
    values, rows = scores.values, dict(scores.rows)
    if outcome.free is not None:
        free = score(run, prompts, outcome.free, reference)
        values = against(scores, free)
        for name, column in free.rows.items():
            rows[f"{name}_free"] = column
    if start.images is not None:
        edit = edit_scores(run, prompts, start.images, outcome.final)
        values, rows = {**edit.values, **values}, {**edit.rows, **rows}
    if outcome.optimiser_steps is not None:
        rows["optimiser_steps"] = outcome.optimiser_steps.tolist()
    return values, rows


def _costs(outcome: Outcome, count: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Time and calls per image."""
    costs: dict[str, float] = {}
    sampling = 0.0
    if outcome.drawn is not None:
        sampling = outcome.drawn.seconds
        costs["network_calls"] = outcome.drawn.network_calls
        costs["clip_calls"] = outcome.drawn.clip_calls
        costs["seconds_per_image"] = sampling / count
        if outcome.free_seconds:
            costs["time_ratio"] = sampling / outcome.free_seconds
    if outcome.optimiser_steps is not None:
        costs["optimiser_steps"] = float(outcome.optimiser_steps.mean())
        costs["seconds_per_image"] = (seconds["seconds_optimise"] + sampling) / count
    return costs
