"""A process's start looks for garbage rarely, and all that follows as usual."""

import gc

import pytest

from dclip.runtime import start


@pytest.fixture
def usual():
    """The thresholds before, with nothing frozen; afterwards all is, as conftest.py has it."""
    gc.unfreeze()
    yield gc.get_threshold()
    gc.freeze()


def test_garbage_is_looked_for_rarely_until_the_process_has_started(usual):
    with start.starting():
        assert gc.get_threshold()[0] == start.RARELY
        start.started()
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count() > 0
        start.started()
        assert gc.get_threshold() == usual
    assert gc.get_threshold() == usual


def test_a_start_that_fails_leaves_the_thresholds_as_they_were(usual):
    with pytest.raises(ValueError), start.starting():
        raise ValueError
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0


def test_only_the_first_start_of_a_process_freezes_what_there_is(usual):
    with start.starting():
        start.started()
    frozen = gc.get_freeze_count()
    kept = [[] for _ in range(1000)]
    with start.starting():
        start.started()
    assert gc.get_freeze_count() <= frozen, len(kept)
