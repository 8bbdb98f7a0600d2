"""A study's runs as a leaderboard: pictures are gathered by method, scored, and ranked."""

import io
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.images import save_pngs
from dclip.errors import DclipError
from dclip.files import read_json, write_json
from dclip.metrics.benchmark import minimality
from dclip.metrics.benchmark.results import read_results
from dclip.metrics.benchmark.score import Measures, score, with_truth
from dclip.metrics.benchmark.tasks import task_named, tasks_named
from dclip.pages.board import joined, read_board, why_apart
from dclip.pages.leaderboard import _sheets, add
from dclip.study import leaderboard
from dclip.study.grid import read_study
from dclip.study.jobs import Folders
from dclip.study.progress import Progress
from helpers.runs import configure

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
    if key["method"] == "learned":
        save_pngs(whole.source.pixels, whole.source.ids, folder / "axioms" / "reversibility")
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
    assert tuple(path.stem for path in pictures if path.is_file()) == expected
    back = sorted((learned.folder / "seed_1" / "smiling" / "reversibility").iterdir())
    assert tuple(path.stem for path in back) == expected
    card = read_json(learned.folder / "method.json")
    assert card["learn_seconds"] == 30 and card["face_seconds"] == 2 and card["memory_mb"] == 800
    assert card["learn_calls"] > card["face_calls"] > 0
    assert "dataset.test=3" in card["command"] and "logger=csv" not in card["command"]
    assert guided.cost.means()["learn_calls"] == 0
    assert told.oracle and not learned.oracle


def test_the_other_order_of_a_pair_lies_beside_it(tmp_path):
    study = study_of(tmp_path, "red_hair+beard")
    found = Progress(study, Folders(tmp_path / "runs", tmp_path / "table"))
    job = study.jobs[0]
    folder = tmp_path / "runs" / "run"
    finish(folder, job, found.of(job).digest)
    shutil.copytree(folder / "axioms" / "reversibility", folder / "axioms" / "commutativity")
    found.refresh()
    [learned] = leaderboard.gather(found, tmp_path / "results")
    seed = learned.folder / "seed_0"
    assert {path.name for path in seed.iterdir()} == {"red_hair+beard", "beard+red_hair"}
    names = {path.stem for path in (seed / "beard+red_hair").iterdir()}
    assert names == set(task_named("red_hair+beard").ids(3))


def test_what_is_only_measured_is_no_cost(progress):
    planned = progress.of(progress.study.jobs[0])
    plain = leaderboard.calls_of(planned.cfg)
    measured = replace(planned.cfg.metric, axioms=2)
    assert leaderboard.calls_of(replace(planned.cfg, metric=measured, degrees=[0.0, 1.0])) == plain


def test_the_leaderboard_ranks_methods_and_puts_source_and_truth_beside_them(progress, monkeypatch):
    monkeypatch.setattr(minimality.Minimality, "references", 2)
    path = leaderboard.write_leaderboard(progress).path
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


def only(progress, table, *methods):
    """The same study where only some methods are finished, with a published table."""
    part = copy(progress)
    jobs = [job for job in progress.study.jobs if dict(job.row)["method"] in methods]
    part.study = replace(progress.study, jobs=tuple(jobs))
    part.folders = replace(progress.folders, table=table, published=True)
    return part


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def first(progress, tmp_path_factory):
    """A published leaderboard of ``learned`` alone."""
    table = tmp_path_factory.mktemp("published") / "table"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minimality.Minimality, "references", 2)
        leaderboard.write_leaderboard(only(progress, table, "learned"))
    return table


@pytest.fixture
def grown(first, tmp_path, monkeypatch):
    """A copy of it, and its files."""
    monkeypatch.setattr(minimality.Minimality, "references", 2)
    shutil.copytree(first, tmp_path / "table")
    return tmp_path / "table", files_of(tmp_path / "table")


def test_a_leaderboard_grows_by_the_methods_that_are_finished(progress, grown):
    table, before = grown
    written = leaderboard.write_leaderboard(only(progress, table, "guided, too", "told"))
    assert written.path.parent == table and not written.said
    after = files_of(table)
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert set(before[name].splitlines()) < set(after[name].splitlines())
    ranks = [line for line in after["leaderboard.csv"].decode().splitlines() if "red_hair" in line]
    assert [line.split('",')[1].split(",")[0].strip('"') for line in ranks] == [
        "learned", "guided", "told", "the truth", "the untouched source",
    ]  # fmt: skip
    assert list(read_board(table).cards) == ["learned", "guided, too", "told"]
    with Image.open(table / "red_hair.png") as sheet:
        assert sheet.height == 5 / 3 * Image.open(io.BytesIO(before["red_hair.png"])).height
    again = leaderboard.write_leaderboard(only(progress, table, "learned", "guided, too", "told"))
    assert not again.said and files_of(table)["leaderboard.csv"] == after["leaderboard.csv"]


def test_rows_of_a_sheet_follow_the_ranks_where_nothing_of_it_is_new(progress, grown):
    table, _ = grown
    leaderboard.write_leaderboard(only(progress, table, "guided, too"))
    board = read_board(table)
    turned = replace(board, cards=dict(reversed(board.cards.items())))
    rows = []
    for content in (_sheets(table, old, [], board)["smiling"] for old in (board, turned)):
        with Image.open(io.BytesIO(content)) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        rows.append(np.split(pixels, 4))
    assert (rows[0][0] == rows[1][0]).all() and (rows[0][2] == rows[1][3]).all()
    assert (rows[0][3] == rows[1][2]).all() and (rows[0][2] != rows[0][3]).any()


def test_lines_of_another_version_are_left_alone_and_a_sentence_says_why(progress, grown):
    table, _ = grown
    facts = table / "leaderboard.json"
    write_json(facts, {**read_json(facts), "version": "0.9"})
    before = files_of(table)
    written = leaderboard.write_leaderboard(only(progress, table, "guided, too"))
    assert written.path.parent == progress.folders.runs / "table" and files_of(table) == before
    assert written.said == (
        f"{table} stays as it is, the new lines go to {written.path.parent}: lines of learned "
        "stand there, and they are of version 0.9 of the benchmark, the new ones of 1.0",
    )
    assert "learned" not in written.path.read_text("utf-8")
    # once all its methods are scored anew, nothing of it is lost
    assert leaderboard.write_leaderboard(only(progress, table, "learned")).path.parent == table


def test_lines_of_other_faces_or_of_unknown_ones_are_not_kept(grown):
    board = read_board(grown[0])
    assert "of 20 faces, the new ones of 3" in why_apart(replace(board, faces=20), board)
    assert "no leaderboard.json that says" in why_apart(replace(board, version=""), board)


def test_lines_of_another_judge_or_of_other_edits_are_not_kept(grown):
    board = read_board(grown[0])
    (section,) = board.sections
    truth = replace(section.known[0], values={**section.known[0].values, "judge_success": "0.5"})
    changed = replace(section, known=(truth, section.known[1]))
    assert "the truth scored 1 in judge_success then and scores 0.5 now" in why_apart(
        board, replace(board, sections=(changed,))
    )
    fewer = replace(section, title="red_hair")
    assert "means over red_hair, the new ones over red_hair, smiling" in why_apart(
        replace(board, sections=(fewer,)), board
    )


def test_a_line_of_more_edits_or_seeds_stays(grown):
    board = read_board(grown[0])
    (section,) = board.sections
    part = replace(section.rows[0], edits="1 of 2", kind="part", stands=False)
    new = replace(board, sections=(replace(section, rows=(part,)),))
    both, said = joined(board, new)
    assert both.sections[0].rows == [section.rows[0]] and both.cards == board.cards
    assert said == [
        "learned: the line that stands is kept; it is of 2 of 2 edits and 2 seeds, "
        "the new one of 1 of 2 and 2, and pictures are missing"
    ]


def test_a_line_with_missing_pictures_is_no_rank_and_takes_no_place(progress, grown):
    """Two seeds were begun, and of the second one edit is there: protocol 4."""
    table, before = grown
    part = only(progress, table, "learned")
    entries = leaderboard.gather(part, part.folders.runs / "results")
    shutil.rmtree(entries[0].folder / "seed_1" / "smiling")
    (entries[0].folder / "seed_2").mkdir()
    (entries[0].folder / "red_hair").mkdir()
    outcome = score(
        read_results(entries[0].folder), tasks_named(["red_hair", "smiling"]), 3, 0,
        Measures.load(torch.device("cpu")),
    )  # fmt: skip
    board = add(table, outcome, Measures.load(torch.device("cpu")))
    assert "the line that stands is kept" in board.said[0] and "missing" in board.said[0]
    assert (table / "leaderboard.csv").read_bytes() == before["leaderboard.csv"]
    assert any("it lies beside them" in trouble for trouble in outcome.results.troubles)
    alone = add(table.parent / "new", outcome, Measures.load(torch.device("cpu")))
    assert "| (learned) |" in alone.path.read_text("utf-8")
    row = read_board(alone.path.parent).sections[0].rows[0]
    assert (row.kind, row.seeds) == ("part", "2")


def test_two_lines_that_are_added_at_once_are_both_there(progress, tmp_path, monkeypatch):
    """The name of one of them has a bar, which ends no cell of the table."""
    monkeypatch.setattr(minimality.Minimality, "references", 2)
    measures, outcomes = Measures.load(torch.device("cpu")), []
    entries = leaderboard.gather(progress, tmp_path / "results")
    for entry, name in zip(entries[:2], ("a|b", "c"), strict=True):
        card = entry.folder / "method.json"
        write_json(card, {**read_json(card), "name": name})
        tasks = tasks_named(["smiling"])
        outcomes.append(score(read_results(entry.folder), tasks, 3, 0, measures))

    def slowly(folder):
        standing = read_board(folder)
        time.sleep(0.3)
        return standing

    monkeypatch.setattr("dclip.pages.leaderboard.read_board", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda outcome: add(tmp_path / "board", outcome, measures), outcomes))
    assert set(read_board(tmp_path / "board").cards) == {"a|b", "c"}
    text = (tmp_path / "board" / "leaderboard.md").read_text("utf-8")
    assert "| a\\|b |" in text and "| c |" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [(",", ";"), (",2,", ",two,"), ("red_hair, smiling", "hair")],
)
def test_a_leaderboard_that_was_changed_by_hand_is_one_line(grown, old, new):
    table, before = grown
    text = before["leaderboard.csv"].decode()
    assert old in text
    (table / "leaderboard.csv").write_text(text.replace(old, new), "utf-8")
    with pytest.raises(DclipError, match="was changed by hand or by another program") as caught:
        read_board(table)
    assert "\n" not in str(caught.value)


def test_rows_that_are_no_edit_of_the_benchmark_are_refused(tmp_path):
    with pytest.raises(DclipError, match="the leaderboard has no edit red;"):
        leaderboard.check_labels(study_of(tmp_path, "red"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "axes:\n",
            "axes:\n  sampler.t0: [300, 500]\n",
            "the label t0 would give a method several",
        ),
        ("axes:\n", "average: {sampler.t0: [300, 500]}\naxes:\n", "average would give a method"),
        ("learned: []", "'-1': []\n    '+1': []", "'-1' and '.1' would share a folder"),
    ],
)
def test_two_results_for_one_edit_of_a_method_are_refused(tmp_path, old, new, message):
    path = tmp_path / "board.yaml"
    path.write_text(STUDY.replace("EDIT", "red_hair").replace(old, new), "utf-8")
    with pytest.raises(DclipError, match=message):
        leaderboard.check_labels(read_study(str(path)))


@pytest.mark.parametrize(
    ("word", "message"),
    [("dataset.test=200", "100 faces of each edit.*not 200"), ("dataset=sampled", "not sampled")],
)
def test_other_pictures_than_the_benchmarks_are_refused(word, message):
    settings = ["dataset=toonfaces", "checkpoint=toonfaces", "clip=toonfaces", word]
    with pytest.raises(DclipError, match=message):
        leaderboard.check_faces(read_study("benchmark"), [configure(*settings)])


def test_the_shipped_study_is_of_the_benchmarks_edits():
    study = read_study("benchmark")
    leaderboard.check_labels(study)
    methods = {dict(row)["method"] for row in study.rows}
    assert len(methods) >= 14 and study.leaderboard
