"""The page of ``task=demo``, laid out with Gradio.

``dclip.pages.demo`` does the work. This module is imported only to serve the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dclip.pages.demo import MOST_ETA, MOST_VARIANTS, Studio, picture
from dclip.pages.demo_actions import MOST_EDITS, Actions, note_html, pictures
from dclip.pages.demo_settings import LEAST_GAMMA, MOST_GAMMA, MOST_LOW, MOST_WEIGHT
from dclip.pages.draw import Drawer
from dclip.pages.draw_page import Drawings, DrawParts, draw_parts
from dclip.pages.draw_page import listen as listen_to_drawing
from dclip.pages.learn import Teacher
from dclip.pages.learn_page import LearnParts, Lessons, learn_parts, listen
from dclip.pages.queue import JobQueue
from dclip.pages.work import Look

PACE = 1.5  # seconds between two looks at the runs

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

    @property
    def sliders(self) -> list[gr.Slider]:
        """Those of chance, and those of every edit: all weights, then all regions."""
        return [self.gamma, self.eta, self.variants, *self.weights, *self.regions]


@dataclass(frozen=True)
class Results:
    """The right half of the page: what becomes of the picture."""

    compare: gr.ImageSlider
    where: gr.Image
    download: gr.DownloadButton
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
        LEAST_GAMMA,
        MOST_GAMMA,
        min(studio.cfg.gamma, MOST_GAMMA),
        step=0.05,
        label="3. How much: gamma",
        info="1: the whole edit, 2: twice as much, 0: the original, -1: its opposite",
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


def _results(studio: Studio) -> Results:
    before = picture(studio.images.pixels[0])
    with gr.Row():
        compare = gr.ImageSlider(
            (before, before),
            label="before | after: drag the line",
            elem_id="compare",
            format="png",
            interactive=False,
            height=360,
            buttons=["fullscreen"],
            scale=3,
        )
        where = gr.Image(
            label="where it acts",
            elem_id="where",
            format="png",
            interactive=False,
            height=360,
            buttons=[],
            scale=2,
        )
    download = gr.DownloadButton("Download", visible=False, elem_id="download", size="sm")
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
    scores = gr.HTML(elem_id="scores")
    return Results(compare, where, download, note, each, variants, strip, scores)


def page(studio: Studio, overrides: Sequence[str], queue: JobQueue) -> gr.Blocks:
    """The page, as Gradio's Blocks.

    Args:
        overrides: the command line of the page, which what it learns takes over.
        queue: where what it learns and draws waits.
    """
    teacher = Teacher(studio.cfg, overrides, queue)
    with gr.Blocks(title="dclip", analytics_enabled=False) as blocks:
        gr.Markdown(
            "## dclip: edit pictures in words\n"
            f"Edits of the model `{studio.model.info.name}`, on this machine."
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Edit a picture", id="edit", elem_id="tab_edit"), gr.Row():
                with gr.Column(scale=5):
                    choices = _choices(studio)
                with gr.Column(scale=7):
                    results = _results(studio)
            with gr.Tab("Learn an edit", id="learn", elem_id="tab_learn"):
                parts = learn_parts(teacher)
            with gr.Tab("Draw from words", id="draw", elem_id="tab_draw"):
                drawn = draw_parts()
        gr.Markdown("### Edits that were learned")
        cards = gr.HTML(elem_id="cards")
        actions = Actions(studio)
        found = _listen(blocks, actions, choices, results, cards)
        lessons, drawings = Lessons(teacher, queue), Drawings(Drawer(studio.cfg, overrides), queue)
        known, taught = _watch(blocks, tabs, lessons, parts, drawings, drawn)
        quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        known.change(actions.find, [*found.inputs, taught], found.outputs, **quiet)
        parts.use.click(lambda: gr.Tabs(selected="edit"), None, tabs, **quiet)
        _remember(blocks, [*choices.sliders, *parts.form, drawn.text, drawn.count])
    return blocks


def _remember(blocks: gr.Blocks, fields: list[Any]) -> None:
    """Keep what the visitor fills in: it is there again when the browser loads the page again."""
    kept = gr.BrowserState([field.value for field in fields])
    changes = [field.change for field in fields]
    gr.on(changes, None, fields, kept, js="(...values) => [values]")
    blocks.load(None, kept, fields, js="values => values")


@dataclass(frozen=True)
class Found:
    """What changes when the edits are looked for: components in and out of ``Actions.find``."""

    inputs: list[object]
    outputs: list[object]


def _listen(
    blocks: gr.Blocks, actions: Actions, choices: Choices, results: Results, cards: gr.HTML
) -> Found:
    """What happens when pictures are edited."""
    image, original = gr.State(actions.studio.images.take([0])), gr.State("")
    # the labels of the edits that are chosen, and of those that have sliders
    labels, rows = gr.BrowserState([]), gr.BrowserState([])
    places = [*choices.weights, *choices.regions]
    chosen = [results.note, rows, *places, *choices.rows]
    found = Found([labels, rows], [choices.edits, choices.hint, cards, *chosen])
    choices.edits.change(None, choices.edits, labels, js="labels => [labels]")
    blocks.load(actions.find, found.inputs, found.outputs, show_progress="hidden")
    choices.edits.input(actions.choose, [choices.edits, rows], chosen, show_progress="hidden")
    picked = [image, original, results.compare, results.where, results.download, results.note]
    choices.faces.select(actions.pick, None, picked)
    choices.upload.upload(actions.upload, choices.upload, picked)
    inputs = [image, original, choices.edits, rows, *choices.sliders]
    changed = [results.compare, results.where, results.each]
    changed += [results.variants, results.scores, results.download, results.note]
    moving = [slider.release for slider in [choices.gamma, *places]]
    for event in [choices.button.click, *moving]:
        edited = event(
            actions.edit,
            inputs,
            changed,
            show_progress_on=[results.compare],
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
    return found


def _watch(
    blocks: gr.Blocks,
    tabs: gr.Tabs,
    lessons: Lessons,
    parts: LearnParts,
    drawings: Drawings,
    drawn: DrawParts,
) -> tuple[gr.State, gr.State]:
    """What happens while something is learned or drawn: now and then the page looks how it goes.

    A page that is loaded again opens where its browser's run is at work.

    Returns how many edits the page has learned, and the file of this browser's last one.
    """
    learning, seen = gr.BrowserState(""), gr.State(None)  # the last job, and how it was shown
    drawing, drawn_seen = gr.BrowserState(""), gr.State(None)
    told = gr.BrowserState(0)  # as known, also after the page is loaded again
    known, taught = gr.State(0), gr.State("")
    listen(parts, lessons, learning)
    listen_to_drawing(drawn, drawings, drawing)

    def glance(
        learnt: str | None, before: Look | None, count: int, sketch: str, earlier: Look | None
    ) -> list[object]:
        now, file = lessons.news(learnt, count)
        learned = [*lessons.watch(learnt, before), now, now, file]
        return [*learned, *drawings.watch(sketch, earlier)]

    def at_work(learnt: str | None, sketch: str | None) -> object:
        for part, job in (
            ("learn", lessons.queue.get(learnt)),
            ("draw", drawings.queue.get(sketch)),
        ):
            if job is not None and not job.state.over:
                return gr.Tabs(selected=part)
        return gr.skip()

    blocks.load(at_work, [learning, drawing], tabs, show_progress="hidden")
    gr.Timer(PACE).tick(
        glance,
        [learning, seen, told, drawing, drawn_seen],
        [seen, *parts.watched, told, known, taught, drawn_seen, *drawn.watched],
        show_progress="hidden",
        concurrency_limit=None,  # in the queue: else the page is not told that a state has changed
    )
    return known, taught
