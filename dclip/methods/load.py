"""Saved edits, ready to be applied: by themselves, mixed, or merged into one network."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dclip.config import Config, Mix
from dclip.edits.confined import confined
from dclip.edits.degree import at_degree
from dclip.edits.edit import Edit, Mixture
from dclip.edits.network import share_beginning, soup
from dclip.edits.saved import SavedEdit, described, read_edit
from dclip.edits.weights import constant_weights, weights_of
from dclip.methods.contract import method_named
from dclip.models.unet import DiffusionModel
from dclip.run import Run

log = logging.getLogger("dclip")


def load_edits(cfg: Config, model: DiffusionModel) -> Edit:
    """The edits of ``edit.adapter``, put together as ``mix`` says.

    Raises:
        DclipError: an edit belongs to another base, or they cannot be mixed.
    """
    saved = [read_edit(name, cfg.sampler.t0) for name in cfg.edit.adapters]
    joined = join_edits(model, saved, cfg.mix, cfg.sampler.t0, cfg.gamma, cfg.edit.degree)
    return confined(cfg, joined)


def edits_to_apply(run: Run) -> Edit:
    """The edits of ``edit.adapter``. What was taken is logged, and kept in the run's record."""
    cards = [read_edit(name, run.cfg.sampler.t0).card for name in run.cfg.edit.adapters]
    run.record.applies(cards)
    for card in cards:
        log.info("%s", described(card))
    return load_edits(run.cfg, run.model)


def join_edits(
    model: DiffusionModel,
    saved: Sequence[SavedEdit],
    options: Mix,
    t0: int,
    gamma: float = 1.0,
    degree: float | str | None = None,
) -> Edit:
    """Edits of ``model``, mixed or merged as ``options`` say; a soup is merged at ``gamma``.

    ``degree`` is what gamma = 1 stands for in each of them; None or "auto": as its file says.
    """
    for one in saved:
        one.check_base(model)
    edits = [method_named(one.method).load(one, model) for one in saved]
    if options.soup:
        edits = _at_degrees(edits, saved, degree)
        weights = [gamma * weight for weight in constant_weights(options.weights, len(edits))]
        return soup(model, edits, weights, gamma)
    original = share_beginning(model, edits)
    edits = _at_degrees(edits, saved, degree)
    if len(edits) == 1:
        return edits[0]
    return Mixture(original, edits, weights_of(options.weights, len(edits), t0))


def _at_degrees(
    edits: Sequence[Edit], saved: Sequence[SavedEdit], degree: float | str | None
) -> list[Edit]:
    """Every edit at the degree that was given for all, else at its own."""
    calibrated = []
    for edit, one in zip(edits, saved, strict=True):
        own = one.degree if degree is None or isinstance(degree, str) else degree
        calibrated.append(at_degree(edit, own))
    return calibrated
