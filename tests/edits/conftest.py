import pytest

from helpers.runs import configure, words


@pytest.fixture
def editing(tiny, nets):
    """Settings that apply an edit's file to images of 16 x 16 pixels."""

    def build(adapter, **settings):
        groups = ("trainer", "logger", "clip", "metric")
        keep = {k: v for k, v in tiny.items() if k.split(".")[0] in groups}
        keep |= {"checkpoint.name": nets["model16"], "task": "edit", "edit.adapter": adapter}
        return configure(*words(keep, **settings))

    return build
