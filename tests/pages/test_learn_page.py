"""What the part of the page that learns shows of a run, and of whose."""

import pytest
from PIL import Image

from dclip.errors import DclipError
from dclip.files import write_json
from dclip.pages.learn import UnfinishedError, Wish
from dclip.pages.queue import Job, JobQueue, State
from helpers.runs import configure

gr = pytest.importorskip("gradio")

from dclip.pages.learn_page import START, Lessons  # noqa: E402


class Line(JobQueue):
    """A queue that starts nothing."""

    def __init__(self):
        self.jobs, self.files = {}, []

    def add(self, job):
        self.jobs[job.key] = job

    def get(self, key):
        return self.jobs.get(key)

    def learned(self):
        return self.files

    def place(self, job):
        return 1


class Teacher:
    def __init__(self, cfg):
        self.cfg, self.unfinished = cfg, ""

    def job(self, wish):
        wish.check()
        if wish.called == self.unfinished:
            raise UnfinishedError("was begun and stopped")
        return Job(f"learning {wish.called}", ["edit=x"], self.cfg)

    def note(self, wish):
        return "never shown the word halo" if "halo" in wish.target else ""

    def known_as(self, wish):
        return "grey_hair" if wish.called == "mine" else ""

    def resumed(self, name):
        if name != self.unfinished:
            raise DclipError("nothing was begun")
        return self.job(Wish("a", "b", name="again"))


FORM = ("person", "person with grey hair", "", "a colour", "")


@pytest.fixture
def lessons(tmp_path):
    return Lessons(Teacher(configure(f"output={tmp_path}", "edit.name=grey_hair")), Line())


def test_unknown_words_are_said_once_before_learning_begins(lessons):
    form = ("person", "person with a halo", "", "", "")
    key, said, _, note, _ = lessons.start("", "", *form)
    assert "halo; press Learn once more" in note and not lessons.queue.jobs
    key, said, *_ = lessons.start("", said, *form)
    assert (list(lessons.queue.jobs), said) == ([key], "")
    assert "is not over yet" in lessons.start(key, "", *FORM)[3]
    assert len(lessons.queue.jobs) == 1


def test_a_name_that_loses_the_true_pictures_is_said(lessons):
    note = lessons.start("", "", *FORM[:4], "mine")[3]
    assert "under the name grey_hair it would be compared with true pictures" in note
    assert "true pictures" not in lessons.start("", "", *FORM)[3]


def test_a_run_that_was_stopped_is_offered_again(lessons):
    lessons.teacher.unfinished = "grey_hair"
    _, _, unfinished, note, button = lessons.start("", "", *FORM)
    assert (unfinished, button["visible"]) == ("grey_hair", True)
    assert "was begun and stopped" in note
    key, note = lessons.resume("", unfinished)
    assert "going on with grey_hair" in note and key in lessons.queue.jobs


def test_a_browser_sees_its_own_run_and_all_see_the_edit(lessons, tmp_path):
    key = lessons.start("", "", *FORM)[0]
    job = lessons.queue.get(key)
    assert lessons.watch("another", None) == [gr.skip()] * 9
    seen, work, _, _, learn, stop, *_, note = lessons.watch(key, None)
    assert note == gr.skip()
    assert "waiting" in work and (learn["interactive"], stop["visible"]) == (False, True)
    assert lessons.watch(key, seen) == [gr.skip()] * 9
    job.folder, job.state = tmp_path / "finetune_grey_hair" / "now", State.finished
    (job.folder / "samples").mkdir(parents=True)
    (job.folder / "config.yaml").write_text("edit: {name: grey_hair}\ntask: {name: finetune}\n")
    write_json(job.folder / "metrics.json", {"counterfactual_ratio": 0.5})
    for name in ("epoch_01", "epoch_02", "before_after"):
        Image.new("RGB", (4, 4)).save(job.folder / "samples" / f"{name}.png")
    _, work, result, epochs, learn, _, _, use, note = lessons.watch(key, seen)
    assert START in note  # that it is not over yet, for one, holds no longer
    assert [words for _, words in epochs["value"]] == ["before after", "epoch 2", "epoch 1"]
    assert "finished" in work and "It worked" in result and str(job.folder) in result
    assert (learn["interactive"], use["visible"]) == (True, True)
    lessons.queue.files.append(job.folder / "adapter.safetensors")
    assert lessons.news(key, 0) == (1, str(job.folder / "adapter.safetensors"))
    assert lessons.news("another", 0) == (1, "")
    assert lessons.news(key, 1) == (gr.skip(), gr.skip())
