"""What tests of several readers of pictures ask."""

import pytest

from dclip.data.photographs import Lsun
from dclip.errors import DclipError
from helpers import layouts

COUNTS = {"test": 4, "train": 5, "validation": 2}


def load(data, split="test", size=16):
    """Images of a data set object whose counts are ``COUNTS``."""
    for name, count in COUNTS.items():
        setattr(data, name, count)
    return data.load(split, size)


def names_of(data, **counts):
    chosen = data.chosen(counts or COUNTS)
    return {split: [name for _, name in part] for split, part in chosen.items()}


def refusal(function, *args):
    with pytest.raises(DclipError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lsun(root):
    for split, count in (("train", 9), ("val", 5)):
        layouts.lsun(root, "bedroom", split, count)
    return Lsun(root=str(root))
