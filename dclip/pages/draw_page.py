"""The part of the page that draws from words: what is on it, and what happens when it is used.

``dclip.pages.draw`` does the work. Imported only to serve the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dclip.errors import DclipError, counted
from dclip.pages.demo_actions import note_html
from dclip.pages.draw import MOST, Drawer
from dclip.pages.learn import plain
from dclip.pages.queue import JobQueue, State
from dclip.pages.work import Look, Shown, look_at, only_one, pictures_at, shown, work_html

HERE = '<p class="small">Here the samples will appear, and how they came out of noise.</p>'
START = "say what to draw, then press Draw; CLIP guides every step by the words"


@dataclass(frozen=True)
class DrawParts:
    """What is on this part of the page."""

    text: gr.Textbox
    count: gr.Slider
    note: gr.HTML
    draw: gr.Button
    stop: gr.Button
    work: gr.HTML
    samples: gr.Gallery
    film: gr.Image

    @property
    def watched(self) -> list[object]:
        """What changes while something is drawn."""
        return [self.work, self.samples, self.film, self.draw, self.stop, self.note]


def draw_parts() -> DrawParts:
    """The words on the left, the samples on the right."""
    with gr.Row():
        with gr.Column(scale=5):
            text = gr.Textbox(
                label="1. What to draw",
                placeholder="a person with a beard",
                elem_id="draw_text",
                max_lines=1,
            )
            count = gr.Slider(1, MOST, 8, step=1, label="2. How many", elem_id="draw_count")
            note = gr.HTML(note_html(START), elem_id="draw_note")
            with gr.Row():
                draw = gr.Button("Draw", variant="primary", elem_id="draw", min_width=90)
                stop = gr.Button("Stop", visible=False, elem_id="draw_stop", min_width=90)
        with gr.Column(scale=7):
            work = gr.HTML(HERE, elem_id="draw_work")
            samples = gr.Gallery(
                label="samples",
                elem_id="samples",
                columns=4,
                format="png",
                object_fit="contain",
                interactive=False,
                visible=False,
            )
            film = gr.Image(
                label="their film: from noise (above) to pictures (below), step by step",
                elem_id="film",
                format="png",
                interactive=False,
                visible=False,
                buttons=["fullscreen"],
            )
    return DrawParts(text, count, note, draw, stop, work, samples, film)


class Drawings:
    """What this part of the page does; every method returns new values of components."""

    def __init__(self, drawer: Drawer, queue: JobQueue) -> None:
        self.drawer, self.queue = drawer, queue

    def start(self, key: str | None, text: str | None, count: float) -> tuple[object, object]:
        """Begin to draw, or wait for it: (key, note)."""
        try:
            only_one(self.queue, key)
            job = self.drawer.job(text or "", int(count))
            self.queue.add(job)
        except DclipError as error:
            return gr.skip(), note_html(str(error), error=True)
        note = self.drawer.note(text or "")
        begun = f"drawing {counted(int(count), 'sample')} of {plain(text or '')}"
        return job.key, note_html(note or begun, error=bool(note))

    def stop(self, key: str | None) -> None:
        """End it."""
        job = self.queue.get(key)
        if job is not None:
            self.queue.stop(job)

    def watch(self, key: str | None, seen: Look | None) -> list[object]:
        """How it goes: [seen, work, samples, film, draw, stop, note]."""
        job = self.queue.get(key)
        if job is None:
            return [gr.skip()] * 7
        look = look_at(self.queue, job, "film.png")
        if look == seen:
            return [gr.skip()] * 7
        busy, pictures, film = not look.state.over, samples_of(look), None
        if look.state is State.finished and look.count:
            [(film, _)] = shown(pictures_at(look.folder, "film.png"))
        return [
            look,
            work_html(job, look),
            gr.update(value=pictures, visible=bool(pictures)),
            gr.update(value=film, visible=film is not None),
            gr.update(interactive=not busy),
            gr.update(visible=busy, interactive=look.state is not State.stopping),
            note_html(START) if look.ends(seen) else gr.skip(),
        ]


def samples_of(look: Look) -> list[Shown]:
    """The samples of a run that is finished."""
    if look.state is not State.finished:
        return []
    pictures = shown(sorted(pictures_at(look.folder, "image_*.png")))
    return [(picture, f"{number}") for number, (picture, _) in enumerate(pictures, 1)]


def listen(parts: DrawParts, drawings: Drawings, key: gr.BrowserState) -> None:
    """What happens when this part of the page is used. ``key``: of the browser's last job."""
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    for event in (parts.draw.click, parts.text.submit):
        event(drawings.start, [key, parts.text, parts.count], [key, parts.note], **quiet)
    parts.stop.click(drawings.stop, key, None, **quiet)
