"""What is told of a foreign network from names and shapes."""

import pytest
import torch

from dclip.errors import DclipError
from dclip.models.hints import Hints
from dclip.models.recognise import recognise
from helpers.published_networks import ADM, AdmNet, random_net


def test_a_head_dim_that_does_not_divide_the_channels_is_refused(adm):
    with pytest.raises(DclipError, match="head_dim=48 does not divide 64 channels; give head_dim"):
        recognise(adm.state_dict(), Hints(head_dim=48))


# ---------------------------------------------------------------------------------------------------- what is recognised


def test_a_ddim_state_dict_is_recognised_from_names_and_shapes(ddim):
    found = recognise(ddim.state_dict())
    assert (found.format, found.variance, found.unused) == ("ddim", "fixed_small", ())
    assert found.unet["block_out_channels"] == (32, 64, 64)
    assert found.unet["layers_per_block"] == 2
    assert found.unet["down_block_types"] == ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    assert found.unet["up_block_types"] == ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert found.unet["sample_size"] == 32  # 8 pixels at the lowest of three levels
    assert found.notes["model"] == "unknown"


def test_an_adm_state_dict_is_recognised_from_names_and_shapes(adm):
    found = recognise(adm.state_dict(), Hints(head_dim=32, image_size=64))
    assert (found.format, found.variance) == ("adm", "learned_range")
    assert found.unet["down_block_types"] == (
        "ResnetDownsampleBlock2D",
        "ResnetDownsampleBlock2D",
        "AttnDownBlock2D",
    )
    assert found.unet["up_block_types"] == (
        "AttnUpBlock2D",
        "ResnetUpsampleBlock2D",
        "ResnetUpsampleBlock2D",
    )
    assert found.unet["resnet_time_scale_shift"] == "scale_shift"
    assert (found.unet["out_channels"], found.unet["sample_size"]) == (6, 64)


def test_scale_shift_and_resampling_are_read_from_the_weights():
    plain = recognise(
        random_net(AdmNet, **ADM, updown=False, scale_shift=False, out=3).state_dict(),
        Hints(head_dim=32),
    )
    assert plain.variance == "fixed_small"
    assert plain.unet["resnet_time_scale_shift"] == "default"
    assert (plain.unet["downsample_type"], plain.unet["upsample_type"]) == ("conv", "conv")


@pytest.mark.parametrize("size", [0, -4, 30])
def test_an_image_size_that_cannot_be_halved_is_refused(ddim, size):
    with pytest.raises(DclipError, match=f"image_size={size} is impossible.*multiple of 4"):
        recognise(ddim.state_dict(), Hints(image_size=size))


def test_strangers_and_nothing_are_refused():
    with pytest.raises(
        DclipError, match=r"no known diffusion format \(conv.weight\); known: ddim, adm, diffusers"
    ):
        recognise({"conv.weight": torch.zeros(1)})
    with pytest.raises(DclipError, match="no tensors"):
        recognise({})
