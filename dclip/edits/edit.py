"""The contract of an edit: what a method made of the model, ready to be applied to images.

An edit gives a ``denoiser``; then degrees of change, strips and mixtures with other edits come for
nothing. An edit that is no denoiser overrides ``apply`` instead, and cannot be mixed.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from dclip.config.edit import STRIP_IMAGES
from dclip.data.domains import true_images, truth_of
from dclip.data.images import save_pngs
from dclip.diffusion.mix import degree, degrees, mix, side_by_side
from dclip.diffusion.sampler import EpsFn
from dclip.edits.axioms import measure_axioms
from dclip.edits.paste import paste_back
from dclip.edits.saved import FILE, edit_header
from dclip.edits.usual import Usual, written
from dclip.edits.weights import Weights
from dclip.encode.encoded import Encoded
from dclip.encode.generate import generate
from dclip.encode.source import scored_region
from dclip.errors import DclipError
from dclip.metrics.error_picture import error_picture
from dclip.metrics.functional import clipped
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.models.unet import DiffusionModel
from dclip.record.machine import peak_memory_mb
from dclip.record.pictures import grid_picture, overlaid, sheet_picture
from dclip.record.runs import SOURCES, TRUTHS
from dclip.run import Run
from dclip.text.direction import direction_of
from dclip.types import Edited

SHOWN = 12  # images of the grid before and after
KEPT = 100  # test images of a fine-tuning, and sources of any run, that are kept as files
CLIPPED = 0.25  # share of values that an edit may clip unsaid

log = logging.getLogger("dclip")


class Edit:
    """A learned or training-free edit.

    Attributes:
        parts: the networks behind it besides the original model, so that they reach the device.
        carries: whether it carries its source along by itself.
        degree: what gamma = 1 stands for, as a degree of what was learned.
        usual: what it usually does.
        texts: before and after, of a saved edit; None: those of the run.
        measured: other numbers of the edit itself, which a run reports.
    """

    parts: Sequence[nn.Module] = ()
    carries: bool = False
    degree: float = 1.0
    usual: Usual = Usual()
    texts: tuple[str, str] | None = None
    measured: Mapping[str, float] = MappingProxyType({})

    def denoiser(self, gamma: float) -> EpsFn:
        """The denoiser at a degree of change: 0 the original model, 1 the edit.

        Raises:
            DclipError: the edit is no denoiser.
        """
        raise DclipError(
            f"{self.name} is no denoiser, so it cannot be mixed; apply it by itself, with "
            "sampler.carry=none"
        )

    def denoisers(self, gammas: Sequence[float]) -> EpsFn:
        """One denoiser for K degrees of change: x holds K rows an image, next to each other."""
        if len(gammas) == 1:
            return self.denoiser(gammas[0])
        return side_by_side([self.denoiser(gamma) for gamma in gammas])

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W] in about [-1, 1], from latents at ``sampler.t0``."""
        return generate(run, self.denoiser(gamma), start, parts=self.parts)

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W] at K degrees of change."""
        return torch.stack([self.apply(run, start, gamma) for gamma in gammas], 1)

    def region(self, start: Encoded) -> Tensor | None:
        """Where these images were edited, [N,1,H,W] in [0, 1]; None where that is everywhere."""
        return None

    def regions(self, start: Encoded) -> list[Tensor]:
        """The same for each of several edits; empty where that is everywhere."""
        return []

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write the edit as one safetensors file; ``Method.load`` reads it.

        Raises:
            DclipError: there is nothing that could be kept.
        """
        raise DclipError(f"{self.name} cannot be saved; it belongs to its run")

    def add_to(self, merged: DiffusionModel, weight: float) -> None:
        """Add ``weight`` times the edit's change of the model's weights to those of ``merged``.

        Raises:
            DclipError: the edit is no change of weights.
        """
        raise DclipError(
            f"mix.soup=true merges weights, and {self.name} changes none; choose mix.soup=false"
        )

    @property
    def other_order(self) -> Edit | None:
        """The same edits, the last one first; None unless they act one after the other."""
        return None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"this edit ({type(self).__name__})"

    def present(self, run: Run, start: Encoded, result: Tensor) -> dict[str, float | str]:
        """Measure edited images, draw the pictures, write the numbers; returns the scores."""
        images, cfg, record = start.sources, run.cfg, run.record
        region = self.region(start)  # before anything else is edited
        edited = Edited(images, result, truth_pixels(run, start), scored_region(cfg, images))
        truth = truth_of(cfg)  # of one's own pictures too, though not the faces behind them
        scorers, direction = Scorers.of(run.networks), direction_of(cfg, images)
        scores = measure(edited, cfg.metric, scorers, direction, truth, cfg.variants)
        other = self.other_order.apply if self.other_order else None
        scores.values |= measure_axioms(run, self.apply, start, other).values
        shown = images.take(range(min(SHOWN, len(images))))
        rows = [("source", shown.pixels), (cfg.edit.name or "edited", result)]
        if region is not None:
            rows.append(("where it acts", overlaid(images.pixels, region)))
        if edited.truth is not None:
            rows.append(("the truth", edited.truth))
            save_beside(run, TRUTHS, images.ids, edited.truth)
        record.picture("before_after", grid_picture(rows))
        errors = error_picture(edited, cfg.edit.name or "edited")
        if errors is not None:
            record.picture("error_map", errors)
        if cfg.degrees:
            self._draw_degrees(run, start.take(range(min(STRIP_IMAGES, len(shown)))))
        record.rows(images.ids, scores.rows)
        memory = {"peak_memory_mb": peak_memory_mb(), "images": len(images)}
        calibration = {"degree": self.degree} if self.degree != 1 else {}
        costs = {**record.seconds, **record.speed, **memory}
        record.metrics({**scores.values, **calibration, **self.measured, **costs})
        return scores.values

    def _draw_degrees(self, run: Run, start: Encoded) -> None:
        degrees = run.cfg.degrees
        pictures = self.strip(run, start, degrees).unbind(1)
        rows = [("source", start.sources.pixels)]
        for gamma, edited in zip(degrees, pictures, strict=True):
            rows.append((f"gamma {gamma:g}", edited))
        run.record.picture("degree_of_change", grid_picture(rows))
        frames = [sheet_picture(edited, len(edited), scale=2) for edited in pictures]
        run.record.animation("degree_of_change", frames)


def keep(run: Run, edit: Edit, scores: Mapping[str, float | str] | None = None) -> None:
    """Write the run's edit into its folder, with what it is worth once that is known."""
    if run.record.writes:
        header = {**edit_header(run, scores), **written(edit.usual)}
        edit.save(run.record.folder / FILE, header)


def apply_edit(run: Run, edit: Edit, start: Encoded) -> Tensor:
    """Images at the degree of change ``gamma``, also as files, and what they were before.

    Raises:
        DclipError: they are not finite.
    """
    with run.record.timing("edit"):
        result = edit.apply(run, start, run.cfg.gamma)
    if not bool(torch.isfinite(result).all()):
        raise DclipError(
            "the edited images are not finite: the fine-tuning diverged; lower method.lr"
        )
    _warn_of_clipping(start, result, run.cfg.gamma)
    _save(run, start, result)
    if run.cfg.paste_back:
        paste_back(run, start, result)
    return result


def _save(run: Run, start: Encoded, result: Tensor) -> None:
    """Results as files: all where they are what one wants, else as many as people compare."""
    count = len(start)
    if run.cfg.task.learns and not run.cfg.input:
        count = min(count, KEPT)
    save_pictures(run, start.ids[:count], result[:count])
    few = start.sources.take(range(min(count, KEPT)))
    save_beside(run, SOURCES, few.ids, few.pixels)


def _warn_of_clipping(start: Encoded, result: Tensor, gamma: float) -> None:
    """Say it where an edit drives many more values than before to the ends of their range."""
    if len(start) == 0:
        return
    before = float(clipped(start.sources.pixels).mean())
    more = float(clipped(result).mean()) - before
    if more > CLIPPED:
        log.warning(
            "%.0f %% more of the edited images' values are clipped than before (gamma=%g): "
            "the edit is too strong; lower gamma, or method.lr when it is learned",
            100 * more,
            gamma,
        )


def save_beside(run: Run, folder: str, ids: Sequence[str], pictures: Tensor) -> None:
    """The first pictures as they were before, or as they truly look edited: the report shows them."""
    if run.record.writes:
        save_pngs(pictures[:KEPT], ids[:KEPT], run.record.folder / folder)


def save_pictures(run: Run, ids: Sequence[str], pictures: Tensor) -> None:
    """Every picture as a file of its name."""
    if run.record.writes:
        save_pngs(pictures, ids, run.record.folder / "samples")


def truth_pixels(run: Run, start: Encoded) -> Tensor | None:
    """The true pictures, where they are known and the edit is whole."""
    whole = run.cfg.gamma == run.cfg.edit.whole
    return true_images(start.sources, truth_of(run.cfg)) if whole else None


class DenoiserEdit(Edit):
    """An edit that is another denoiser beside the original model's.

    Attributes:
        original: the original model, perhaps a copy that shares its beginning with the edit.
        tuned: the edit's denoiser.
        reached: the degree of change that ``tuned`` stands for (a soup is merged at a degree).
    """

    def __init__(
        self,
        original: DiffusionModel,
        tuned: EpsFn,
        parts: Sequence[nn.Module],
        reached: float = 1.0,
    ) -> None:
        self.original, self.tuned, self.parts, self.reached = original, tuned, parts, reached

    def denoiser(self, gamma: float) -> EpsFn:
        """Original and edit weighted by gamma (DiffusionCLIP, Fig. 9); skips one whose weight is 0."""
        if gamma == self.reached:
            return self.tuned
        return degree(self.original.predict, self.tuned, self._share(gamma))

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Several degrees in one pass."""
        eps_fn, count = self._degrees(gammas), len(gammas)
        made = generate(run, eps_fn, start, "degrees of change", self.parts, copies=count)
        return made.reshape(len(start), count, *made.shape[-3:])

    def denoisers(self, gammas: Sequence[float]) -> EpsFn:
        """Each network sees the rows that need it in one call."""
        return self.denoiser(gammas[0]) if len(gammas) == 1 else self._degrees(gammas)

    def _degrees(self, gammas: Sequence[float]) -> EpsFn:
        shares = [self._share(gamma) for gamma in gammas]
        return degrees(self.original.predict, self.tuned, shares)

    def _share(self, gamma: float) -> float:
        return gamma / self.reached if self.reached else 0.0


class WrappedEdit(Edit):
    """Another edit, applied in another way."""

    def __init__(self, edit: Edit) -> None:
        self.edit, self.parts = edit, edit.parts
        self.carries, self.degree, self.measured = edit.carries, edit.degree, edit.measured
        self.usual, self.texts = edit.usual, edit.texts

    def denoiser(self, gamma: float) -> EpsFn:
        """The edit's own."""
        return self.edit.denoiser(gamma)

    def denoisers(self, gammas: Sequence[float]) -> EpsFn:
        """The edit's own."""
        return self.edit.denoisers(gammas)

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """The edit; its header says how it is applied."""
        self.edit.save(path, header)

    def add_to(self, merged: DiffusionModel, weight: float) -> None:
        """As the edit does."""
        self.edit.add_to(merged, weight)

    @property
    def name(self) -> str:
        """As the edit's."""
        return self.edit.name


class PlacedEdit(WrappedEdit, ABC):
    """Another edit, whose change is put into the source images.

    Latents with no images behind them (noise) are edited as by the edit itself.
    """

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W]."""
        if start.images is None:
            return self.edit.apply(run, start, gamma)
        return self.placed(run, start, start.images.pixels, [gamma])[:, 0]

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]."""
        if start.images is None:
            return self.edit.strip(run, start, gammas)
        return self.placed(run, start, start.images.pixels, gammas)

    @abstractmethod
    def placed(self, run: Run, start: Encoded, source: Tensor, gammas: Sequence[float]) -> Tensor:
        """The sources [N,3,H,W] with the edit in them at K degrees, [N,K,3,H,W]."""


class Mixture(DenoiserEdit):
    """Several edits at once: eps is the weighted sum of theirs (DiffusionCLIP, Eq. 15-16).

    Attributes:
        edits, weights: those that are mixed, and t -> one weight an edit.
    """

    def __init__(self, original: DiffusionModel, edits: Sequence[Edit], weights: Weights) -> None:
        self.edits, self.weights = list(edits), weights
        tuned = mix([edit.denoiser(1.0) for edit in edits], weights)
        parts = [part for edit in edits for part in edit.parts]
        super().__init__(original, tuned, parts)
