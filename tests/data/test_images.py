import logging
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.folders import find_images
from dclip.data.images import read_files, save_png
from dclip.errors import DclipError
from dclip.types import Edited, Images, batches, from_uint8, to_uint8
from helpers.images import read_image
from helpers.odd_files import SIDE, half_and_half


def color_at(x, row, column):
    return tuple(to_uint8(x)[:, row, column].tolist())


def test_an_rgb_picture_of_the_right_size_is_read_byte_by_byte(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", SIDE)
    assert x.shape == (3, SIDE, SIDE)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


def test_a_transparent_picture_is_put_on_white(tmp_path):
    picture = half_and_half().convert("RGBA")
    picture.putpixel((0, 0), (255, 0, 0, 0))
    picture.putpixel((1, 0), (255, 0, 0, 128))
    picture.save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", SIDE)
    assert color_at(x, 0, 0) == (255, 255, 255)
    assert color_at(x, 0, 1) == pytest.approx((255, 127, 127), abs=1)
    assert color_at(x, 0, 3) == (255, 0, 0)


def test_a_palette_picture_keeps_its_colours_and_its_transparency(tmp_path):
    half_and_half().quantize(2).save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", SIDE)
    assert color_at(x, 5, 2) == (255, 0, 0)
    assert color_at(x, 5, SIDE - 2) == (0, 0, 255)
    palette = half_and_half().quantize(2)
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((0, 0)))
    assert color_at(read_image(tmp_path / "b.png", SIDE), 5, 2) == (255, 255, 255)


def test_a_grey_picture_has_three_equal_channels(tmp_path):
    for mode in ("L", "1", "LA"):
        half_and_half(left=(255, 255, 255), right=(0, 0, 0)).convert(mode).save(
            tmp_path / f"{mode}.png"
        )
        x = read_image(tmp_path / f"{mode}.png", SIDE)
        assert color_at(x, 5, 2) == (255, 255, 255)
        assert color_at(x, 5, SIDE - 2) == (0, 0, 0)


def test_sixteen_bit_pictures_keep_their_brightness(tmp_path):
    values = np.full((SIDE, SIDE), 65535, np.uint16)
    values[:, : SIDE // 2] = 257 * 100
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        x = read_image(tmp_path / name, SIDE)
        assert color_at(x, 5, 2) == pytest.approx((100, 100, 100), abs=1)
        assert color_at(x, 5, SIDE - 2) == (255, 255, 255)


def test_cmyk_pictures_become_rgb(tmp_path):
    half_and_half().convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert color_at(read_image(tmp_path / "a.jpg", SIDE), 5, 2) == pytest.approx((255, 0, 0), abs=6)


@pytest.mark.parametrize(
    ("orientation", "red"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")]
)
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, red):
    exif = Image.Exif()
    exif[0x0112] = orientation
    half_and_half().save(tmp_path / "a.png", exif=exif)
    x = read_image(tmp_path / "a.png", SIDE)
    middle, edge = SIDE // 2, {"left": 2, "top": 2, "right": SIDE - 3, "bottom": SIDE - 3}[red]
    at = (middle, edge) if red in ("left", "right") else (edge, middle)
    opposite = (middle, SIDE - 1 - edge) if red in ("left", "right") else (SIDE - 1 - edge, middle)
    assert color_at(x, *at) == (255, 0, 0)
    assert color_at(x, *opposite) == (0, 0, 255)


@pytest.mark.parametrize("size", [(96, 48), (48, 96), (200, 50), (33, 32), (7, 300)])
def test_the_aspect_ratio_stays_and_the_middle_is_kept(tmp_path, size):
    side = min(size)
    picture = Image.new("RGB", size, (0, 255, 0))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    picture.paste((255, 0, 0), (left, top, left + side, top + side))
    picture.save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", SIDE)
    assert x.shape == (3, SIDE, SIDE)
    inner = to_uint8(x)[:, 3:-3, 3:-3]
    assert float(inner[0].float().mean()) > 250
    assert float(inner[1].float().mean()) < 5


def test_a_circle_stays_a_circle(tmp_path):
    yy, xx = np.mgrid[:100, :180]
    disc = ((yy - 50) ** 2 + (xx - 90) ** 2 < 30**2)[..., None] * np.full(3, 255)
    Image.fromarray(disc.astype(np.uint8)).save(tmp_path / "a.png")
    mask = to_uint8(read_image(tmp_path / "a.png", 50))[0].numpy() > 127
    assert abs(int(mask.any(0).sum()) - int(mask.any(1).sum())) <= 1
    assert abs(int(mask.any(0).sum()) - 30) <= 1


# ------------------------------------------------------------------------------------------- broken files


def broken_files(folder):
    (folder / "text.png").write_text("this is a text, not a picture\n")
    half_and_half((200, 200)).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").write_bytes(b"")
    return ["text.png", "cut.jpg", "empty.png"]


def test_a_broken_file_is_refused_in_one_line_with_its_name(tmp_path):
    for name in broken_files(tmp_path):
        for read in (lambda p: read_image(p, SIDE), lambda p: read_files(p, SIDE)):
            with pytest.raises(DclipError) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
            assert "cannot be read as an image" in str(caught.value)


def test_a_folder_with_broken_files_skips_them_and_says_how_many(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    broken_files(tmp_path)
    (tmp_path / "notes.txt").write_text("not looked at")
    for name in ("b.png", "a.webp"):
        half_and_half().save(tmp_path / name)
    with caplog.at_level("WARNING", "dclip"):
        images = read_files(tmp_path, SIDE)
    assert images.ids == ("a", "b")
    assert "skipped 3 of 5 files" in caplog.text
    assert "text.png" in caplog.text


def test_a_folder_without_any_readable_image_is_refused(tmp_path):
    broken_files(tmp_path)
    with pytest.raises(DclipError, match="no readable image among 3 files"):
        read_files(tmp_path, SIDE)
    (tmp_path / "none").mkdir()
    with pytest.raises(DclipError, match="holds no images"):
        read_files(tmp_path / "none", SIDE)


def test_images_are_found_in_sub_folders_and_whatever_the_case(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("x/a.JPG", "b.PNG", "c.jpeg"):
        half_and_half().save(tmp_path / name)
    assert [str(p.relative_to(tmp_path)) for p in find_images(tmp_path)] == [
        "b.PNG",
        "c.jpeg",
        "x/a.JPG",
    ]
    assert set(read_files(tmp_path, SIDE).ids) == {"b", "c", "x_a"}


def test_files_that_differ_only_in_suffix_or_folder_get_different_names(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("p.png", "p.jpg", "a/b.png", "a_b.png"):
        half_and_half().save(tmp_path / name)
    images = read_files(tmp_path, SIDE)
    assert len(set(images.ids)) == 4
    assert not any("/" in name for name in images.ids)


# ------------------------------------------------------------------------------------------- types


def test_bytes_survive_the_way_to_floats_and_back(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = from_uint8(pixels)
    assert float(x.min()) == -1
    assert float(x.max()) == 1
    assert np.array_equal(to_uint8(x).permute(0, 2, 3, 1).numpy(), pixels)
    save_png(x[0], tmp_path / "deep" / "a.png")
    assert torch.equal(read_image(tmp_path / "deep" / "a.png", 16), x[0])


def test_pixels_out_of_range_are_clamped_when_written():
    assert to_uint8(torch.tensor([-5.0, -1, 0, 1, 5])).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Images(torch.zeros(3, 8, 8), ("a",)), r"\[N,3,H,W\]"),
        (lambda: Images(torch.zeros(1, 1, 8, 8), ("a",)), r"\[N,3,H,W\]"),
        (lambda: Images(torch.full((1, 3, 8, 8), 255.0), ("a",)), r"\[-1, 1\]"),
        (lambda: Images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ("a",)), r"\[-1, 1\]"),
        (lambda: Images(torch.zeros(2, 3, 8, 8), ("a", "a")), "different ids"),
        (lambda: Images(torch.zeros(2, 3, 8, 8), ("a",)), "different ids"),
        (lambda: Images(torch.zeros(1, 3, 8, 8), ("a",), (1, 2)), "facts"),
        (
            lambda: Edited(Images(torch.zeros(1, 3, 8, 8), ("a",)), torch.zeros(2, 3, 8, 8)),
            "result",
        ),
        (
            lambda: Edited(
                Images(torch.zeros(1, 3, 8, 8), ("a",)),
                torch.zeros(1, 3, 8, 8),
                torch.zeros(1, 3, 4, 4),
            ),
            "truth",
        ),
    ],
)
def test_impossible_images_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_batches_cover_everything_once():
    for count, size in ((0, 3), (1, 3), (7, 3), (6, 3), (5, 100)):
        assert [i for part in batches(count, size) for i in range(count)[part]] == list(
            range(count)
        )
        assert all(len(range(count)[part]) <= size for part in batches(count, size))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height, *chunks):
    """A PNG of a few bytes that says it is this large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        bomb(50_000, 50_000),
        bomb(2**31 - 1, 2**31 - 1),
        bomb(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))),
    ],
)
def test_a_picture_that_unpacks_to_gigabytes_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    with pytest.raises(DclipError, match="cannot be read as an image") as caught:
        read_image(path, 8)
    assert "\n" not in str(caught.value)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    save_png(torch.zeros(3, 8, 8), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def fails(_, path):
        path.write_bytes(b"half")
        raise RuntimeError("killed")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(RuntimeError, match="killed"):
        save_png(torch.ones(3, 8, 8), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
    assert (tmp_path / "a.png").read_bytes() == before
