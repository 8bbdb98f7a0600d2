"""Files of the cache that somebody cut short are made again, and none of them can carry objects."""

import numpy as np
import pytest
import torch

from dclip.data.toonfaces import many
from dclip.encode import invert, source


def damaged(path):
    whole = path.read_bytes()
    yield b""
    yield whole[: len(whole) // 2]
    yield whole[:-1]
    yield bytes(len(whole))
    yield b"PK\x03\x04" + whole[4:20]


def with_objects(path):
    with path.open("wb") as stream:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("read", "write", "value"),
    [
        (invert._read, invert._write, torch.zeros(3, 4, 4)),
        (source._read, source._write, {"pixels": torch.zeros(3, 4, 4)}),
        (many._read, lambda path, value: np.save(path, value), np.zeros((1, 4, 4, 3), np.uint8)),
    ],
)
def test_a_damaged_file_of_the_cache_counts_as_none(tmp_path, read, write, value):
    path = tmp_path / f"a.{'npz' if isinstance(value, dict) else 'npy'}"
    write(path, value)
    assert read(path) is not None
    for content in list(damaged(path)):
        path.write_bytes(content)
        assert read(path) is None
    with_objects(path)
    assert read(path) is None
    assert read(tmp_path / "none") is None
