"""A study's runs as a leaderboard: pictures are gathered by method, scored, and ranked."""

from dataclasses import replace

import pytest

from dclip.data.images import save_pngs
from dclip.errors import DclipError
from dclip.files import read_json, write_json
from dclip.metrics.benchmark import minimality
from dclip.metrics.benchmark.score import with_truth
from dclip.metrics.benchmark.tasks import task_named
from dclip.study import leaderboard
from dclip.study.grid import read_study
from dclip.study.jobs import Folders
from dclip.study.progress import Progress

STUDY = """\
title: "Three methods"
base: [dataset=toonfaces, checkpoint=toonfaces, clip=toonfaces, dataset.test=3]
leaderboard: true
seeds: [0, 1]
axes:
  method:
    learned: []
    told: edit.region=truth
    "guided, too": [task=sample, task.start=images, guidance=directional]
  edit: {EDIT: edit=red_hair, smiling: edit=smiling}
columns: [closer]
"""
QUALITY = {"learned": 0.9, "told": 1.0, "guided, too": 0.2}  # share of the true change


def study_of(folder, edit="red_hair"):
    path = folder / "three.yaml"
    path.write_text(STUDY.replace("EDIT", edit), "utf-8")
    return read_study(str(path))


def finish(folder, job, digest):
    """A finished run as it lies on disk."""
    key = dict(job.row)
    task = task_named(key["edit"])
    whole = with_truth(task, task.faces(3))
    share = QUALITY[key["method"]]
    edited = share * whole.truth + (1 - share) * whole.source.pixels
    save_pngs(edited, whole.source.ids, folder / "samples")
    (folder / "samples" / "before_after.png").write_bytes(b"no result")
    write_json(folder / "status.json", {"status": "finished", "config": digest})
    costs = {"seconds_adapt": 30.0, "seconds_edit": 6.0, "images": 3, "peak_memory_mb": 800.0}
    write_json(folder / "metrics.json", costs)


@pytest.fixture(scope="module")
def progress(tmp_path_factory):
    """A study whose runs are all finished."""
    folder = tmp_path_factory.mktemp("study")
    found = Progress(study_of(folder), Folders(folder / "runs", folder / "table"))
    for job in found.study.jobs:
        digest = found.of(job).digest
        finish(folder / "runs" / f"run_{digest}", job, digest)
    found.refresh()
    return found


def test_pictures_are_gathered_by_method_seed_and_edit(progress, tmp_path):
    learned, told, guided = leaderboard.gather(progress, tmp_path / "results")
    assert (learned.name, guided.name) == ("learned", "guided, too")
    assert learned.seeds == {0, 1} and learned.edits == {"red_hair": 3, "smiling": 3}
    pictures = sorted((learned.folder / "seed_1" / "smiling").iterdir())
    expected = task_named("smiling").ids(3)
    assert tuple(path.stem for path in pictures) == expected
    card = read_json(learned.folder / "method.json")
    assert card["learn_seconds"] == 30 and card["face_seconds"] == 2 and card["memory_mb"] == 800
    assert card["learn_calls"] > card["face_calls"] > 0
    assert "dataset.test=3" in card["command"] and "logger=csv" not in card["command"]
    assert guided.cost.means()["learn_calls"] == 0
    assert told.oracle and not learned.oracle


def test_the_leaderboard_ranks_methods_and_puts_source_and_truth_beside_them(progress, monkeypatch):
    monkeypatch.setattr(minimality.Minimality, "references", 2)
    path = leaderboard.write_leaderboard(progress)
    text = path.read_text("utf-8")
    lines = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")][2:]
    assert [name.strip() for name, _ in lines] == [
        "learned",
        "guided, too",
        "told (told the true region)",
        "the truth",
        "the untouched source",
    ]
    scores = [float(score.split()[0]) for _, score in lines]
    assert scores == pytest.approx([0.9, 0.2, 1, 1, 0], abs=0.03)
    assert "the first 3 of 100 test faces" in text and "no result by its protocol" in text
    files = {file.name for file in path.parent.iterdir()}
    assert {"leaderboard.csv", "leaderboard.html", "leaderboard.png", "red_hair.png"} <= files
    page = (path.parent / "leaderboard.html").read_text("utf-8")
    assert "guided, too" in page and page.count("data:image/png") == 3
    assert (progress.folders.runs / "scores" / "learned" / "report.html").is_file()


def test_a_leaderboard_of_more_lines_is_left_alone(progress, monkeypatch):
    monkeypatch.setattr(minimality.Minimality, "references", 2)
    there = progress.folders.table / "leaderboard.csv"
    there.parent.mkdir(exist_ok=True)
    there.write_text("method,edits\n" + "one,1 of 1\n" * 9 + "the truth,\n", "utf-8")
    folders = replace(progress.folders, published=True)
    monkeypatch.setattr(progress, "folders", folders)
    kept = there.read_text("utf-8")
    assert leaderboard.write_leaderboard(progress).parent == folders.runs / "table"
    assert there.read_text("utf-8") == kept


def test_rows_that_are_no_edit_of_the_benchmark_are_refused(tmp_path):
    with pytest.raises(DclipError, match="the leaderboard has no edit red;"):
        leaderboard.check_labels(study_of(tmp_path, "red"))


def test_the_shipped_study_is_of_the_benchmarks_edits():
    study = read_study("benchmark")
    leaderboard.check_labels(study)
    methods = {dict(row)["method"] for row in study.rows}
    assert len(methods) >= 14 and study.leaderboard
