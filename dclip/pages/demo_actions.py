"""What happens when the page of ``task=demo`` is used to edit a picture.

``dclip.pages.demo`` does the work, ``dclip.pages.demo_page`` lays it out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from dclip.edits.region import union
from dclip.errors import DclipError
from dclip.pages.demo import NO_EDITS, Answer, Studio, picture
from dclip.pages.demo_settings import Sliders
from dclip.pages.learned import cards_html
from dclip.pages.render import render
from dclip.pages.report import metric_rows
from dclip.record.pictures import overlaid
from dclip.types import Images

# The numbers that one image has, of all that a run has.
METRICS = (
    "closer",
    "counterfactual_ratio",
    "effectiveness",
    "amplification",
    "preservation_accuracy",
    "edit_iou",
    "changed_pixels",
    "s_dir",
    "s_dir_heldout",
    "id",
    "sc",
    "mae",
    "psnr",
    "ssim",
    "lpips",
    "judge_success",
    "judge_preservation",
)
MOST_EDITS = 6  # at once; each has its own row of sliders
PROGRESS = gr.Progress()
Update = dict[str, Any]  # of one component, as gr.update and gr.skip return it


# ------------------------------------------------------------ texts


def note_html(text: str, error: bool = False) -> str:
    """The line that says what happens."""
    return render("note.html", text=text, error=error)


def scores_html(outcome: Answer) -> str:
    """The numbers of an edit, and what the judge says."""
    scores = {}
    for name, value in outcome.scores.items():
        if name.removesuffix("_absent") in METRICS:
            scores[name] = value
    changes = None
    if outcome.seen is not None:
        changes = []
        for name, (old, new) in outcome.seen.items():
            changes.append(f"{name} {old} → {new}".replace("_", " "))
    return render("scores.html", changes=changes, rows=metric_rows(scores))


def summary(outcome: Answer, gamma: float, weights: Mapping[str, float]) -> str:
    """What to say after an edit; ``weights`` by label, where there are several."""
    text = f"gamma {gamma:g}, made in {outcome.seconds:.1f} s"
    if weights:
        text += "; " + ", ".join(f"{label} {weight:g}" for label, weight in weights.items())
    return text


def pictures(images: Tensor) -> list[Image.Image]:
    """Images [N,3,H,W] as PNGs hold them."""
    return [picture(pixels) for pixels in images]


def overlay(images: Images, region: Tensor) -> Image.Image:
    """A region [1,H,W] over the picture: what is outside is grey and pale."""
    return picture(overlaid(images.pixels[:1], region[None].cpu())[0])


def overlays(
    images: Images, outcome: Answer, labels: Sequence[str]
) -> tuple[Image.Image, list[tuple[Image.Image, str]]]:
    """Where the edits acted: all together, and each of several with its share of the picture."""
    regions = outcome.regions or [torch.ones_like(images.pixels[0, :1])]
    drawn = []
    if len(regions) > 1:
        for label, region in zip(labels, regions, strict=True):
            share = 100 * float((region > 0).float().mean())
            drawn.append((overlay(images, region), f"{label}: {share:.0f} %"))
    return overlay(images, union(regions)), drawn


# ------------------------------------------------------------ what happens


@dataclass(frozen=True)
class Asked:
    """What the page's components hold when an edit is asked for."""

    labels: Sequence[str]
    sliders: Sliders
    eta: float
    variants: int


def asked(
    labels: Sequence[str] | None,
    rows: Sequence[str],
    gamma: float,
    eta: float,
    variants: float,
    *places: float,
) -> Asked:
    """The components' values; ``places``: all sliders of weights, then all of regions.

    ``rows`` says which edit each of them is for; one that has none yet is as it was learned.
    """
    chosen = list(labels or [])[:MOST_EDITS]
    weights: list[float] = []
    lows: list[float | None] = []
    for label in chosen:
        row = rows.index(label) if label in rows else None
        weights.append(1.0 if row is None else places[row])
        lows.append(None if row is None else places[MOST_EDITS + row])
    if len(chosen) == 1:
        weights = []
    return Asked(chosen, Sliders(gamma, weights, lows), eta, int(variants))


def rows_for(labels: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Which edit each row of sliders is for, so that all these ``labels`` have one.

    An edit keeps its row as long as there are free ones, also while it is not chosen.
    """
    new = [*rows, *[""] * (MOST_EDITS - len(rows))]
    for label in labels:
        if label in new:
            continue
        free = [k for k, known in enumerate(new) if known not in labels]
        free.sort(key=lambda k: new[k] != "")
        new[free[0]] = label
    return new


class Actions:
    """What the page does; every method returns new values of components."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def find(
        self, labels: Sequence[str], rows: Sequence[str], taught: str = ""
    ) -> tuple[object, ...]:
        """The edits there are: (checkboxes, hint, list, what :meth:`choose` returns).

        Args:
            labels: those that are chosen, which they remain.
            taught: the file of one that this visitor has just learned: it alone is chosen.
        """
        edits = self.studio.edits()
        chosen = [label for label in labels if label in edits] or list(edits)[:1]
        for label, path in edits.items():
            if path == taught:
                chosen = [label]
        boxes = gr.update(choices=list(edits), value=chosen, visible=bool(edits))
        hint = gr.update(value=note_html(NO_EDITS), visible=not edits)
        cards = cards_html(edits, self.studio.cfg.sampler.t0)
        return boxes, hint, cards, *self.choose(chosen, rows)

    def choose(self, labels: Sequence[str], rows: Sequence[str]) -> list[object]:
        """A row of sliders for each chosen edit: [note, rows, weights, regions, visible rows].

        What had sliders before keeps them as they are.
        """
        chosen = list(labels[:MOST_EDITS])
        note: object = gr.skip()
        if len(labels) > MOST_EDITS:
            text = f"{len(labels)} edits are chosen; the first {MOST_EDITS} are used"
            note = note_html(text, error=True)
        lows = self._lows(chosen)
        with_sliders = list(lows)[: 1 if self.studio.cfg.mix.soup else None]
        now = rows_for(list(lows), rows)
        weights: list[Update] = []
        regions: list[Update] = []
        for label in now:
            weight: Update = {"visible": label in lows and len(chosen) > 1}
            region: Update = {"visible": label in with_sliders}
            if label in lows:
                weight["label"], region["label"] = f"{label}: weight", f"{label}: where"
                if label not in rows:
                    weight["value"], region["value"] = 1.0, lows[label]
            weights.append(gr.update(**weight))
            regions.append(gr.update(**region))
        shown = [gr.update(visible=label in lows) for label in now]
        return [note, now, *weights, *regions, *shown]

    def _lows(self, labels: Sequence[str]) -> dict[str, float]:
        """Where the regions' sliders start, by label, without those of which it cannot be told."""
        edits = self.studio.edits()
        known = {}
        for label in labels:
            try:
                known[label] = self.studio.lows([edits[label]])[0]
            except (DclipError, KeyError):  # said when it is applied
                continue
        return known

    def pick(self, event: gr.SelectData) -> tuple[object, ...]:
        """One of the studio's pictures: (image, original, compare, where, download, note)."""
        images = self.studio.images
        name = images.ids[event.index]
        return self._show(images.take([event.index]), "", f"picture {name}; now press Edit")

    def upload(self, path: str) -> tuple[object, ...]:
        """A picture of the visitor's own: (image, original, compare, where, download, note)."""
        try:
            images = self.studio.upload(Path(path))
        except DclipError as error:
            nothing = [gr.skip()] * 5
            return *nothing, note_html(str(error), error=True)
        name = Path(path).name
        parts = [f"uploaded {name}", "its middle square is used"]
        note = self.studio.note_on(images)
        if note:
            parts.append(note)
        return self._show(images, path, "; ".join([*parts, "now press Edit"]))

    def _show(self, images: Images, original: str, text: str) -> tuple[object, ...]:
        before = picture(images.pixels[0])
        hidden = gr.update(value=None, visible=False)
        return images, original, (before, before), None, hidden, note_html(text)

    def edit(
        self,
        images: Images,
        original: str,
        labels: Sequence[str] | None,
        rows: Sequence[str],
        gamma: float,
        eta: float,
        variants: float,
        progress: gr.Progress = PROGRESS,
        *places: float,
    ) -> tuple[object, ...]:
        """Edit the image: (compare, where, where each, variants, scores, download, note)."""

        def report(share: float, what: str) -> None:
            progress(share, desc=what)

        wish = asked(labels, rows, gamma, eta, variants, *places)
        try:
            outcome = self.studio.edit(
                images, self._files(wish.labels), wish.sliders, wish.eta, wish.variants, report
            )
        except (DclipError, OSError) as error:
            message = note_html(str(error), error=True)
            hidden, before = gr.update(visible=False), picture(images.pixels[0])
            return (before, before), None, hidden, hidden, "", hidden, message
        results = pictures(outcome.result)
        several = gr.update(value=results, visible=len(results) > 1)
        weights = dict(zip(wish.labels, wish.sliders.weights, strict=False))
        text = note_html(summary(outcome, gamma, weights))
        where, each = overlays(images, outcome, wish.labels)
        apart = gr.update(value=each, visible=bool(each))
        compared = picture(images.pixels[0]), results[0]
        download = self._download(images, outcome.result[0], original)
        return compared, where, apart, several, scores_html(outcome), download, text

    def _download(self, images: Images, result: Tensor, original: str) -> Update:
        """The button that gives the picture, at the size of the file that was uploaded."""
        whole = self.studio.full_size(images, result, original)
        folder = Path(tempfile.mkdtemp(prefix="edited_", dir=os.environ.get("GRADIO_TEMP_DIR")))
        file = folder / f"{images.ids[0]}_edited.png"
        whole.save(file)
        label = f"Download ({whole.width} x {whole.height})"
        update: Update = gr.update(value=str(file), label=label, visible=True)
        return update

    def strip(
        self,
        images: Images,
        original: str,
        labels: Sequence[str] | None,
        rows: Sequence[str],
        gamma: float,
        eta: float,
        variants: float,
        *places: float,
    ) -> list[tuple[Image.Image, str]]:
        """The degrees of change, each with its gamma; none where there is no edit either."""
        wish = asked(labels, rows, gamma, eta, variants, *places)
        try:
            degrees = self.studio.strip(
                images, self._files(wish.labels), wish.sliders, wish.eta, wish.variants
            )
        except (DclipError, OSError):  # said by edit
            return []
        if degrees is None:
            return []
        captions = [f"gamma {gamma:g}" for gamma in self.studio.cfg.degrees]
        return list(zip(pictures(degrees), captions, strict=True))

    def _files(self, labels: Sequence[str]) -> list[str]:
        edits = self.studio.edits()
        return [edits[label] for label in labels if label in edits]
