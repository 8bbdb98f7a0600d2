"""What Weights & Biases receives of a run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
from PIL import Image

from dclip.record import online
from dclip.record.curves import CurveLogger
from dclip.record.record import recording
from dclip.record.runs import Run
from helpers.runs import configure

RUN = ("experiment=toonfaces_red_hair", "note=a note", "sweep=mine", "logger.wandb=offline")


class Fake:
    """A W&B run that remembers."""

    offline, url, id = True, None, "abcd1234"

    def __init__(self, **told):
        self.told, self.logged, self.artifacts, self.summary, self.code = told, [], [], {}, None

    def log(self, values):
        self.logged.append(values)

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def finish(self, exit_code):
        self.code = exit_code


@pytest.fixture
def started(monkeypatch):
    """The W&B runs that were started."""
    runs = []

    def init(**told):
        runs.append(Fake(**told))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    return runs


@pytest.mark.parametrize("settings", [["logger.wandb=online"], []])
def test_offline_is_never_online(settings, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert online.wandb_mode(configure(*settings)) == "online"
    assert online.wandb_mode(configure("offline=true", *settings)) == "offline"


def test_a_run_is_named_grouped_and_tagged(started, tmp_path):
    with recording(configure(*RUN, f"output={tmp_path}", "logger.entity=us", "logger.tags=[old]")):
        pass
    [run] = started
    told = run.told
    assert re.fullmatch(r"finetune_red_hair \d{4}-\d\d-\d\d_\S+", told["name"])
    expected = ("mine", "finetune", "a note", "us", "dclip")
    assert tuple(told[k] for k in ("group", "job_type", "notes", "entity", "project")) == expected
    assert told["tags"] == ["red_hair", "gpu_efficient", "fixed_point", "toonfaces", "old"]
    assert (told["resume"], run.code) == ("allow", 0)
    assert isinstance(told["config"]["sampler"], dict)


def test_epochs_share_a_slider_and_rows_are_a_table(started, tmp_path):
    picture = Image.new("RGB", (4, 4))
    with recording(configure(*RUN, f"output={tmp_path}")) as record:
        for epoch in (1, 2):
            record.picture(f"epoch_{epoch:02d}", picture, slider="epoch")
        record.picture("before_after", picture)
        record.rows(("a", "b"), {"mae": [0.1, 0.2]})
        record.metrics({"mae": 0.15, "seconds_edit": 1.5, "id_absent": "no network"})
        CurveLogger(record).log_metrics({"loss_total": 1.0, "epoch": 0}, 7)
    [run] = started
    keys = [next(iter(values)) for values in run.logged]
    assert keys == ["samples/epoch"] * 2 + ["samples/before_after", "rows", "loss_total"]
    table = run.logged[3]["rows"]
    assert table.columns == ["image", "mae"] and table.data == [["a", 0.1], ["b", 0.2]]
    assert run.logged[4] == {"loss_total": 1.0, "step": 7}
    assert run.summary == Run(record.folder).metrics


def test_the_edit_is_an_artifact_and_the_report_a_page(started, tmp_path):
    with recording(configure(*RUN, f"output={tmp_path}"), write_report) as record:
        (record.folder / "adapter.safetensors").write_bytes(b"edit")
    [run] = started
    [artifact] = run.artifacts
    assert (artifact.name, artifact.type) == ("finetune_red_hair", "edit")
    assert list(artifact.manifest.entries) == ["adapter.safetensors"]
    assert isinstance(run.logged[-1]["report"], wandb.Html)


def write_report(record):
    assert record.folder.is_dir() and Run(record.folder).state == "finished"
    (record.folder / "report.html").write_text("<html>the page</html>")


def test_a_run_that_failed_sends_no_files(started, tmp_path):
    def fail():
        with recording(configure(*RUN, f"output={tmp_path}"), write_report) as record:
            (record.folder / "adapter.safetensors").write_bytes(b"edit")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert started[0].artifacts == [] and started[0].code == 1


def test_a_resumed_run_keeps_its_id(started, tmp_path):
    with pytest.raises(KeyboardInterrupt), recording(configure(*RUN, f"output={tmp_path}")):
        raise KeyboardInterrupt
    first = started[0].told["id"]
    assert re.fullmatch("[0-9a-f]{8}", first)
    with recording(configure(*RUN, f"output={tmp_path}", "resume=true")) as record:
        assert record.resumed
    assert Run(record.folder).status["wandb"]["id"] == Fake.id  # what W&B says it is
    assert started[1].told["id"] == Fake.id


def test_the_id_of_a_run_of_an_older_version_is_in_its_folder(tmp_path):
    (tmp_path / "wandb" / "offline-run-20260101_000000-ffff0000").mkdir(parents=True)
    assert online.run_id(tmp_path) == "ffff0000"


OFFLINE = """
import logging, sys
from dclip.prepare.compose import configured
from dclip.record.record import recording
logging.basicConfig(format="%(message)s", level=logging.INFO)
with recording(configured(sys.argv[1:])) as record:
    record.curve({"loss": 1.0}, 1)
print(record.folder)
"""


@pytest.mark.slow
def test_offline_the_line_that_uploads_it_is_said(tmp_path):
    places = {name: str(tmp_path / name) for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *RUN, f"output={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "WANDB_MODE": "disabled", **places},
    )
    assert done.returncode == 0, done.stderr
    said = re.search("to upload it: wandb sync (.*)", done.stderr)
    assert said, done.stderr
    folder = said[1].strip("'")
    assert Path(folder).is_dir() and f"{done.stdout.strip()}/wandb/offline-run-" in folder


class Gone(Fake):
    """A W&B run whose process has died."""

    def log(self, values):
        raise BrokenPipeError("the service is gone")

    log_artifact = finish = log


def test_a_run_goes_on_when_wandb_dies_in_the_middle(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(wandb, "init", lambda **told: Gone(**told))
    with recording(configure(*RUN, f"output={tmp_path}")) as record:
        for step in range(3):
            CurveLogger(record).log_metrics({"loss": 1.0}, step)
        record.picture("epoch_01", Image.new("RGB", (4, 4)))
        record.rows(("a",), {"mae": [0.5]})
    assert caplog.text.count("W&B refused something (the service is gone)") == 1
    assert Run(record.folder).status["status"] == "finished"
    assert len((record.folder / "curves.jsonl").read_text().splitlines()) == 3
    assert (record.folder / "rows.csv").is_file()
