"""Saved edits, ready to be applied: by themselves, mixed, or merged into one network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dclip.config import Config, Mix
from dclip.config.edit import Edit as EditOptions
from dclip.edits.confined import confined
from dclip.edits.degree import at_degree
from dclip.edits.edit import Edit, Mixture
from dclip.edits.in_turn import InTurn, Turn
from dclip.edits.network import share_beginning, soup
from dclip.edits.saved import SavedEdit, described, read_edit
from dclip.edits.weights import constant_weights, weights_of
from dclip.methods.contract import method_named
from dclip.models.unet import DiffusionModel
from dclip.run import Run

log = logging.getLogger("dclip")


@dataclass(frozen=True)
class Loaded:
    """Edits of one model, each at its own degree, that can be mixed again and again.

    Attributes:
        original: the model, perhaps a copy that shares its beginning with the edits.
        edits: a soup is one.
    """

    original: DiffusionModel
    edits: Sequence[Edit]

    def joined(self, options: Mix, t0: int) -> Edit:
        """The edits as one. DclipError for weights that cannot be."""
        if len(self.edits) == 1:
            return self.edits[0]
        if options.in_turn:
            shares = constant_weights(options, len(self.edits))
            return InTurn([Turn(*pair) for pair in zip(self.edits, shares, strict=True)])
        weights = weights_of(options.weights, len(self.edits), t0)
        return Mixture(self.original, self.edits, weights)


def load_edits(cfg: Config, model: DiffusionModel) -> Edit:
    """The edits of ``edit.adapter``, put together as ``mix`` says.

    Raises:
        DclipError: an edit belongs to another base, or they cannot be mixed.
    """
    loaded = load_apart(cfg, model)
    apart = len(loaded.edits) if cfg.mix.in_turn else 1  # regions, where all have the same settings
    tell_of_colors(cfg.edit.each or [cfg.edit] * apart, loaded.edits, cfg.mix.soup)
    return confined(cfg, loaded.joined(cfg.mix, cfg.sampler.t0))


def tell_of_colors(options: Sequence[EditOptions], edits: Sequence[Edit], soup: bool) -> None:
    """Say which settings are about colours, shapes and places that an edit does not know.

    Args:
        options: the region of each edit, or one for all of them.
        soup: whether they are merged.
    """
    together = len(options) < len(edits)
    lacking = set()
    for own, edit in zip(list(options) * len(edits) if together else options, edits, strict=False):
        usual = edit.usual
        for name, known in (
            ("region_tint", usual.color),
            ("region_palette", usual.share),
            ("region_prior", usual.seen if own.region == "clip" else usual.change),
        ):
            if own.confined and getattr(own, name) > 0 and (together or known is None):
                lacking.add(name)
    for name in sorted(lacking):
        why = f"the edit's file does not say what it usually does; learn it again with edit.{name}"
        if soup:
            why = "a soup does not know what its edits usually do; choose mix.soup=false"
        elif together:
            why = "several edits in one region do not know what each does; set edit.regions"
        log.warning("edit.%s has no effect: %s", name, why)


def load_apart(cfg: Config, model: DiffusionModel) -> Loaded:
    """The edits of ``edit.adapter``, before they are mixed. DclipError as ``load_edits``."""
    saved = [read_edit(name, cfg.sampler.t0) for name in cfg.edit.adapters]
    return _loaded(model, saved, cfg.mix, cfg.gamma, cfg.edit.degree)


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
    return _loaded(model, saved, options, gamma, degree).joined(options, t0)


def _loaded(
    model: DiffusionModel,
    saved: Sequence[SavedEdit],
    options: Mix,
    gamma: float,
    degree: float | str | None,
) -> Loaded:
    for one in saved:
        one.check_base(model)
    edits = [_load(one, model) for one in saved]
    if options.soup:
        edits = _at_degrees(edits, saved, degree)
        weights = [gamma * weight for weight in constant_weights(options, len(edits))]
        return Loaded(model, [soup(model, edits, weights, gamma)])
    original = share_beginning(model, edits)
    return Loaded(original, _at_degrees(edits, saved, degree))


def _load(saved: SavedEdit, model: DiffusionModel) -> Edit:
    edit = method_named(saved.method).load(saved, model)
    edit.usual, edit.texts = saved.usual, saved.texts
    return edit


def _at_degrees(
    edits: Sequence[Edit], saved: Sequence[SavedEdit], degree: float | str | None
) -> list[Edit]:
    """Every edit at the degree that was given for all, else at its own."""
    calibrated = []
    for edit, one in zip(edits, saved, strict=True):
        own = one.degree if degree is None or isinstance(degree, str) else degree
        calibrated.append(at_degree(edit, own))
    return calibrated
