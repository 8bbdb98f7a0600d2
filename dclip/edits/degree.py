"""A calibrated degree: what ``gamma = 1`` stands for (``edit.degree``).

How strong an edit comes out of learning is an accident of its learning rate and losses. With
``edit.degree=auto`` it is measured afterwards on a few validation images, and kept in the edit's
file: gamma = 1 is then the degree d at which

- the pictures are nearest to the true ones, by mean absolute difference, in the region in force
  (ToonFaces' own edits), or
- the CLIP that only scores sees the words: the median over images of <f(edited) - f(source), u>
  reaches ``REACH`` times the texts' distance, u their unit direction (all others).

Pictures are made at a few degrees (``CALIBRATION_DEGREES``), in the region and refined as they will
be (``sampler.carry`` aside); between these degrees they are interpolated, pixel by pixel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip import losses
from dclip.config.edit import CALIBRATION_DEGREES as MEASURED
from dclip.config.edit import CALIBRATION_IMAGES
from dclip.data.domains import true_images, truth_of
from dclip.diffusion.sampler import EpsFn
from dclip.edits.confined import Confined
from dclip.edits.edit import Edit, WrappedEdit
from dclip.encode.encoded import Encoded
from dclip.metrics.functional import mae
from dclip.models.unet import DiffusionModel
from dclip.run import Run
from dclip.text.direction import direction_of

log = logging.getLogger("dclip")

CHOICES = tuple(k / 20 for k in range(4, 41))  # degrees from which one is chosen: 0.2 to 2

# How far a true picture moves CLIP's features along the texts' direction, as a share of the texts'
# distance: the median of 13 edits of ToonFaces, 24 true pictures each, is 0.22 for the CLIP that
# only scores and 0.23 for the one that guides.
REACH = 0.22


class AtDegree(WrappedEdit):
    """An edit whose gamma = 1 stands for another degree of its learned change."""

    def __init__(self, edit: Edit, degree: float) -> None:
        super().__init__(edit)
        self.degree = degree

    def denoiser(self, gamma: float) -> EpsFn:
        """The edit's, at its own degree."""
        return self.edit.denoiser(gamma * self.degree)

    def denoisers(self, gammas: Sequence[float]) -> EpsFn:
        """The edit's, at its own degrees."""
        return self.edit.denoisers([gamma * self.degree for gamma in gammas])

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W]."""
        return self.edit.apply(run, start, gamma * self.degree)

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]."""
        return self.edit.strip(run, start, [gamma * self.degree for gamma in gammas])

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """The edit as it was learned; the header says which degree is meant."""
        self.edit.save(path, {**header, "degree": self.degree})

    def add_to(self, merged: DiffusionModel, weight: float) -> None:
        """The edit's change, at its own degree."""
        self.edit.add_to(merged, weight * self.degree)


def at_degree(edit: Edit, degree: float) -> Edit:
    """The edit whose gamma = 1 stands for this degree."""
    return edit if degree == 1 else AtDegree(edit, degree)


def calibrated(run: Run, edit: Edit, validation: Encoded) -> Edit:
    """An edit that was just learned, at the degree that ``edit.degree`` says: measured, or given."""
    degree = run.cfg.edit.degree
    if degree is None:
        return edit
    if degree != "auto":
        return at_degree(edit, float(degree))
    with run.record.timing("calibrate"):
        count = min(CALIBRATION_IMAGES, len(validation))
        found = measured_degree(run, edit, validation.take(range(count)))
    return at_degree(edit, found)


@torch.no_grad()
def measured_degree(run: Run, edit: Edit, few: Encoded) -> float:
    """The degree to which gamma = 1 is calibrated; 1 where that cannot be told, which is logged."""
    if len(few) == 0:
        return _uncalibrated("there are no validation images (dataset.validation, or input=)")
    truth = true_images(few.sources, truth_of(run.cfg))
    reach = None if truth is not None else _text_reach(run, few)
    if truth is None and not callable(reach):
        return _uncalibrated(str(reach))
    placed = Confined(edit) if run.cfg.edit.confined else edit
    strip = placed.strip(run, few, MEASURED)
    if truth is not None:
        distances = [float(mae(between(strip, degree), truth).mean()) for degree in CHOICES]
        best = min(range(len(CHOICES)), key=lambda k: distances[k])
        log.info(
            "degree %.2f of the learned edit is nearest to the truth, on %d validation images "
            "(mean absolute difference %.4f; %.4f at 1)",
            CHOICES[best],
            len(few),
            distances[best],
            distances[CHOICES.index(1.0)],
        )
        return CHOICES[best]
    assert callable(reach)
    return _where_reached(strip, reach)


def _uncalibrated(why: str) -> float:
    log.warning("edit.degree=auto: not calibrated, as %s; gamma=1 is the edit as learned", why)
    return 1.0


def between(strip: Tensor, degree: float) -> Tensor:
    """Pictures [N,...] at any degree up to the last, from a strip [N,K,...] at ``MEASURED``."""
    last = len(MEASURED) - 2
    place = max(k for k in range(last + 1) if MEASURED[k] <= degree)
    way = (degree - MEASURED[place]) / (MEASURED[place + 1] - MEASURED[place])
    return strip[:, place] + way * (strip[:, place + 1] - strip[:, place])


Reach = Callable[[Tensor], float]  # pictures -> the median change, as a share of what a true one is


def _text_reach(run: Run, few: Encoded) -> Reach | str:
    """How much of a true edit's change the held-out CLIP sees; a reason where none can say."""
    clip, texts = run.networks.heldout, direction_of(run.cfg, few.sources)
    if clip is None:
        return "neither the true pictures nor a held-out CLIP are known (clip.heldout, metric.clip)"
    if callable(texts):
        return "the edit has no texts whose distance would say how much is enough"
    forms = losses.templates(run.cfg.loss.templates)
    source, target = (clip.text_features([form.format(text) for form in forms]) for text in texts)
    change = (target - source).mean(0)
    goal = REACH * float(change.norm())
    device = clip.mean.device
    before = clip.image_features(few.sources.pixels.to(device))

    def reach(pictures: Tensor) -> float:
        moved = clip.image_features(pictures.to(device)) - before
        return float((moved @ (change / change.norm())).median()) / goal

    return reach


def _where_reached(strip: Tensor, reach: Reach) -> float:
    """The first degree at which CLIP sees enough; where it never does, that with the most."""
    seen = torch.tensor([[reach(pictures) for pictures in strip.unbind(1)]])
    values = [float(between(seen, degree)[0]) for degree in CHOICES]
    most = max(range(len(values)), key=lambda k: values[k])
    enough = [k for k, value in enumerate(values) if value >= 1]
    best = enough[0] if enough else most
    log.info(
        "degree %.2f of the learned edit: there the held-out CLIP sees %.0f %% of a true edit's "
        "change, on %d validation images (%.0f %% at 1)",
        CHOICES[best],
        100 * values[best],
        len(strip),
        100 * values[CHOICES.index(1.0)],
    )
    return CHOICES[best]
