"""``edit.region=clip``: the part of a change in which CLIP sees the edit."""

import pytest
import torch

import dclip
from dclip.edits.edit import Mixture
from dclip.edits.seen import seen_region
from dclip.methods.load import load_edits
from dclip.models.checkpoints import load_clip
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit


class HalfBlind:
    """A CLIP whose first feature is the left half's brightness; nothing else reaches it."""

    mean = torch.zeros(3)

    def image_features(self, images):
        left = images[..., : images.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([left, torch.ones_like(left)], 1)


ALONG, ACROSS = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
SOURCE, CHANGE = torch.zeros(3, 3, 16, 16), torch.full((3, 3, 16, 16), 0.5)


def test_what_clip_does_not_see_goes_and_what_it_needs_stays():
    region = seen_region(HalfBlind(), ALONG, SOURCE, CHANGE, 0.9)
    assert region.shape == (3, 1, 16, 16)
    assert float(region[..., 8:].max()) == 0
    assert 0.8 <= float(region[..., :8].mean()) <= 1


def test_a_smaller_share_is_a_smaller_region():
    half = seen_region(HalfBlind(), ALONG, SOURCE, CHANGE, 0.5)
    assert 0.4 <= float(half[..., :8].mean()) <= 0.6


def test_where_clip_sees_nothing_nothing_is_left():
    assert seen_region(HalfBlind(), ACROSS, SOURCE, CHANGE, 0.9).max() == 0


def test_a_picture_is_the_same_alone_and_in_a_batch():
    clip, draw = load_clip(), torch.Generator().manual_seed(0)
    faces, change = torch.rand(2, 2, 3, 64, 64, generator=draw) - 0.5
    direction = torch.nn.functional.normalize(torch.ones(128), dim=0)
    with torch.inference_mode():  # as Lightning leaves pictures
        together = seen_region(clip, direction, faces, change / 2, 0.9)
        alone = seen_region(clip, direction, faces[1:], change[1:] / 2, 0.9)
    assert torch.allclose(together[1:], alone, atol=1e-3)


def test_large_pictures_have_a_region_of_their_size():
    large = torch.zeros(1, 3, 128, 128)
    region = seen_region(HalfBlind(), ALONG, large, large + 0.5, 0.9)
    assert region.shape == (1, 1, 128, 128) and float(region[..., 70:].max()) == 0


# --------------------------------------------------------------------------------- in a run

SEEN = {
    "edit__region": "clip",
    "edit__region_colors": 0,
    "edit__region_follow": 0,
    "edit__region_gain": 1,
}


@pytest.fixture
def smile(tiny, nets, tmp_path):
    return write_edit(tmp_path / "smile", tiny, nets["model16"], "smiling", 0.3, **SEEN)


def test_an_edit_acts_where_clip_sees_it_alone_and_among_others(
    editing, smile, model, tiny, nets, tmp_path
):
    cfg = editing(smile, metric="none")
    assert cfg.edit.region == "clip"
    run, start = a_run(cfg, model, clip=load_clip(str(nets["clip"]))), start_at(images16(2))
    edit = load_edits(cfg, model)
    result, region = edit.apply(run, start, 1.0), edit.region(start)
    outside = (region == 0).expand_as(result)
    assert torch.equal(result[outside], start.sources.pixels[outside])
    other = write_edit(tmp_path / "o", tiny, nets["model16"], "tanned", 0.2)
    both = editing(f"[{smile},{other}]", gamma=2, metric="none")
    mixture = load_edits(both, model)
    assert isinstance(mixture.mixture, Mixture)
    mixture.apply(a_run(both, model, clip=run.networks.clip), start, 2.0)
    assert torch.allclose(mixture.regions(start)[0], region, atol=1e-3)


def test_the_notebook_asks_the_clip_that_the_edit_was_learned_with(smile, model):
    pixels = images16(2).pixels
    where = dclip.edit(model, pixels, smile)
    assert not torch.equal(where, dclip.edit(model, pixels, smile, region="none"))
    assert where.shape == pixels.shape
