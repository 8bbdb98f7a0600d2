"""Changes that are put back into pictures of their own size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.images import square
from dclip.edits.paste import changed_region, paste_back, pasted
from dclip.errors import DclipError
from dclip.record.identity import config_hash
from dclip.record.record import Record
from dclip.types import Images
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import configure, run, words


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 211, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_without_a_change_is_the_original(photo):
    original = Image.open(photo)
    source = square(original, 64)
    again = pasted(original, source, source + 3 / 127.5 * torch.randn_like(source).clamp(-1, 1))
    assert np.array_equal(np.array(again), np.array(original))


def test_only_the_changed_region_changes_and_by_as_much():
    original = Image.new("RGB", (320, 192), (100, 100, 100))
    source = square(original, 64)
    edited = source.clone()
    edited[0, 20:40, 10:30] += 60 / 127.5
    result = np.array(pasted(original, source, edited)).astype(int)
    assert result.shape == (192, 320, 3)
    change = result - 100
    assert change[..., 1:].any() == False  # noqa: E712  only red
    left = 64  # of the middle square, three pixels each of the model's
    assert (change[75:105, left + 45 : left + 75, 0] == 60).all()
    changed = np.argwhere(change[..., 0])
    assert changed.min(0).tolist() >= [48, left + 18] and changed.max(0).tolist() <= [
        132,
        left + 102,
    ]


def test_the_region_is_soft_and_ignores_what_reconstruction_changes():
    source = torch.zeros(3, 32, 32)
    edited = source + 6 / 127.5
    assert float(changed_region(source, edited).max()) == 0
    edited[:, 10:20, 10:20] = 0.5
    region = changed_region(source, edited)[0]
    assert float(region[15, 15]) == 1 and float(region[5, 5]) == 0
    assert 0 < float(region[15, 8]) < 1


def test_a_run_writes_pictures_of_their_own_size(photo, tiny, nets, tmp_path):
    adapter = write_edit(tmp_path / "red", tiny, nets["model64"], "red_hair", 0.3)
    told = {**tiny, "task": "edit", "edit.adapter": adapter, "input": photo, "degrees": "[]"}
    folder = run(*words({**told, "output": tmp_path / "out", "paste_back": "true"}))
    assert Image.open(folder / "pasted" / "photo.png").size == (211, 150)
    assert Image.open(folder / "samples" / "image_photo.png").size == (64, 64)
    assert not np.array_equal(
        np.array(Image.open(folder / "pasted" / "photo.png")), np.array(Image.open(photo))
    )


def test_pictures_with_the_same_middle_keep_their_own_sizes(photo, tiny, tmp_path):
    """A picture and its centre crop look alike to the model, and so do their variants."""
    folder, wide = tmp_path / "two", Image.open(photo).crop((0, 0, 90, 64))
    folder.mkdir()
    wide.save(folder / "wide.png")
    wide.crop((13, 0, 77, 64)).save(folder / "square.png")
    names = ["square_v1", "square_v2", "wide_v1", "wide_v2"]
    cfg = configure(*words({**tiny, "input": folder, "paste_back": "true"}))
    cfg.variants = 2
    record = Record(tmp_path / "run", cfg, False)
    record.folder.mkdir()
    pixels = square(wide, 64)[None].repeat(4, 1, 1, 1)
    made = replace(a_run(cfg, None), record=record)
    paste_back(made, start_at(Images(pixels, tuple(names))), pixels)
    sizes = {name: Image.open(record.folder / "pasted" / f"{name}.png").size for name in names}
    assert list(sizes.values()) == [(64, 64)] * 2 + [(90, 64)] * 2


def test_it_is_refused_where_nothing_can_be_put_back(photo):
    with pytest.raises(DclipError, match="paste_back=true puts changes back into the pictures of"):
        configure("edit=red_hair", "paste_back=true")
    with pytest.raises(DclipError, match="with task=edit or finetune"):
        configure("task=translate", f"input={photo}", "paste_back=true")


def test_without_it_hashes_are_as_before():
    cfg = configure("experiment=toonfaces_red_hair")
    before = config_hash(cfg)
    cfg.paste_back = True
    assert config_hash(cfg) != before
