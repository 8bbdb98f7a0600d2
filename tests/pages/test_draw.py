"""From words to the command line that draws them."""

import pytest

from dclip.errors import DclipError
from dclip.pages.draw import Drawer
from helpers.runs import configure


@pytest.fixture(scope="module")
def drawer(tmp_path_factory):
    words = [f"output={tmp_path_factory.mktemp('outputs')}", "sampler.s_gen=4", "edit.region=auto"]
    return Drawer(configure("task=demo", *words), ["task=demo", *words])


def test_words_become_a_sampling_run(drawer):
    job = drawer.job(" a person  with a beard", 4)
    cfg = job.cfg
    assert (cfg.guidance.targets, cfg.guidance.distractors) == (
        ["a person with a beard"],
        "siblings",
    )
    assert (cfg.task.count, cfg.sampler.s_gen, job.parent.name) == (4, 4, "drawn")
    assert not any(word.startswith("edit") for word in job.words)


def test_words_without_an_attribute_compete_with_the_source(drawer):
    assert drawer.job("a cartoon", 1).cfg.guidance.distractors == "source"


def test_what_cannot_be_drawn_is_said(drawer):
    for text, count, message in [
        (" ", 8, "say what to draw"),
        ("a ${seed}", 8, "which no text may have"),
        ("a person", 17, "17 pictures cannot be drawn; choose 1 to 16"),
    ]:
        with pytest.raises(DclipError, match=message):
            drawer.job(text, count)
    assert "never shown the word halo" in drawer.note("a person with a halo")
