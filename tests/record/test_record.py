"""What a run writes of itself."""

import multiprocessing
import time

import pytest

from dclip.errors import DclipError
from dclip.files import atomic_save, read_json, write_json
from dclip.record.record import Record, make_folder, recording
from dclip.record.runs import Run
from helpers.runs import configure


def test_a_run_takes_no_negative_time_when_the_clock_is_set_back(monkeypatch, tmp_path):
    record = Record(tmp_path, configure("experiment=toonfaces_red_hair"), resumed=False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    record.status("finished")
    assert 0 <= Run(tmp_path).status["seconds"] < 60


def test_latest_is_the_run_that_was_made_last_also_when_the_clock_is_set_back(
    monkeypatch, tmp_path
):
    cfg = configure("experiment=toonfaces_red_hair", f"output={tmp_path}", "logger=csv")
    made = []
    for day in (2, 1, 1):
        monkeypatch.setattr(time, "strftime", lambda *_, day=day: f"2026-01-0{day}_00-00-00")
        with recording(cfg) as record:
            made.append(record.folder)
        assert (tmp_path / "latest").resolve() == record.folder.resolve()
    assert len(set(made)) == 3


def test_settings_are_read_again_where_the_file_is_another_one(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\nedit: {name: old}\n")
    first = Run(tmp_path).config
    first["edit"]["name"] = "changed by a reader"
    assert Run(tmp_path).config["edit"]["name"] == "old"
    atomic_save(path, lambda file: file.write_text("seed: 2\nedit: {name: old}\n"))
    assert Run(tmp_path).setting("seed") == 2


def test_settings_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(_, path):
        path.write_text("seed: 1")
        raise RuntimeError("killed")

    monkeypatch.setattr("dclip.record.record.OmegaConf.save", fails)
    with pytest.raises(RuntimeError, match="killed"):
        make_folder(configure("experiment=toonfaces_red_hair", f"output={tmp_path}"))
    assert list(tmp_path.rglob("*.yaml")) == []


def try_to_resume(cfg, gate, answers):
    """Wait for the gate, look for a folder, say what came of it, and stay until all have."""
    gate.wait()
    try:
        answers.put(str(make_folder(cfg)[0]))
    except DclipError as error:
        answers.put(str(error))
    gate.wait()


@pytest.mark.parametrize("begun", [False, True])
def test_of_two_processes_that_resume_a_run_one_has_it_and_one_is_told_who(begun, tmp_path):
    cfg = configure("experiment=toonfaces_red_hair", f"output={tmp_path}", "resume=true")
    if begun:
        folder, _ = make_folder(cfg)
        write_json(folder / "status.json", {"status": "stopped"})
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(3), context.Queue()
    more = {"args": (cfg, gate, answers), "daemon": True}
    both = [context.Process(target=try_to_resume, **more) for _ in range(2)]
    for process in both:
        process.start()
    gate.wait()
    said = [answers.get(timeout=60) for _ in both]
    [folder] = tmp_path.glob("*/*_*")
    assert sorted(said, key=len) == [
        str(folder),
        "resume=true: the run of this configuration is running as process "
        f"{read_json(folder / 'status.json')['pid']} ({folder}); wait for it, or stop it",
    ]
    gate.wait()
    for process in both:
        process.join()
    write_json(folder / "status.json", {"status": "finished"})
    with pytest.raises(DclipError, match=rf"is finished \({folder}\); remove resume=true"):
        make_folder(cfg)
