"""Which files of a folder are pictures, links, and what is left out."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from dclip.data.folders import check_pictures, find_images, left_out
from dclip.data.images import read_files
from dclip.data.photographs import Folder
from dclip.data.pictures import decode, suffixes
from dclip.data.pools import class_folders
from dclip.data.splits import ORDER
from dclip.errors import DclipError
from helpers.odd_files import half_and_half


def names(root):
    return [path.relative_to(root).as_posix() for path in find_images(root)]


def test_a_link_to_its_own_folder_adds_nothing(tmp_path):
    half_and_half().save(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "up2").symlink_to(tmp_path / "b")
    assert names(tmp_path) == ["a.png"]


def test_the_same_file_counts_once_under_its_real_name(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    half_and_half().save(elsewhere / "far.png")
    root = tmp_path / "root"
    (root / "z").mkdir(parents=True)
    half_and_half().save(root / "z" / "real.png")
    (root / "a_link.png").symlink_to(root / "z" / "real.png")
    (root / "a_folder").symlink_to(root / "z")
    os.link(root / "z" / "real.png", root / "z" / "second name.png")
    (root / "out").symlink_to(elsewhere)
    (root / "out2").symlink_to(elsewhere)
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "itself.png").symlink_to(root / "itself.png")
    assert names(root) == ["out/far.png", "z/real.png"]
    assert left_out(root) == "2 broken links"


def test_a_linked_class_folder_is_no_second_class(tmp_path):
    for name in ("n1", "n2"):
        (tmp_path / name / "deep").mkdir(parents=True)
        half_and_half().save(tmp_path / name / "deep" / f"{name}.png")
    (tmp_path / "a_link").symlink_to(tmp_path / "n1")
    pool = class_folders(tmp_path, Folder(root="x").order)
    assert sorted(pool.first(9)) == ["n1/deep/n1.png", "n2/deep/n2.png"]
    assert all(pool.open(name, 8).is_file() for name in pool.first(9))


def test_whatever_pillow_can_open_is_read(tmp_path):
    kinds = ("avif", "jp2", "tga", "ppm", "ico", "qoi", "jfif", "AVIF")
    for kind in kinds:
        half_and_half().save(tmp_path / f"{kind}_.{kind}", "JPEG" if kind == "jfif" else None)
    assert len(find_images(tmp_path)) == len(kinds)
    assert len(read_files(tmp_path, 32)) == len(kinds)
    assert not suffixes() & {".pdf", ".mpg", ".h5", ".grib"}


def test_what_is_left_out_is_counted_by_kind(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    half_and_half().save(tmp_path / "a.png")
    for name in ("b.heic", "c.heic", "notes.txt", "README", ".hidden", "._a.png"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level("INFO", "dclip"):
        assert read_files(tmp_path, 32).ids == ("a",)
        Folder(root=str(tmp_path), train=1, validation=0, test=1).chosen({"test": 1})
    assert "2 .heic, 1 .txt, 1 without a suffix" in caplog.text
    (tmp_path / "a.png").unlink()
    with pytest.raises(DclipError, match=r"holds no images \(it has 2 .heic"):
        read_files(tmp_path, 32)


def test_hidden_pictures_are_not_read_but_those_of_a_hidden_folder_that_is_named_are(tmp_path):
    folder = tmp_path / ".pictures"
    for place in (folder, folder / ".ipynb_checkpoints"):
        place.mkdir()
        half_and_half().save(place / "a.png")
    half_and_half().save(folder / ".b.png")
    assert find_images(folder) == [folder / "a.png"]


def test_a_data_set_says_what_it_leaves_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    for name in ("a", "b"):
        half_and_half().save(tmp_path / f"{name}.png")
    (tmp_path / "b.heic").write_bytes(b"x")
    data = Folder(root=str(tmp_path), train=1, validation=0, test=1)
    with caplog.at_level("INFO", "dclip"):
        for split in ORDER[:2]:
            data.load(split, 16)
    assert caplog.text.count("1 .heic") == 1


def test_pictures_are_looked_at_before_anything_is_built(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_text("no picture")
    with pytest.raises(DclipError, match=r"input=.*b.jpg cannot be read as an image"):
        check_pictures(tmp_path / "b.jpg", "input")
    with pytest.raises(DclipError, match="no readable image among 2 files"):
        check_pictures(tmp_path, "input")
    with pytest.raises(DclipError, match="no readable image among 2 files"):
        Folder(root=str(tmp_path)).check({"test": 4})
    half_and_half().save(tmp_path / "c.png")
    check_pictures(tmp_path, "input")


# ------------------------------------------------------------------------------- odd modes


def grey(values, path, **options):
    Image.fromarray(np.asarray(values)).save(path, **options)
    return decode(path, "it").getpixel((0, 0)), decode(path, "it").getpixel((7, 7))


def ramp(low, high, kind):
    values = np.full((8, 8), low, kind)
    values[4:] = high
    return values


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (0.0, 1.0, np.float32, (0, 255)),
        (0.25, 0.5, np.float32, (64, 128)),
        (10.0, 200.0, np.float32, (10, 200)),
        (10, 200, np.int32, (10, 200)),
        (257 * 10, 257 * 200, np.int32, (10, 200)),
        (0, 65535, np.uint16, (0, 255)),
    ],
)
def test_wide_values_are_scaled_as_their_range_says(tmp_path, low, high, kind, expected):
    first, last = grey(ramp(low, high, kind), tmp_path / "a.tif")
    assert (first, last) == ((expected[0],) * 3, (expected[1],) * 3)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (-1.0, 1.0, np.float32),
        (0.0, 300.0, np.float32),
        (0.0, np.nan, np.float32),
        (0, 2**20, np.int32),
        (-5, 5, np.int32),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path, low, high, kind):
    with pytest.raises(DclipError, match=r"cannot be read as an image .its values go from"):
        grey(ramp(low, high, kind), tmp_path / "a.tif")


def test_a_dark_sixteen_bit_pgm_stays_dark(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + bytes([0, 200, 0, 200]))
    assert decode(path, "it").getpixel((0, 0)) == (0, 0, 0)


def test_lab_keeps_its_colours_and_premultiplied_colours_are_put_on_white(tmp_path):
    Image.new("RGB", (8, 8), (200, 40, 40)).convert("LAB").save(tmp_path / "lab.tif")
    assert decode(tmp_path / "lab.tif", "it").getpixel((0, 0)) == pytest.approx(
        (200, 40, 40), abs=4
    )
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert("RGBa")
    assert decode(clear, "it").getpixel((0, 0)) == (255, 255, 255)


# ------------------------------------------------------------------------------- long names


def test_a_name_too_long_for_a_file_is_shortened_and_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    folder = tmp_path / ("a" * 120) / ("ü" * 60)
    folder.mkdir(parents=True)
    for name in ("x.png", "y.png"):
        half_and_half().save(folder / name)
    half_and_half().save(tmp_path / "short.png")
    with caplog.at_level("INFO", "dclip"):
        images = read_files(tmp_path, 16)
    assert len(set(images.ids)) == 3 and "short" in images.ids
    assert all(len(name.encode()) <= 190 for name in images.ids)
    assert "names that no file could have are shortened (2):" in caplog.text
    long = [name for name in images.ids if name != "short"]
    assert f"{long[0]} is {'a' * 120}/{'ü' * 60}/" in caplog.text
    again = read_files(tmp_path, 16)
    assert again.ids == images.ids


def test_a_name_that_is_no_text_becomes_one(tmp_path, caplog):
    caplog.set_level("DEBUG", "dclip")
    path = tmp_path / os.fsdecode(b"gr\xfcn.png")
    half_and_half().save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(path)
    (name,) = read_files(tmp_path, 16).ids
    assert name == "gr\N{REPLACEMENT CHARACTER}n"
    assert "is gr\\udcfcn.png" in caplog.text
    data = Folder(root=str(tmp_path), train=1, validation=0, test=1)
    assert len(data.chosen({"test": 1})["test"]) == 1
