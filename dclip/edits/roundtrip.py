"""Images that come back without an edit of the network, or from another domain: measured and shown."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dclip.data.domains import truth_of
from dclip.edits.axioms import measure_composition
from dclip.edits.edit import save_pictures
from dclip.encode.encoded import Encoded
from dclip.encode.generate import generate
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.metrics.translated import translation_scores
from dclip.record.machine import peak_memory_mb
from dclip.record.pictures import grid_picture
from dclip.run import Run
from dclip.runtime import parallel
from dclip.text.direction import direction_of
from dclip.types import Edited, Images


def present_reconstruction(run: Run, start: Encoded) -> None:
    """Generate with the unchanged model, and measure what the round trip lost."""
    images = start.sources
    inverting = _evaluated(run)
    with run.record.timing("edit"):
        result = generate(run, run.model.predict, start)
    scores = measure(Edited(images, result), run.cfg.metric, Scorers.of(run.networks))
    scores.values |= measure_composition(run, _unedited, start).values
    run.record.rows(images.ids, scores.rows)
    rows = [("source", images.pixels), ("reconstruction", result)]
    run.record.picture("before_after", grid_picture(rows))
    values: dict[str, Any] = dict(scores.values)
    if not run.cfg.trainer.cache:  # else some latents may not have cost anything
        values |= _costs(start, inverting, _evaluated(run) - inverting)
    _write(run, values, images)


def _unedited(run: Run, start: Encoded, gamma: float) -> Tensor:
    """What the unchanged model makes of latents, whatever the degree."""
    return generate(run, run.model.predict, start)


def _evaluated(run: Run) -> int:
    """Images that went through the network so far, in all processes."""
    return sum(parallel.all_gather_objects(run.model.evaluated))


def _costs(start: Encoded, inverting: int, generating: int) -> dict[str, float]:
    """Network calls an image, up and down, and the size of the latents (of the first of two states)."""
    count = max(len(start), 1)
    latents = start.latents if start.latents.ndim == 4 else start.latents[:, 0]
    return {
        "calls_invert": inverting / count,
        "calls_edit": generating / count,
        "network_calls": (inverting + generating) / count,
        "latent_rms": float(latents.square().mean().sqrt()),
    }


def present_translation(run: Run, images: Images, domain: Images, edited: Tensor | None) -> None:
    """Measure how far images came into the domain, and their edit where there is one."""
    cfg = run.cfg
    values: dict[str, Any] = translation_scores(
        images, domain.pixels, run.networks.judge, cfg.variants
    )
    rows = [("source", images.pixels), ("in domain", domain.pixels)]
    if edited is not None:
        rows.append((cfg.edit.name or "edited", edited))
        direction, scorers = direction_of(cfg, domain), Scorers.of(run.networks)
        pictures, truth = Edited(domain, edited), truth_of(cfg)
        scores = measure(pictures, cfg.metric, scorers, direction, truth, cfg.variants)
        scores.values.pop("variety", None)  # that of the translations is known
        run.record.rows(images.ids, scores.rows)
        values |= scores.values
    else:
        save_pictures(run, images.ids, domain.pixels)
    run.record.picture("before_after", grid_picture(rows))
    _write(run, values, images)


def _write(run: Run, values: dict[str, Any], images: Images) -> None:
    memory = {"peak_memory_mb": peak_memory_mb(), "images": len(images)}
    run.record.metrics({**values, **run.record.seconds, **memory})
