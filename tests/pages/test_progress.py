"""How far a run is, read from its bars."""

from itertools import pairwise

import pytest

from dclip.pages.progress import LEARNING, Progress, stages_of
from helpers.runs import configure

SHORT = ("dataset.train=16", "dataset.validation=8", "dataset.test=12", "degrees=[]")


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
    progress = Progress(stages, clock=clock)
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
    assert progress.seconds_left == pytest.approx(70 * 22 / 25)  # one pace for the whole run
    progress.read(bar("fine-tuning", 96, 96))
    assert progress.epoch(4) == 4
    progress.read(bar("degrees of change", 0, 3))
    assert (progress.words, progress.epoch(4)) == ("editing the test pictures", 0)
    assert progress.share == pytest.approx(0.9)


# Seconds, bar and step of a lesson on the page, which ended after 156 seconds.
LESSON = [
    (7.6, "inverting train images", 0, 6), (11.6, "inverting train images", 1, 6),
    (18.0, "inverting train images", 6, 6), (18.7, "inverting validation images", 0, 6),
    (23.7, "inverting validation images", 6, 6), (24.7, "inverting test images", 0, 6),
    (27.8, "inverting test images", 1, 6), (32.4, "inverting test images", 6, 6),
    (40.7, "fine-tuning", 0, 96), (49.5, "fine-tuning", 12, 96), (83.7, "fine-tuning", 48, 96),
    (126.3, "fine-tuning", 96, 96), (127.3, "degrees of change", 0, 12),
    (136.0, "degrees of change", 12, 12), (141.1, "degrees of change", 0, 12),
    (149.9, "degrees of change", 12, 12),
]  # fmt: skip


def test_the_time_left_of_a_lesson_is_known_at_once_and_hardly_ever_rises(clock):
    stages = stages_of(configure("experiment=toonfaces", "recipe=toonfaces_color", *SHORT))
    progress = Progress(stages, 100 / sum(stages.values()), clock)
    said = [progress.seconds_left]
    assert said == [pytest.approx(100)]
    for clock.seconds, what, done, total in LESSON:
        progress.read(bar(what, done, total))
        if clock.seconds < 100:
            progress.read(bar("drawing faces", 1, 2))  # a bar that no plan knows changes nothing
        said.append(progress.seconds_left)
        assert 0.5 < said[-1] / (156 - clock.seconds) < 1.5
    assert all(later < 1.25 * earlier for earlier, later in pairwise(said))


def test_work_that_was_cached_is_not_waited_for(clock):
    progress = Progress({"inverting train": 50.0, LEARNING: 50.0, "": 0.0}, clock=clock)
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
