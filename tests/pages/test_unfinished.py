"""Pages of runs that failed or were stopped, and of trainings of networks."""

import json

import pytest
from omegaconf import OmegaConf

from dclip.config import plain
from dclip.files import write_json
from dclip.pages.report import answer_of, write_report
from dclip.pages.trained import Beside, card_scores
from dclip.record.record import recording
from dclip.record.runs import Run
from helpers.runs import configure


@pytest.mark.parametrize(
    ("status", "short", "words"),
    [
        (
            {"status": "failed", "reason": "DclipError: lower method.lr", "stage": "adapt"},
            "Failed while learning",
            "lower method.lr.",
        ),
        (
            {"status": "stopped", "reason": "stopped by SIGTERM", "stage": "after edit"},
            "Stopped after editing the pictures",
            "by SIGTERM.",
        ),
        ({"status": "failed", "reason": "OSError: x", "stage": ""}, "Failed before", "OSError: x."),
        ({"status": "running"}, "Killed", "its process was killed."),  # by no living process
        ({"status": "failed"}, "Failed", "its folder does not say why."),
    ],
)
def test_the_page_says_what_failed_in_which_stage_and_how_to_go_on(tmp_path, status, short, words):
    command = ["edit=red_hair", "method.epochs=3"]
    write_json(tmp_path / "status.json", {**status, "command": command})
    (tmp_path / "run.log").write_text("first\n" + "noise\n" * 30 + "the last words\n")
    said = answer_of(tmp_path)
    assert said.mood == "bad" and said.short.startswith(short) and said.words == words
    page = write_report(tmp_path, "a run").read_text("utf-8")
    assert "edit=red_hair method.epochs=3 resume=true" in page
    assert "the last words" in page and "first\n" not in page and "<h2>Numbers" not in page


def test_a_run_that_fails_gets_its_page_and_keeps_its_error(tmp_path):
    cfg, pages = configure("task=reconstruct", f"output={tmp_path}"), []

    def report(record):
        pages.append(Run(record.folder).status)
        raise OSError("the disk is full")

    with pytest.raises(ValueError, match="the first error"), recording(cfg, report) as record:
        with record.timing("invert"):
            pass
        with record.timing("edit"):
            raise ValueError("the first error")
    (status,) = pages
    assert (status["status"], status["stage"]) == ("failed", "edit")
    assert status["reason"] == "ValueError: the first error"


def training(folder, scores, *words):
    """A training of the judge, as far as its verdict needs it."""
    OmegaConf.save(OmegaConf.create(plain(configure(*words))), folder / "config.yaml")
    write_json(folder / "status.json", {"status": "finished"})
    write_json(folder / "metrics.json", {**scores, "seconds_adapt": 3.0})
    lines = [{"step": 0, "loss": 2.0}, {"step": 9, "loss": 0.5}]
    (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_trained_network_is_judged_beside_the_shipped_one(tmp_path):
    shipped = card_scores("toonfaces_judge")
    assert 0.9 < shipped["accuracy_beard"] <= 1
    words = ["experiment=pretrain_toonfaces_judge"]
    folder = training(tmp_path, {"accuracy_beard": 0.5, "accuracy_eyes": 1.0}, *words)
    (folder / "toonfaces_judge.safetensors").write_bytes(b"")
    said = answer_of(folder)
    assert said.short == "Behind the shipped network" and said.mood == "bad"
    assert "of 2 scores on the test split, 0 are better and 1 worse" in said.words
    assert "the furthest behind is accuracy_beard, 0.500 (there 0.9" in said.words
    assert "Beside the network that comes" in write_report(folder, "judge").read_text("utf-8")
    training(tmp_path, {"accuracy_beard": shipped["accuracy_beard"]}, *words)
    assert answer_of(folder).short == "As good as the shipped network"


def test_where_no_network_is_shipped_it_is_the_loss_and_the_scores(tmp_path):
    folder = training(tmp_path, {"zero_shot_class": 0.4}, "experiment=pretrain_cifar10_clip")
    said = answer_of(folder)
    assert (said.mood, said.short) == ("plain", "Trained")
    assert "fell from 2 to 0.5 in 10 steps; on the test split: zero_shot_class 0.4." in said.words


def test_an_error_is_better_when_it_is_lower():
    assert Beside("mae_t0_500_40_6", 0.01, 0.05).mood == "good"
    assert Beside("accuracy_beard", 0.01, 0.05).mood == "bad"
    assert Beside("accuracy_beard", 0.955, 0.95).mood == ""
