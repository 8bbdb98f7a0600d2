"""How far a run is, read from its bars."""

import pytest

from dclip.pages.progress import LEARNING, Progress, stages_of
from helpers.runs import configure


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def bar(what, done, total):
    share = 100 * done // total
    return f"{what}: {share:3d}%|█████      | {done}/{total} [00:45<01:50,  1.54s/it, total=4.2]"


def test_a_run_is_followed_from_bar_to_bar(clock):
    stages = {"inverting train": 10.0, LEARNING: 80.0, "": 10.0}
    progress = Progress(stages, clock)
    assert (progress.words, progress.share, progress.seconds_left) == ("starting", 0.0, None)
    progress.read("error of somebody else")
    progress.read(bar("inverting train images", 0, 4))
    clock.seconds = 2.0
    progress.read(bar("inverting train images", 2, 4))
    assert progress.words == "inverting the training pictures"
    assert progress.share == pytest.approx(0.05)
    assert progress.seconds_left == pytest.approx(95 * 0.4)
    progress.read(bar("fine-tuning", 0, 96))
    assert progress.share == pytest.approx(0.1)
    clock.seconds = 22.0
    progress.read(bar("fine-tuning", 24, 96))
    assert (progress.epoch(4), progress.share) == (2, pytest.approx(0.3))
    assert progress.seconds_left == pytest.approx(70.0)
    progress.read(bar("fine-tuning", 96, 96))
    assert progress.epoch(4) == 4
    progress.read(bar("degrees of change", 0, 3))
    assert (progress.words, progress.epoch(4)) == ("editing the test pictures", 0)
    assert progress.share == pytest.approx(0.9)


def test_work_that_was_cached_is_not_waited_for(clock):
    progress = Progress({"inverting train": 50.0, LEARNING: 50.0, "": 0.0}, clock)
    progress.read(bar("fine-tuning", 0, 10))
    clock.seconds = 1.0
    progress.read(bar("fine-tuning", 5, 10))
    assert progress.seconds_left == pytest.approx(1.0)


def test_the_stages_are_those_of_the_plan():
    stages = stages_of(
        configure("recipe=toonfaces_color", "experiment=toonfaces", "dataset.train=16")
    )
    assert list(stages) == [
        "inverting train",
        "inverting validation",
        "inverting test",
        LEARNING,
        "",
    ]
    assert min(stages.values()) > 0
    assert max(stages, key=stages.get) == LEARNING
    drawn = stages_of(configure("experiment=toonfaces_contrastive"))
    assert list(drawn) == ["sampling", "sampling under guidance"]
    assert drawn["sampling under guidance"] > drawn["sampling"] > 0
