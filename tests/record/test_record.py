"""What a run writes of itself."""

import time

from dclip.files import atomic_save
from dclip.record.record import Record
from dclip.record.runs import Run
from helpers.runs import configure


def test_a_run_takes_no_negative_time_when_the_clock_is_set_back(monkeypatch, tmp_path):
    record = Record(tmp_path, configure("experiment=toonfaces_red_hair"), resumed=False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    record.status("finished")
    assert 0 <= Run(tmp_path).status["seconds"] < 60


def test_settings_are_read_again_where_the_file_is_another_one(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\nedit: {name: old}\n")
    first = Run(tmp_path).config
    first["edit"]["name"] = "changed by a reader"
    assert Run(tmp_path).config["edit"]["name"] == "old"
    atomic_save(path, lambda file: file.write_text("seed: 2\nedit: {name: old}\n"))
    assert Run(tmp_path).setting("seed") == 2
