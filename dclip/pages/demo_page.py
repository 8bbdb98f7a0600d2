"""The page of ``task=demo``, laid out with Gradio: what is on it, and what happens when it is used.

``dclip.pages.demo`` does the work. This module is imported only to serve the page.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from torch import Tensor

from dclip.config import Config, DemoTask
from dclip.edits.region import union
from dclip.errors import DclipError
from dclip.pages.demo import MOST_ETA, MOST_VARIANTS, NO_EDITS, Outcome, Studio, picture
from dclip.pages.demo_settings import MOST_GAMMA, MOST_LOW, MOST_WEIGHT, Sliders
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


def scores_html(outcome: Outcome) -> str:
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


def summary(outcome: Outcome, gamma: float, weights: Mapping[str, float]) -> str:
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
    images: Images, outcome: Outcome, labels: Sequence[str]
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

    def find(self) -> tuple[object, ...]:
        """The edits there are: (checkboxes, hint, what :meth:`choose` returns)."""
        labels = list(self.studio.edits())
        boxes = gr.update(choices=labels, value=labels[:1], visible=bool(labels))
        hint = gr.update(value=note_html(NO_EDITS), visible=not labels)
        return boxes, hint, *self.choose(labels[:1], [])

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
            if label in lows and label not in rows:
                weight |= {"label": f"{label}: weight", "value": 1.0}
                region |= {"label": f"{label}: where", "value": lows[label]}
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
        """One of the studio's pictures: (image, before, after, where, note)."""
        images = self.studio.images
        name = images.ids[event.index]
        return self._show(images.take([event.index]), f"picture {name}; now press Edit")

    def upload(self, path: str) -> tuple[object, ...]:
        """A picture of the visitor's own: (image, before, after, where, note)."""
        try:
            images = self.studio.upload(Path(path))
        except DclipError as error:
            nothing = [gr.skip()] * 4
            return *nothing, note_html(str(error), error=True)
        name = Path(path).name
        parts = [f"uploaded {name}", "its middle square is used"]
        note = self.studio.note_on(images)
        if note:
            parts.append(note)
        return self._show(images, "; ".join([*parts, "now press Edit"]))

    def _show(self, images: Images, text: str) -> tuple[object, ...]:
        return images, picture(images.pixels[0]), None, None, note_html(text)

    def edit(
        self,
        images: Images,
        labels: Sequence[str] | None,
        rows: Sequence[str],
        gamma: float,
        eta: float,
        variants: float,
        progress: gr.Progress = PROGRESS,
        *places: float,
    ) -> tuple[object, ...]:
        """Edit the image: (after, where, where each, variants, scores, note)."""

        def report(share: float, what: str) -> None:
            progress(share, desc=what)

        wish = asked(labels, rows, gamma, eta, variants, *places)
        try:
            outcome = self.studio.edit(
                images, self._files(wish.labels), wish.sliders, wish.eta, wish.variants, report
            )
        except (DclipError, OSError) as error:
            message = note_html(str(error), error=True)
            hidden = gr.update(visible=False)
            return None, None, hidden, hidden, "", message
        results = pictures(outcome.result)
        several = gr.update(value=results, visible=len(results) > 1)
        weights = dict(zip(wish.labels, wish.sliders.weights, strict=False))
        text = note_html(summary(outcome, gamma, weights))
        where, each = overlays(images, outcome, wish.labels)
        apart = gr.update(value=each, visible=bool(each))
        return results[0], where, apart, several, scores_html(outcome), text

    def strip(
        self,
        images: Images,
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


# ------------------------------------------------------------ what is on the page


@dataclass(frozen=True)
class Choices:
    """The left half of the page: what the visitor chooses."""

    faces: gr.Gallery
    upload: gr.UploadButton
    edits: gr.CheckboxGroup
    hint: gr.HTML
    gamma: gr.Slider
    weights: list[gr.Slider]
    regions: list[gr.Slider]
    rows: list[gr.Row]
    eta: gr.Slider
    variants: gr.Slider
    button: gr.Button


@dataclass(frozen=True)
class Results:
    """The right half of the page: what becomes of the picture."""

    before: gr.Image
    after: gr.Image
    where: gr.Image
    note: gr.HTML
    each: gr.Gallery
    variants: gr.Gallery
    strip: gr.Gallery
    scores: gr.HTML


def _choices(studio: Studio) -> Choices:
    faces = gr.Gallery(
        pictures(studio.images.pixels),
        label="1. Pick a picture",
        elem_id="faces",
        columns=8,
        format="png",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )
    upload = gr.UploadButton(
        "or upload one (PNG, JPEG, WebP)", file_types=["image"], elem_id="upload", size="sm"
    )
    edits = gr.CheckboxGroup([], label="2. Choose edits", elem_id="edits")
    hint = gr.HTML(elem_id="hint", visible=False)
    gamma = gr.Slider(
        0,
        MOST_GAMMA,
        min(studio.cfg.gamma, MOST_GAMMA),
        step=0.05,
        label="3. How much: gamma",
        info="0: the original, 1: the whole edit, beyond 1: more of it",
        elem_id="gamma",
    )
    weights, regions, rows = _rows()
    with gr.Accordion("Chance", open=False):
        eta = gr.Slider(
            0,
            MOST_ETA,
            min(studio.eta, MOST_ETA),
            step=0.05,
            label="eta: noise on the way",
            elem_id="eta",
        )
        count = min(studio.cfg.variants, MOST_VARIANTS)
        variants = gr.Slider(1, MOST_VARIANTS, count, step=1, label="variants")
    button = gr.Button("Edit", variant="primary", elem_id="button")
    return Choices(faces, upload, edits, hint, gamma, weights, regions, rows, eta, variants, button)


def _rows() -> tuple[list[gr.Slider], list[gr.Slider], list[gr.Row]]:
    """A weight and a region for each edit that may be chosen, hidden until it is."""
    weights, regions, rows = [], [], []
    for k in range(MOST_EDITS):
        with gr.Row(visible=False) as row:
            weight = gr.Slider(
                0, MOST_WEIGHT, 1, step=0.05, info="1: the whole edit", elem_id=f"weight{k}"
            )
            region = gr.Slider(
                0,
                MOST_LOW,
                0,
                step=0.01,
                info=f"0: everywhere, {MOST_LOW:g}: the least",
                elem_id=f"region{k}",
            )
        weights.append(weight)
        regions.append(region)
        rows.append(row)
    return weights, regions, rows


def _image(label: str, value: Image.Image | None = None) -> gr.Image:
    return gr.Image(
        value,
        label=label,
        elem_id=label,
        format="png",
        interactive=False,
        height=235,
        buttons=["download"],
    )


def _results(studio: Studio) -> Results:
    with gr.Row():
        before = _image("before", picture(studio.images.pixels[0]))
        after = _image("after")
        where = _image("where")
    note = gr.HTML(note_html("choose, then press Edit"), elem_id="note")
    each = gr.Gallery(
        label="where each edit acts",
        elem_id="each",
        columns=MOST_EDITS,
        format="png",
        height=190,
        object_fit="contain",
        allow_preview=False,
        visible=False,
        buttons=[],
    )
    variants = gr.Gallery(
        label="variants", elem_id="variants", columns=8, format="png", visible=False, buttons=[]
    )
    strip = gr.Gallery(
        label="degrees of change",
        elem_id="strip",
        columns=len(studio.cfg.degrees) or 1,
        format="png",
        height=190,
        object_fit="contain",
        allow_preview=False,
        buttons=[],
    )
    return Results(before, after, where, note, each, variants, strip, gr.HTML(elem_id="scores"))


def page(studio: Studio) -> gr.Blocks:
    """The page, as Gradio's Blocks."""
    actions = Actions(studio)
    with gr.Blocks(title="dclip", analytics_enabled=False) as blocks:
        gr.Markdown(
            "## dclip: edit a picture in words\n"
            f"Edits of the model `{studio.model.info.name}`, on this machine."
        )
        image = gr.State(studio.images.take([0]))
        with gr.Row():
            with gr.Column(scale=5):
                choices = _choices(studio)
            with gr.Column(scale=7):
                results = _results(studio)
        _listen(blocks, actions, image, choices, results)
    return blocks


def _listen(
    blocks: gr.Blocks, actions: Actions, image: gr.State, choices: Choices, results: Results
) -> None:
    """What happens when the page is used."""
    rows = gr.State([])  # the labels of the edits that have sliders
    places = [*choices.weights, *choices.regions]
    chosen = [results.note, rows, *places, *choices.rows]
    blocks.load(actions.find, None, [choices.edits, choices.hint, *chosen], show_progress="hidden")
    choices.edits.input(actions.choose, [choices.edits, rows], chosen, show_progress="hidden")
    picked = [image, results.before, results.after, results.where, results.note]
    choices.faces.select(actions.pick, None, picked)
    choices.upload.upload(actions.upload, choices.upload, picked)
    inputs = [image, choices.edits, rows, choices.gamma, choices.eta, choices.variants, *places]
    changed = [results.after, results.where, results.each]
    changed += [results.variants, results.scores, results.note]
    moving = [slider.release for slider in [choices.gamma, *places]]
    for event in [choices.button.click, *moving]:
        edited = event(
            actions.edit,
            inputs,
            changed,
            show_progress_on=[results.after],
            concurrency_id="networks",
            concurrency_limit=1,
            trigger_mode="always_last" if event in moving else "once",
        )
        edited.then(
            actions.strip,
            inputs,
            results.strip,
            concurrency_id="networks",
            concurrency_limit=1,
            trigger_mode="always_last",
        )


# ------------------------------------------------------------ the server


def free_port(host: str) -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def serve(cfg: Config) -> None:
    """Open the page and keep it until Ctrl-C. It reaches out to nobody."""
    assert isinstance(cfg.task, DemoTask)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    overrides: Sequence[str] = ()
    if HydraConfig.initialized():
        overrides = HydraConfig.get().overrides.task
    studio = Studio(cfg, overrides)
    host = cfg.task.host
    port = cfg.task.port or free_port(host)
    with tempfile.TemporaryDirectory(prefix="dclip_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = launch(page(studio), host, port)
        print(f"the page is http://{host}:{port} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("the page is closed")
        finally:
            blocks.close(verbose=False)


def launch(blocks: gr.Blocks, host: str, port: int) -> gr.Blocks:
    """Start Gradio's server without anything that needs a network.

    DclipError if it cannot listen there.
    """
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    try:
        blocks.queue().launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            theme=theme,
            css=render("demo.css"),
            footer_links=[],
            max_file_size="50mb",
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
        )
    except OSError as error:
        raise DclipError(
            f"task.port={port} cannot be used ({error}); "
            "choose another, or task.port=0 for any free one"
        ) from error
    return blocks
