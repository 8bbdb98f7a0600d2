"""Masks: one for all images, or one of each image's name."""

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.masks import read_masks
from dclip.data.pictures import mask_trouble
from dclip.errors import DclipError
from helpers.runs import configure


def half(value, path, size=64):
    """A mask whose left half has this grey, the rest is black."""
    pixels = np.zeros((size, size), np.uint8)
    pixels[:, : size // 2] = value
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_one_picture_is_the_mask_of_all(tmp_path):
    half(255, tmp_path / "mask.png")
    masks = read_masks(str(tmp_path / "mask.png"), ("a", "b"), 64, "metric.region")
    assert masks.shape == (2, 1, 64, 64)
    assert masks[0, 0, 5, :32].tolist() == [1] * 32 and masks[1, 0, 5, 32:].tolist() == [0] * 32


def test_a_layer_painted_in_white_is_a_mask(tmp_path):
    layer = Image.new("LA", (64, 64), (255, 0))
    layer.paste((255, 255), (0, 0, 32, 64))
    layer.save(tmp_path / "layer.png")
    masks = read_masks(str(tmp_path / "layer.png"), ("a",), 64, "edit.region")
    assert masks[0, 0, 5].tolist() == [1] * 32 + [0] * 32
    Image.new("LA", (64, 64), (255, 0)).save(tmp_path / "empty.png")
    with pytest.raises(DclipError, match=r"empty\.png: the mask has no white"):
        configure(f"edit.region={tmp_path / 'empty.png'}")


def test_every_image_has_the_mask_of_its_name_and_variants_share_it(tmp_path):
    half(255, tmp_path / "masks" / "a.png")
    half(51, tmp_path / "masks" / "b.png", 32)
    masks = read_masks(str(tmp_path / "masks"), ("b_v1", "b_v2", "a"), 32, "metric.region")
    assert torch.allclose(masks[:, 0, 9, 3], torch.tensor([0.2, 0.2, 1.0]))
    with pytest.raises(DclipError, match=r"metric.region=.* has no mask for the image c;"):
        read_masks(str(tmp_path / "masks"), ("a", "c"), 32, "metric.region")


def coloured(path, size=32):
    path.parent.mkdir(exist_ok=True)
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[: size // 2, :, 0] = 200
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("setting", ["edit.region", "metric.region"])
@pytest.mark.parametrize(
    ("name", "said"), [("coloured.png", "is coloured"), ("broken.png", "cannot be read")]
)
def test_what_is_no_mask_is_refused_before_anything_is_built(tmp_path, setting, name, said):
    coloured(tmp_path / "coloured.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DclipError) as caught:
        configure(f"{setting}={tmp_path / name}", f"output={tmp_path / 'out'}")
    message = str(caught.value)
    assert message.startswith(f"{setting}={tmp_path / name} {said}") and "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_folder_of_masks_is_refused_for_one_of_them(tmp_path):
    half(255, tmp_path / "masks" / "a.png")
    configure(f"metric.region={tmp_path / 'masks'}")
    coloured(tmp_path / "masks" / "b.png")
    with pytest.raises(DclipError, match=r"metric.region=.*masks: .*b\.png is coloured \(50 %"):
        configure(f"metric.region={tmp_path / 'masks'}")


def test_a_grey_jpeg_and_a_picture_with_few_tinted_pixels_are_masks(tmp_path):
    half(180, tmp_path / "grey.png")
    Image.open(tmp_path / "grey.png").convert("RGB").save(tmp_path / "grey.jpg", quality=60)
    assert mask_trouble(tmp_path / "grey.jpg") == ""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0, :5] = (90, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "tinted.png")
    assert mask_trouble(tmp_path / "tinted.png") == ""


def test_a_black_mask_of_an_edit_is_refused_and_one_of_another_shape_is_told_of(tmp_path, caplog):
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    with pytest.raises(DclipError, match=r"edit\.region=.*black\.png: the mask has no white;"):
        configure(f"edit.region={tmp_path / 'black.png'}")
    Image.new("L", (64, 32), "white").save(tmp_path / "wide.png")
    configure("experiment=toonfaces_red_hair", f"edit.region={tmp_path / 'wide.png'}")
    configure(f"edit.region={tmp_path / 'wide.png'}", f"input={tmp_path / 'wide.png'}")
    assert [one.getMessage() for one in caplog.records] == [
        f"edit.region={tmp_path / 'wide.png'} is 64x32, but the pictures are 64x64: "
        "of each the middle square is used"
    ]
