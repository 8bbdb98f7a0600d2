"""What a sampling run leaves behind: scores, pictures, traces."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config, Guided, option_name
from dclip.data.domains import domain_of, truth_of
from dclip.data.images import save_pngs
from dclip.data.load import load_images
from dclip.files import atomic_save
from dclip.methods.latent.options import LatentOpt
from dclip.methods.sampling.draw import SHOWN, Drawn, Outcome
from dclip.methods.sampling.start import Asked, Origin
from dclip.metrics.sampled import measure_samples
from dclip.metrics.suite import Scorers, Scores, measure
from dclip.models.networks import Networks
from dclip.record.machine import peak_memory_mb
from dclip.record.pictures import grid_picture, sheet_picture, trace_picture
from dclip.record.record import Record
from dclip.text.prompts import Prompt, attributes_of, resolve
from dclip.types import Edited, Images

# ---------------------------------------------------------------------------------------------------- what is left behind


def reference_of(cfg: Config, prompts: Sequence[Prompt], size: int) -> Tensor | str:
    """True pictures of what the prompts ask for, or why there are none."""
    wanted = attributes_of(prompts) if prompts else None
    found = domain_of(cfg.dataset).class_images(wanted, cfg.metric.reference, size)
    if found is not None:
        return found
    if cfg.dataset.compares:
        return load_images(cfg, "test", size).pixels
    return (
        "no true pictures are given; dataset=folder dataset.root=DIR, a folder of the target class"
    )


def score(
    cfg: Config, networks: Networks, asked: Asked, images: Tensor, reference: Tensor | str
) -> Scores:
    """All metrics of drawn images."""
    readers = {"guide": asked.guides[0] if asked.guides else None, "heldout": asked.heldout}
    return measure_samples(images, asked.prompts, cfg.metric, readers, networks.judge, reference)


def against(scores: Scores, free: Scores) -> dict[str, float | str]:
    """A run's numbers, and as NAME_free those of the same noise without guidance (``judge_success_free``: the base rate)."""
    plain = {k: v for k, v in free.values.items() if not k.endswith(("_absent", "_features"))}
    return {**scores.values, **{f"{name}_free": value for name, value in plain.items()}}


def edit_scores(
    cfg: Config, networks: Networks, asked: Asked, images: Images, result: Tensor
) -> Scores:
    """Where sampling started from images: all that is measured of an edit."""
    target = (
        cfg.edit.target
        if cfg.guidance.targets is None
        else " and ".join(prompt.text for prompt in asked.prompts)
    )
    truth = truth_of(cfg)
    if cfg.guidance.targets is not None:
        truth = domain_of(cfg.dataset).truth_of(attributes_of(asked.prompts))
    texts = (cfg.edit.source, target) if asked.prompts else None
    known = truth if images.facts else None
    return measure(Edited(images, result), cfg.metric, Scorers.of(networks), texts, known)


def trace_rows(asked: Asked, drawn: Drawn) -> list[dict[str, Any]]:
    """Probability of every prompt at every guided step (or at the film's frames): mean and spread over images."""
    trace = drawn.trace
    reader = asked.guides[0] if asked.guides else asked.heldout
    if (
        not trace.sums
        and reader is not None
        and all(prompt.distractors for prompt in asked.prompts)
    ):
        with torch.no_grad():
            for t, pictures in drawn.film.frames.items():
                seen = (
                    torch.stack([pictures[name] for name in drawn.film.ids])
                    .clamp(-1, 1)
                    .to(reader.targets.device)
                )
                trace.add(t, reader.probabilities(reader.clip.image_features(seen)))
    names = [
        (k, text, text == prompt.text)
        for k, prompt in enumerate(asked.prompts)
        for text in prompt.texts
    ]
    rows = []
    for t, (n, total, squares) in sorted(trace.sums.items(), reverse=True):
        mean = total / n
        std = (squares / n - mean.square()).clamp_min(0).sqrt()
        for i, (k, text, target) in enumerate(names):
            row = {
                "t": t,
                "prompt": k,
                "text": text,
                "target": int(target),
                "mean": round(float(mean[i]), 6),
            }
            rows.append({**row, "std": round(float(std[i]), 6), "n": n})
    return rows


def write_traces(record: Record, rows: list[dict[str, Any]], prompts: Sequence[Prompt]) -> None:
    """traces.csv, and one plot a prompt."""
    if not rows or not record.writes:
        return

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)

    atomic_save(record.folder / "traces.csv", write)
    for k, prompt in enumerate(prompts):
        name = "traces" if len(prompts) == 1 else f"traces_{k + 1}"
        record.picture(
            name, trace_picture([row for row in rows if row["prompt"] == k], prompt.text)
        )


def title_of(cfg: Config) -> str:
    """A run in words."""
    how = [option_name("guidance", cfg.guidance)] if isinstance(cfg.guidance, Guided) else []
    how += ["latent_opt"] if isinstance(cfg.method, LatentOpt) else []
    what = " and ".join(prompt.text for prompt in resolve(cfg)) or "from noise"
    return f"sample: {what} ({' after '.join(how) or 'no guidance'})"


def finish(
    cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin, outcome: Outcome
) -> None:
    """Measure, draw the pictures, write the numbers."""
    if record.writes:
        save_pngs(outcome.final, origin.ids, record.folder / "samples")
    record.picture("sheet", sheet_picture(outcome.final))
    if len(outcome.rows) > 1:
        record.picture("before_after", grid_picture(outcome.rows))
    if outcome.drawn is not None:
        record.picture("film", grid_picture(outcome.drawn.film.rows(), most=SHOWN))
        write_traces(record, trace_rows(asked, outcome.drawn), asked.prompts)
    values, rows = _all_scores(cfg, networks, asked, origin, outcome)
    record.rows(origin.ids, rows)
    costs = _costs(outcome, len(origin.ids), record.seconds)
    record.metrics(
        {
            **values,
            **costs,
            **record.seconds,
            "count": len(origin.ids),
            "peak_memory_mb": peak_memory_mb(),
        }
    )


def _all_scores(
    cfg: Config, networks: Networks, asked: Asked, origin: Origin, outcome: Outcome
) -> tuple[dict[str, float | str], dict[str, list[float]]]:
    """Numbers of the run, and of its images."""
    reference = (
        reference_of(cfg, asked.prompts, networks.model.image_size) if cfg.metric.kid else ""
    )
    scores = score(cfg, networks, asked, outcome.final, reference)
    values, rows = scores.values, dict(scores.rows)
    if outcome.free is not None:
        free = score(cfg, networks, asked, outcome.free, reference)
        values = against(scores, free)
        rows.update({f"{name}_free": column for name, column in free.rows.items()})
    if origin.images is not None:
        edit = edit_scores(cfg, networks, asked, origin.images, outcome.final)
        values, rows = {**edit.values, **values}, {**edit.rows, **rows}
    if outcome.found is not None:
        rows["optimiser_steps"] = outcome.found.steps.tolist()
    return values, rows


def _costs(outcome: Outcome, count: int, seconds: dict[str, float]) -> dict[str, float]:
    """Time and calls per image."""
    costs: dict[str, float] = {}
    if outcome.drawn is not None:
        costs["network_calls"], costs["clip_calls"] = (
            outcome.drawn.network_calls,
            outcome.drawn.clip_calls,
        )
        costs["seconds_per_image"] = outcome.drawn.seconds / count
        if outcome.free_seconds:
            costs["time_ratio"] = outcome.drawn.seconds / outcome.free_seconds
    if outcome.found is not None:
        costs["optimiser_steps"] = float(outcome.found.steps.mean())
        costs["seconds_per_image"] = (
            seconds["seconds_optimise"] + (outcome.drawn.seconds if outcome.drawn else 0)
        ) / count
    return costs
