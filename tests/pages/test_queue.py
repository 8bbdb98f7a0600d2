"""Runs that a page starts: one at a time, stopped, resumed, failed, and what is said of them."""

import sys
import time
from types import SimpleNamespace

import pytest

from dclip.errors import DclipError
from dclip.files import write_json
from dclip.pages import queue as queues
from dclip.pages.queue import Job, JobQueue, State
from dclip.pages.work import look_at, only_one, work_html
from helpers.runs import configure

# A process that behaves as a run: a folder with its status, a bar, then the end that it is told.
RUN = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir(parents=True)
(folder / "status.json").write_text(json.dumps({"pid": os.getpid()}))
def stop(*_):
    print("stopped", flush=True); sys.exit(143)
signal.signal(signal.SIGTERM, stop)
sys.stderr.write("fine-tuning:  25%|##  | 1/4 [00:01<00:03]\\r"); sys.stderr.flush()
if sys.argv[2] == "wait":
    time.sleep(60)
if sys.argv[2] == "fail":
    print("error: edit.target is no good; choose another"); sys.exit(2)
"""


@pytest.fixture
def line(monkeypatch):
    monkeypatch.setattr(queues.child, "program", lambda: [sys.executable, "-c", RUN])
    opened = JobQueue()
    yield opened
    opened.close()


@pytest.fixture
def job(tmp_path):
    cfg = configure("experiment=toonfaces", f"output={tmp_path}", "name=x")

    def made(number, end):
        return Job(f"learning {number}", [str(tmp_path / "x" / str(number)), end], cfg)

    return made


def wait_for(condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_one_is_at_work_and_the_others_wait_in_their_order(line, job, tmp_path):
    first, second, third = (job(k, "wait") for k in range(3))
    for one in (first, second, third):
        line.add(one)
    wait_for(lambda: first.progress.done == 1)
    look = look_at(line, first, "epoch_*.png")
    assert (look.state, look.folder) == (State.running, tmp_path / "x" / "0")
    assert look.words.startswith("learning, epoch 2 of 6, step 1 of 4")
    assert "step 1 of 4" in work_html(first, look)
    assert [line.place(one) for one in (first, second, third)] == [0, 1, 2]
    assert look_at(line, third, "*").words == "waiting, 2 runs are before yours"
    line.stop(second)
    assert (second.state, line.place(third)) == (State.stopped, 1)
    with pytest.raises(DclipError, match="learning 0 is not over yet"):
        only_one(line, first.key)
    line.stop(first)
    wait_for(lambda: third.state is State.running)
    assert first.state is State.stopped
    assert look_at(line, first, "*").words == "stopped; it is kept, and Resume goes on with it"
    assert look_at(line, second, "*").words == "stopped before it began"
    only_one(line, first.key)
    assert line.get("another browser's") is None


def test_why_a_run_failed_is_its_own_message(line, job):
    failed = job(0, "fail")
    line.add(failed)
    wait_for(lambda: failed.state.over)
    assert (failed.state, failed.edit) == (State.failed, None)
    assert failed.reason == "edit.target is no good; choose another"


def test_a_job_that_cannot_be_started_says_why_and_lets_the_others_go_on(line, job, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(queues.child, "program", lambda: ["/nowhere/python"])
        broken = job(0, "finish")
        line.add(broken)
        wait_for(lambda: broken.state.over)
    assert broken.state is State.failed and "/nowhere/python" in broken.reason
    good = job(1, "finish")
    line.add(good)
    wait_for(lambda: good.state.over)
    assert good.state is State.finished


def test_a_job_that_cannot_be_followed_is_ended_and_lets_the_others_go_on(line, job, monkeypatch):
    def fails(_):
        raise ValueError("a bar\nof two lines")

    broken, good = job(0, "wait"), job(1, "finish")
    monkeypatch.setattr(broken.progress, "read", fails)
    line.add(broken)
    line.add(good)
    wait_for(lambda: good.state.over)
    assert (broken.state, broken.reason) == (State.failed, "a bar of two lines")
    assert broken.process.returncode is not None and good.state is State.finished


def test_an_edit_that_was_learned_is_known_to_all(line, job, tmp_path):
    finished = job(0, "finish")
    line.add(finished)
    wait_for(lambda: finished.state.over)
    assert (finished.state, line.learned()) == (State.finished, [])  # this one has no edit
    (tmp_path / "x" / "0" / "adapter.safetensors").touch()
    assert finished.edit == tmp_path / "x" / "0" / "adapter.safetensors"


def test_a_full_line_takes_nobody(line, job, monkeypatch):
    monkeypatch.setattr(queues, "LONGEST", 1)
    line.add(job(0, "wait"))
    with pytest.raises(DclipError, match="others are waiting"):
        line.add(job(1, "wait"))


def test_a_run_is_found_by_its_process(job, tmp_path):
    mine = job(0, "wait")
    assert mine.find_folder() is None
    for number in (7, 8):
        folder = tmp_path / "x" / str(number)
        folder.mkdir(parents=True)
        write_json(folder / "status.json", {"pid": number})
    mine.process = SimpleNamespace(pid=7)
    assert mine.find_folder() == tmp_path / "x" / "7"
