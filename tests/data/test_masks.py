"""Masks: one for all images, or one of each image's name."""

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.data.masks import read_masks
from dclip.errors import DclipError


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


def test_every_image_has_the_mask_of_its_name_and_variants_share_it(tmp_path):
    half(255, tmp_path / "masks" / "a.png")
    half(51, tmp_path / "masks" / "b.png", 32)
    masks = read_masks(str(tmp_path / "masks"), ("b_v1", "b_v2", "a"), 32, "metric.region")
    assert torch.allclose(masks[:, 0, 9, 3], torch.tensor([0.2, 0.2, 1.0]))
    with pytest.raises(DclipError, match=r"metric.region=.* has no mask for the image c;"):
        read_masks(str(tmp_path / "masks"), ("a", "c"), 32, "metric.region")
