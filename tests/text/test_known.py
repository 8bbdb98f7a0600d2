"""Words that the embedded CLIP was never shown: said before, and in the verdict after."""

import logging

import numpy as np
import pytest
from omegaconf import OmegaConf

from dclip.data.domains import words_of
from dclip.data.toonfaces.captions import caption
from dclip.data.toonfaces.faces import sample_face
from dclip.files import write_json
from dclip.pages.report import verdict, verdict_of
from dclip.text.known import near, unknown_words, warn_of_words
from helpers.runs import configure

KNOWN = words_of("toonfaces")


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("person with glasses", ["glasses"]),
        ("a pirate", ["pirate"]),
        ("Person with a Pirate's hat", ["Pirate's", "hat"]),
        ("the angry person's red hair, an 8-bit pixel picture", []),
        ("человек", ["человек"]),
        ("person without a beard", ["without"]),
    ],
)
def test_words_that_no_caption_has_are_unknown(text, unknown):
    assert unknown_words(text, KNOWN) == unknown


def test_every_word_of_captions_is_known():
    random = np.random.default_rng(0)
    for index in range(300):
        for domain in ("in", "all"):
            text = caption(sample_face("train", index, domain), random)
            assert unknown_words(text, KNOWN) == []


def test_near_words_are_those_that_look_alike():
    assert near(["beerd", "Smilling"], KNOWN) == ["beard", "smiling"]
    assert near(["glasses"], KNOWN) == []


OWN = "edit.name=mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["edit.target=person with glasses", OWN], "the word glasses"),
        (["edit.source=sailor", "edit.target=a pirate", OWN], "the words sailor, pirate"),
        (["edit.target=person with a beerd", OWN], "near words that it knows: beard"),
        (
            [
                "task=sample",
                "guidance=contrastive",
                "guidance.targets=[a pirate]",
                "guidance.distractors=source",
            ],
            "word pirate",
        ),
        (["edit.target=person with blue hair", OWN], None),
        (["edit=red_hair"], None),
        (["task=sample"], None),
        (["experiment=celeba", "edit.target=person with glasses", OWN], None),
    ],
)
def test_a_run_warns_of_words_that_its_clip_does_not_know(words, said, caplog, configure_on):
    with caplog.at_level(logging.WARNING, "dclip"):
        warn_of_words(configure_on(*words) if "experiment=celeba" in words else configure(*words))
    messages = [one.getMessage() for one in caplog.records]
    if said is None:
        assert messages == []
    else:
        assert len(messages) == 1 and said in messages[0]


def test_a_plan_warns_too(tmp_path, caplog, capsys):
    from dclip.prepare import plan

    plan.show(configure("edit.target=person with glasses", OWN, f"output={tmp_path}"))
    assert "the word glasses" in caplog.text and "kept in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metrics", "unseen"),
    [
        ({"s_dir": 0.34, "s_dir_heldout": 0.05}, True),
        ({"s_dir": 0.53, "s_dir_heldout": 0.188}, False),  # angry, a real edit
        ({"s_dir": 0.03, "s_dir_heldout": 0.0}, False),  # nothing was changed
        ({"s_dir": 0.34, "s_dir_heldout_absent": "no held-out CLIP"}, False),
        ({"p_target_guide": 0.99, "p_target_heldout": 0.1}, True),
        ({"p_target_guide": 0.99, "p_target_heldout": 0.75}, False),  # beards
        ({}, False),
    ],
)
def test_the_verdict_says_when_the_held_out_clip_sees_nothing(metrics, unseen):
    assert ("held-out CLIP does not see this" in verdict(metrics)) == unseen


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        # red hair and beards, learned for one epoch from 4 images, and well
        (
            {"judge_success": 0.25, "s_dir": 0.25, "s_dir_heldout": 0.19},
            "the judge sees it in 25 %",
        ),
        ({"judge_success": 0.64, "s_dir": 0.46, "s_dir_heldout": 0.43}, ""),
        ({"s_dir": 0.03, "s_dir_heldout": 0.0}, "s_dir is 0.03 and 0.00"),
        ({"s_dir": 0.04}, "s_dir is 0.04,"),
        ({"s_dir": 0.17, "s_dir_heldout": 0.12}, ""),
        ({"judge_success": 0.1, "p_target_heldout": 0.9, "p_target_guide": 0.9}, ""),  # samples
        ({"mae": 0.1}, ""),
    ],
)
def test_the_verdict_says_when_an_edit_does_next_to_nothing(metrics, said):
    assert ("barely works" in verdict(metrics)) == bool(said)
    assert said in verdict(metrics)
    assert verdict(metrics, whole=False) == ""  # less was asked for


def test_one_epoch_of_an_unknown_word_has_a_verdict():
    """Measured: person with glasses, preset=quick method.epochs=1."""
    short = {"s_dir": 0.1441, "s_dir_heldout": 0.0229}
    assert "held-out CLIP does not see this" in verdict(short)
    both = verdict({"s_dir": 0.2, "s_dir_heldout": 0.2}, ["glasses", "hat"], clip="toonfaces")
    assert both == (
        "clip=toonfaces was never shown the words glasses, hat, so its scores cannot tell whether "
        "the pictures show it: look at them."
    )


def test_a_runs_verdict_names_the_words_that_its_clip_does_not_know(tmp_path):
    write_json(tmp_path / "metrics.json", {"s_dir": 0.3, "s_dir_heldout": 0.3})
    settings = {
        "task": {"name": "finetune"},
        "clip": {"name": "toonfaces"},
        "edit": {"source": "person", "target": "person with glasses"},
        "gamma": 1.0,
    }
    OmegaConf.save(OmegaConf.create(settings), tmp_path / "config.yaml")
    assert "never shown the word glasses" in verdict_of(tmp_path)
    settings["edit"]["target"] = "person with red hair"
    OmegaConf.save(OmegaConf.create(settings), tmp_path / "config.yaml")
    assert verdict_of(tmp_path) == ""
