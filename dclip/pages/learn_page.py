"""The part of the page that learns: what is on it, and what happens when it is used.

``dclip.pages.learn`` does the work. Imported only to serve the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dclip.edits.named import FILE
from dclip.errors import DclipError
from dclip.pages.demo_actions import Update, note_html
from dclip.pages.learn import Teacher, UnfinishedError, Wish
from dclip.pages.learned import face_of
from dclip.pages.queue import Job, JobQueue, State
from dclip.pages.render import render
from dclip.pages.summary import answer
from dclip.pages.work import Look, look_at, only_one, pictures_at, shown, work_html
from dclip.record.runs import Run

EPOCHS = "epoch_*.png"
START = "say what a picture shows now and what it shall show, then press Learn"
HERE = (
    '<p class="small">Here you will see how far it is, the faces after every epoch, and how well '
    "it works. Everything is kept on disk, as for any run.</p>"
)
AGAIN = "press Learn once more to learn it all the same"


@dataclass(frozen=True)
class LearnParts:
    """What is on this part of the page."""

    source: gr.Textbox
    target: gr.Textbox
    keep: gr.Textbox
    kind: gr.Radio
    name: gr.Textbox
    note: gr.HTML
    learn: gr.Button
    stop: gr.Button
    resume: gr.Button
    work: gr.HTML
    result: gr.HTML
    use: gr.Button
    epochs: gr.Gallery

    @property
    def form(self) -> list[object]:
        """What the visitor fills in, in the order of ``Wish``."""
        return [self.source, self.target, self.keep, self.kind, self.name]

    @property
    def watched(self) -> list[object]:
        """What changes while something is learned."""
        buttons = [self.learn, self.stop, self.resume, self.use]
        return [self.work, self.result, self.epochs, *buttons, self.note]


def learn_parts(teacher: Teacher) -> LearnParts:
    """The form on the left, what becomes of it on the right."""
    with gr.Row():
        with gr.Column(scale=5):
            form = _form(teacher)
            note = gr.HTML(note_html(START), elem_id="learn_note")
            with gr.Row():
                learn = gr.Button("Learn", variant="primary", elem_id="learn", min_width=90)
                stop = gr.Button("Stop", visible=False, elem_id="stop", min_width=90)
                resume = gr.Button("Resume", visible=False, elem_id="resume", min_width=90)
        with gr.Column(scale=7):
            work = gr.HTML(HERE, elem_id="work")
            result = gr.HTML(elem_id="result")
            use = gr.Button("Try it on a picture", visible=False, elem_id="use")
            epochs = gr.Gallery(
                label="after every epoch, on faces that it does not learn from",
                elem_id="epochs",
                columns=1,
                format="png",
                object_fit="contain",
                interactive=False,
                visible=False,
                buttons=[],
            )
    return LearnParts(*form, note, learn, stop, resume, work, result, use, epochs)


def _form(teacher: Teacher) -> tuple[gr.Textbox, gr.Textbox, gr.Textbox, gr.Radio, gr.Textbox]:
    source = gr.Textbox(
        "person", label="1. What it is now", placeholder="person", elem_id="source", max_lines=1
    )
    target = gr.Textbox(
        label="2. What it shall be",
        placeholder="person with grey hair",
        elem_id="target",
        max_lines=1,
    )
    kinds = teacher.kinds
    kind = gr.Radio(
        kinds,
        value=kinds[0] if kinds else None,
        label="3. What changes",
        info="a colour: of hair, skin or clothes; a shape: beards, long hair",
        visible=bool(kinds),
        elem_id="kind",
    )
    keep = gr.Textbox(
        label="What must stay (optional)",
        placeholder="person with a beard, smiling person",
        info="in words, with commas between; left empty: what such pictures usually keep",
        elem_id="keep",
        max_lines=1,
    )
    name = gr.Textbox(
        label="Its name (optional)",
        placeholder="grey_hair",
        info="left empty: made of the words",
        elem_id="name",
        max_lines=1,
    )
    return source, target, keep, kind, name


class Lessons:
    """What this part of the page does; every method returns new values of components."""

    def __init__(self, teacher: Teacher, queue: JobQueue) -> None:
        self.teacher, self.queue = teacher, queue

    def read(self, warned: bool, *form: str | None) -> tuple[object, object]:
        """What to say of the words, once they are typed: (note, warned).

        Args:
            warned: whether the note is such a warning already.
        """
        note = self.teacher.note(_wish(form))
        if note:
            return note_html(note, error=True), True
        if warned:
            return note_html(START), False
        return gr.skip(), gr.skip()

    def start(self, key: str | None, said: str, *form: str | None) -> tuple[object, ...]:
        """Begin to learn, or wait for it: (key, said, unfinished, note, resume).

        Args:
            key: of the browser's last job.
            said: the words of which it was said that CLIP does not know them.
        """
        wish, hidden = _wish(form), gr.update(visible=False)
        try:
            only_one(self.queue, key)
            job = self.teacher.job(wish)
            note, texts = self.teacher.note(wish), "\n".join(wish.texts)
            if note and said != texts:
                return gr.skip(), texts, "", note_html(f"{note}; {AGAIN}", error=True), gr.skip()
            self.queue.add(job)
        except UnfinishedError as error:
            message = note_html(str(error), error=True)
            return gr.skip(), "", wish.called, message, gr.update(visible=True)
        except DclipError as error:
            return gr.skip(), "", "", note_html(str(error), error=True), gr.skip()
        begun, known = f"the name of the edit is {wish.called}", self.teacher.known_as(wish)
        if known:
            begun += f"; under the name {known} it would be compared with true pictures, too"
        return job.key, "", "", note_html(begun), hidden

    def stop(self, key: str | None) -> None:
        """End it; what was learned is kept."""
        job = self.queue.get(key)
        if job is not None:
            self.queue.stop(job)

    def resume(self, key: str | None, unfinished: str) -> tuple[object, object]:
        """Go on with the run of the name ``unfinished``, else with the browser's last job."""
        last = self.queue.get(key)
        try:
            only_one(self.queue, key)
            job = self._resumed(last, unfinished)
            self.queue.add(job)
        except DclipError as error:
            return gr.skip(), note_html(str(error), error=True)
        return job.key, note_html(f"going on with {job.cfg.edit.name}")

    def _resumed(self, last: Job | None, unfinished: str) -> Job:
        if unfinished or last is None:
            return self.teacher.resumed(unfinished)
        if last.find_folder() is None:  # it was stopped before it had a run
            return Job(last.title, last.words, last.cfg)
        return self.teacher.resumed(last.cfg.edit.name)

    def watch(self, key: str | None, seen: Look | None) -> list[object]:
        """How it goes: [seen, work, result, epochs, learn, stop, resume, use, note].

        ``seen`` is what the browser shows already.
        """
        job = self.queue.get(key)
        if job is None:
            return [gr.skip()] * 9
        look = look_at(self.queue, job, EPOCHS)
        if look == seen:
            return [gr.skip()] * 9
        epochs: object = gr.skip()
        if seen is None or (seen.count, seen.state.over) != (look.count, look.state.over):
            epochs = self._epochs(look)
        result, note = self._result(job, look), gr.skip()
        if look.ends(seen):  # what was said meanwhile holds no longer
            note = note_html(START)
        return [look, work_html(job, look), result, epochs, *_buttons(look), note]

    def _epochs(self, look: Look) -> Update:
        """The pictures of the epochs; at the end, first the test faces."""
        paths = pictures_at(look.folder, EPOCHS)
        if look.state is State.finished:
            paths = pictures_at(look.folder, "before_after.png") + paths
        update: Update = gr.update(value=shown(paths), visible=bool(paths))
        return update

    def _result(self, job: Job, look: Look) -> str:
        """What came out, once it is finished."""
        if look.state is not State.finished or look.folder is None:
            return ""
        run = Run(look.folder)
        return render(
            "taught.html",
            name=str(run.setting("edit.name")),
            verdict=answer(run.metrics),
            face=face_of(look.folder),
            folder=str(look.folder),
        )

    def news(self, key: str | None, known: int) -> tuple[object, object]:
        """(how many edits the page has learned, the file of this browser's own, or "")."""
        files = self.queue.learned()
        if len(files) == known:
            return gr.skip(), gr.skip()
        job, taught = self.queue.get(key), ""
        if job is not None and job.folder is not None and job.folder / FILE in files[known:]:
            taught = str(job.folder / FILE)
        return len(files), taught


def _wish(form: Sequence[str | None]) -> Wish:
    return Wish(*(text or "" for text in form))


def _buttons(look: Look) -> list[Update]:
    """Learn, Stop, Resume and Try it, as they are in this state."""
    state = look.state
    busy, stopped = not state.over, state in (State.stopped, State.failed)
    return [
        gr.update(interactive=not busy),
        gr.update(visible=busy, interactive=state is not State.stopping),
        gr.update(visible=stopped),
        gr.update(visible=state is State.finished),
    ]


def listen(parts: LearnParts, lessons: Lessons, key: gr.BrowserState) -> None:
    """What happens when this part of the page is used."""
    said, unfinished, warned = gr.State(""), gr.State(""), gr.State(False)
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    for box in (parts.source, parts.target, parts.keep):
        box.blur(lessons.read, [warned, *parts.form], [parts.note, warned], **quiet)
    begun = [key, said, unfinished, parts.note, parts.resume]
    for event in (parts.learn.click, parts.target.submit, parts.name.submit):
        event(lessons.start, [key, said, *parts.form], begun, **quiet)
    parts.stop.click(lessons.stop, key, None, **quiet)
    parts.resume.click(lessons.resume, [key, unfinished], [key, parts.note], **quiet)
