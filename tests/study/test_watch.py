"""Jobs while they run: lines, a table in a terminal, a page that refreshes itself, a copy of the code."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dclip.files import atomic_save, write_json
from dclip.record.machine import git_revision
from dclip.record.processes import this_process
from dclip.record.runs import Run, find_runs
from dclip.study import snapshot
from dclip.study.jobs_page import NAME, page_of, shown_of
from dclip.study.watch import LiveWatch, Shown, Watch, watch_for


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "7")
    return io.StringIO()


def test_every_event_is_a_line_where_there_is_no_terminal(capsys):
    watch = watch_for()
    assert type(watch) is Watch
    with watch.watching():
        watch.start("t0=300", "[1/2]")
        watch.end("t0=300", "[1/2]", "failed", "no such thing")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "[1/2] t0=300"
    assert second.startswith("[1/2] failed after ") and second.endswith(": no such thing")


def test_in_a_terminal_a_table_is_drawn_over_the_last_one(terminal):
    watch = LiveWatch(stream=terminal)
    with watch.watching():
        for k in range(6):
            watch.plan(f"job {k}")
        watch.start("job 4", "[1/6]")
        watch.say("a line above the table")
        watch.end("job 4", "[1/6]", "failed", "a reason that is longer than the terminal is wide")
    shown = terminal.getvalue().split("\x1b[J")[-1].splitlines()
    assert shown[0].startswith("failed") and max(map(len, shown)) < 40
    assert shown[-2:] == ["and 2 more", "1 failed, 5 waiting"] and len(shown) == 6
    above = terminal.getvalue().split("a line above the table")[0]
    assert above.count("\x1b[") >= 2  # what was drawn is wiped before


def test_what_is_left_is_estimated_from_the_jobs_that_have_ended(monkeypatch):
    watch = Watch(lambda _: None)
    watch.workers = 2
    assert watch.left() == ""
    for k in range(5):
        watch.plan(str(k), "finished" if k == 4 else "waiting")
    watch.start("0")
    watch.lines["0"].began -= 60
    watch.end("0", "", "finished")
    assert watch.left() == "90 s" and watch.summary() == "2 finished, 3 waiting, about 90 s left"


def test_states_are_counted_while_no_job_is_added():
    watch, counted = Watch(lambda _: None), []
    count = threading.Thread(target=lambda: counted.append(watch.counts()))
    with watch.lock:
        watch.plan("a")  # whoever has the lock may take it again
        count.start()
        count.join(0.1)
        assert count.is_alive() and watch.counts() == {"waiting": 1}
        watch.plan("b")
    count.join()
    assert counted == [{"waiting": 2}]


def test_the_page_refreshes_itself_while_jobs_run_and_shows_what_they_found(tmp_path):
    run = Run(tmp_path / "runs" / "a")
    write_json(run.folder / "metrics.json", {"mae": 0.123456})
    (run.folder / "report.html").write_text("")
    shown = shown_of(run, ["mae", "lpips"], tmp_path / "runs")
    assert shown == Shown({"mae": "0.1235"}, "a/report.html")
    watch = Watch(lambda _: None, page_of(tmp_path / "runs", "A <study>", ["mae", "lpips"]))
    with watch.watching():
        watch.start("t0=<300>")
        page = (tmp_path / "runs" / NAME).read_text("utf-8")
        assert 'http-equiv="refresh" content="10"' in page and "1 running" in page
        watch.end("t0=<300>", "", "finished", shown=shown)
    page = (tmp_path / "runs" / NAME).read_text("utf-8")
    assert "refresh" not in page and "0.1235" in page and 'href="a/report.html"' in page
    assert "t0=&lt;300&gt;" in page and "A &lt;study&gt;" in page and "mae ↓" in page


def test_jobs_run_from_a_copy_of_the_code(tmp_path):
    script = snapshot.frozen(tmp_path)
    assert script.parent.parent == tmp_path / ".code" and snapshot.frozen(tmp_path) == script
    program = "import sys; sys.path.insert(0, sys.argv[1]); from dclip.prepare import paths; "
    program += "from dclip.record.machine import git_revision; "
    program += "print(paths.PACKAGE, paths.CONF, git_revision(), sep=chr(10))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(script.parent)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    package, conf, *revision = done.stdout.splitlines()
    assert (package, conf) == (str(script.parent / "dclip"), str(script.parent / "conf"))
    assert revision == [git_revision()]
    assert (script.parent / "dclip" / "weights" / "toonfaces.safetensors").is_file()
    write_json(tmp_path / ".code" / "x" / "status.json", {})
    assert find_runs([tmp_path]) == []  # it is not searched for runs


def copies(code):
    """The copies of the code that are there, and nothing half-made beside them."""
    assert list(code.glob(".copy*")) == []
    return {path.parent.name for path in code.glob("*/run.py")}


def test_copies_that_nobody_works_with_are_removed(tmp_path, monkeypatch):
    """Those stay from which a command starts jobs, or a job runs whose command is gone."""
    now, code = snapshot.digest(), tmp_path / ".code"
    for name in ("unused000", "commands0", "orphaned0", "stale0000", ".copy_cut_off"):
        (code / name).mkdir(parents=True)
        (code / name / "run.py").write_text("import time; time.sleep(600)")
    me = this_process()
    write_json(code / "users" / "a.json", {**me, "code": "commands0"})
    write_json(code / "users" / "b.json", {**me, "process_started": 0.0, "code": "stale0000"})
    job = subprocess.Popen([sys.executable, str(code / "orphaned0" / "run.py"), "task=edit"])
    try:
        snapshot.frozen(tmp_path)
        assert copies(code) == {now, "commands0", "orphaned0"}
    finally:
        job.kill()
        job.wait()
    (code / "users" / "a.json").unlink()
    snapshot.frozen.cache_clear()  # as another command has it
    monkeypatch.setattr(snapshot, "digest", lambda: now)
    script = snapshot.frozen(tmp_path)
    assert copies(code) == {now} and script.is_file()


def test_other_code_than_last_time_is_noticed_once(tmp_path, monkeypatch):
    found = iter(["a", "a", "b", "b"])
    monkeypatch.setattr(snapshot, "digest", lambda: next(found))
    assert [snapshot.has_changed(tmp_path) for _ in range(4)] == [False, False, True, False]


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A small checkout in place of this one."""
    for folder in ("dclip/weights", "conf"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("run.py", "dclip/a.py", "dclip/weights/x"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(snapshot, "PACKAGE", tmp_path / "dclip")
    monkeypatch.setattr(snapshot, "CONF", tmp_path / "conf")
    snapshot.frozen.cache_clear()
    yield tmp_path
    snapshot.frozen.cache_clear()


@pytest.mark.parametrize("links", [True, False])
def test_weights_that_are_published_do_not_reach_the_jobs_of_a_study(checkout, links, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    weights = snapshot.frozen(checkout / "runs").parent / "dclip" / "weights" / "x"
    assert weights.samefile(checkout / "dclip" / "weights" / "x") is links
    atomic_save(checkout / "dclip" / "weights" / "x", lambda path: path.write_text("2"))
    assert weights.read_text() == "1"


def test_the_code_s_digest_changes_with_the_code_and_the_weights(checkout):
    tmp_path, first = checkout, snapshot.digest()
    (tmp_path / "dclip" / "weights" / "x").write_text("2")
    first, before = snapshot.digest(), first
    assert first != before
    (tmp_path / "conf" / "x.yaml").write_text("1")
    assert snapshot.digest() != first
    (tmp_path / "run.py").unlink()
    assert snapshot.script() is None
