"""Folders of pictures that tests of several modules read."""

import pytest

from helpers.odd_files import half_and_half

# ------------------------------------------------------------------------------------------- splits


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for i in range(20):
        half_and_half((8, 8)).save(tmp_path / ("sub" if i % 3 == 0 else ".") / f"{i:02d}.png")
    return tmp_path
