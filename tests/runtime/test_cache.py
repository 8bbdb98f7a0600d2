"""A cache folder that cannot be written: a run goes on without, one that was asked for is refused."""

import errno
import signal
from multiprocessing import active_children

import numpy as np
import pytest

from dclip.data.toonfaces import faces as tf
from dclip.data.toonfaces import many
from dclip.encode import invert, source
from dclip.errors import DclipError
from dclip.models import fetch, registry
from dclip.runtime import cache
from helpers.runs import run, words


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """The user's cache folder is in none that could be made, for root neither."""
    (tmp_path / "file").touch()
    monkeypatch.delenv("DCLIP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    return tmp_path / "file" / "dclip"


def said(caplog):
    return [one.getMessage() for one in caplog.records if "kept for the next" in one.getMessage()]


def test_a_run_goes_on_without_and_says_so_once(tiny, tmp_path, nowhere, caplog):
    settings = words(tiny, task="reconstruct", dataset="sampled", dataset__steps=2, dataset__test=2)
    folder = run(*settings, f"output={tmp_path}")
    assert len(list((folder / "samples").glob("*.png"))) > 0
    assert said(caplog) == [
        f"{nowhere} cannot be written (Not a directory), so nothing is kept for the next run; "
        "set DCLIP_CACHE to a folder that can be"
    ]


@pytest.mark.parametrize(
    ("module", "dataset"), [(invert, {}), (source, {"dataset": "sampled", "dataset__steps": 2})]
)
def test_a_folder_that_was_asked_for_is_refused_before_the_work(
    module, dataset, tiny, tmp_path, nowhere, monkeypatch
):
    monkeypatch.setenv("DCLIP_CACHE", str(nowhere))
    monkeypatch.setattr(fetch, "keep", lambda *_: None)  # which would refuse it, too
    monkeypatch.setattr(module, "run_trajectory", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(
        DclipError,
        match=r"^DCLIP_CACHE=.*/file/dclip cannot be written \(Not a directory\); "
        "choose another folder, or unset it$",
    ):
        run(*words(tiny, task="reconstruct", output=tmp_path, **dataset))


def test_a_disk_that_is_full_at_the_end_of_the_work_costs_the_file_only(
    tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "atomic_save", full)
    for name in "ab":
        cache.keep(tmp_path / name, lambda _: None)
    [line] = said(caplog)
    assert line.startswith(f"{tmp_path} cannot be written (No space left on device), so")


def test_faces_are_drawn_all_the_same(nowhere, monkeypatch):
    monkeypatch.setattr(many, "PARALLEL_FROM", 2)
    faces = [tf.sample_face("test", i, "all") for i in range(2)]
    assert np.array_equal(many.pictures_of(faces, workers=1), many._draw(faces))


def test_a_drawing_that_is_stopped_ends_at_once(tmp_path, monkeypatch):
    workers = []

    def stop(*_, **__):
        workers.extend(active_children())
        raise KeyboardInterrupt

    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path))
    monkeypatch.setattr(many, "PARALLEL_FROM", 2)
    monkeypatch.setattr(many, "CHUNK", 1)
    monkeypatch.setattr(many, "tqdm", stop)
    faces = [tf.sample_face("test", i, "all") for i in range(8)]
    with pytest.raises(KeyboardInterrupt):
        many.pictures_of(faces, workers=1)
    assert [one.exitcode for one in workers] == [-signal.SIGKILL]


def test_a_published_file_is_checked_all_the_same(nowhere, caplog):
    fetch.check_files(registry.find("toonfaces_judge"))
    assert len(said(caplog)) == 1
