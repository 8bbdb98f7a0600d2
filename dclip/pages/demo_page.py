"""The page of ``task=demo``, laid out with Gradio: what is on it, and what happens when it is used.

``dclip.pages.demo`` does the work. This module is imported only to serve the page.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from torch import Tensor

from dclip.config import Config, DemoTask
from dclip.errors import DclipError
from dclip.pages.demo import (
    MOST_ETA,
    MOST_GAMMA,
    MOST_VARIANTS,
    NO_EDITS,
    Outcome,
    Studio,
    picture,
)
from dclip.pages.render import render
from dclip.pages.report import metric_rows
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


def summary(outcome: Outcome, gamma: float, count: int) -> str:
    """What to say after an edit."""
    text = f"gamma {gamma:g}, made in {outcome.seconds:.1f} s"
    if count > 1:
        text += f"; {count} edits share the change, each is whole at gamma {count}"
    return text


def pictures(images: Tensor) -> list[Image.Image]:
    """Images [N,3,H,W] as PNGs hold them."""
    return [picture(pixels) for pixels in images]


# ------------------------------------------------------------ what happens


class Actions:
    """What the page does; every method returns new values of components."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def find(self) -> tuple[Update, str]:
        """The edits there are: (checkboxes, hint)."""
        labels = list(self.studio.edits())
        boxes = gr.update(choices=labels, value=labels[:1], visible=bool(labels))
        if labels:
            return boxes, ""
        return boxes, note_html(NO_EDITS)

    def pick(self, event: gr.SelectData) -> tuple[object, ...]:
        """One of the studio's pictures: (image, before, after, note)."""
        images = self.studio.images
        name = images.ids[event.index]
        return self._show(images.take([event.index]), f"picture {name}; now press Edit")

    def upload(self, path: str) -> tuple[object, ...]:
        """A picture of the visitor's own: (image, before, after, note)."""
        try:
            images = self.studio.upload(Path(path))
        except DclipError as error:
            return gr.skip(), gr.skip(), gr.skip(), note_html(str(error), error=True)
        name = Path(path).name
        parts = [f"uploaded {name}", "its middle square is used"]
        note = self.studio.note_on(images)
        if note:
            parts.append(note)
        return self._show(images, "; ".join([*parts, "now press Edit"]))

    def _show(self, images: Images, text: str) -> tuple[object, ...]:
        return images, picture(images.pixels[0]), None, note_html(text)

    def edit(
        self,
        images: Images,
        labels: Sequence[str] | None,
        gamma: float,
        eta: float,
        variants: float,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[object, ...]:
        """Edit the image: (after, variants, strip, scores, note)."""

        def report(share: float, what: str) -> None:
            progress(share, desc=what)

        try:
            edits = self.studio.edits()
            chosen = [edits[label] for label in labels or [] if label in edits]
            outcome = self.studio.edit(images, chosen, gamma, eta, int(variants), report)
        except (DclipError, OSError) as error:
            message = note_html(str(error), error=True)
            return None, gr.update(visible=False), None, "", message
        results = pictures(outcome.result)
        several = gr.update(value=results, visible=len(results) > 1)
        text = note_html(summary(outcome, gamma, len(chosen)))
        return results[0], several, self._strip(outcome), scores_html(outcome), text

    def _strip(self, outcome: Outcome) -> list[tuple[Image.Image, str]]:
        """The degrees of change, each with its gamma."""
        if outcome.degrees is None:
            return []
        captions = [f"gamma {gamma:g}" for gamma in self.studio.cfg.degrees]
        return list(zip(pictures(outcome.degrees), captions, strict=True))


# ------------------------------------------------------------ what is on the page


@dataclass(frozen=True)
class Choices:
    """The left half of the page: what the visitor chooses."""

    faces: gr.Gallery
    upload: gr.UploadButton
    edits: gr.CheckboxGroup
    hint: gr.HTML
    gamma: gr.Slider
    eta: gr.Slider
    variants: gr.Slider
    button: gr.Button


@dataclass(frozen=True)
class Results:
    """The right half of the page: what becomes of the picture."""

    before: gr.Image
    after: gr.Image
    note: gr.HTML
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
    hint = gr.HTML(elem_id="hint")
    gamma = gr.Slider(
        0,
        MOST_GAMMA,
        min(studio.cfg.gamma, MOST_GAMMA),
        step=0.05,
        label="3. How much: gamma",
        info="0: the original, 1: the edit as it was learned, beyond 1: more of it",
        elem_id="gamma",
    )
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
    return Choices(faces, upload, edits, hint, gamma, eta, variants, button)


def _image(label: str, value: Image.Image | None = None) -> gr.Image:
    return gr.Image(
        value,
        label=label,
        elem_id=label,
        format="png",
        interactive=False,
        height=290,
        buttons=["download"],
    )


def _results(studio: Studio) -> Results:
    with gr.Row():
        before = _image("before", picture(studio.images.pixels[0]))
        after = _image("after")
    note = gr.HTML(note_html("choose, then press Edit"), elem_id="note")
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
    return Results(before, after, note, variants, strip, gr.HTML(elem_id="scores"))


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
            with gr.Column(scale=6):
                results = _results(studio)
        chosen = [image, results.before, results.after, results.note]
        blocks.load(actions.find, None, [choices.edits, choices.hint])
        choices.faces.select(actions.pick, None, chosen)
        choices.upload.upload(actions.upload, choices.upload, chosen)
        editing: dict[str, Any] = {
            "fn": actions.edit,
            "inputs": [image, choices.edits, choices.gamma, choices.eta, choices.variants],
            "outputs": [
                results.after,
                results.variants,
                results.strip,
                results.scores,
                results.note,
            ],
            "show_progress_on": [results.after],
            "concurrency_id": "networks",
            "concurrency_limit": 1,
        }
        choices.button.click(**editing)
        choices.gamma.release(**editing, trigger_mode="always_last")
    return blocks


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
