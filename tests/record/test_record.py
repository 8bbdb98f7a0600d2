"""What a run writes of itself."""

import time

from dclip.record.record import Record
from dclip.record.runs import Run
from helpers.runs import configure


def test_a_run_takes_no_negative_time_when_the_clock_is_set_back(monkeypatch, tmp_path):
    record = Record(tmp_path, configure("experiment=toonfaces_red_hair"), resumed=False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    record.status("finished")
    assert 0 <= Run(tmp_path).status["seconds"] < 60
