"""Words that the embedded CLIP was never shown: said before, and in the verdict after."""

import logging

import numpy as np
import pytest

from dclip.data.domains import words_of
from dclip.data.toonfaces.captions import caption
from dclip.data.toonfaces.faces import sample_face
from dclip.pages.report import verdict
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
