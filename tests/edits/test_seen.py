"""``edit.region=clip``: the part of a change in which CLIP sees the edit."""

from dataclasses import replace

import pytest
import torch

import dclip
from dclip.edits.edit import Mixture
from dclip.edits.region import EVERYWHERE
from dclip.edits.saved import read_edit
from dclip.edits.seen import seen_region
from dclip.methods.load import load_edits
from dclip.models.checkpoints import load_clip
from dclip.pages.demo_settings import low_of
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import run, words


class HalfBlind:
    """A CLIP whose first feature is the left half's brightness; nothing else reaches it."""

    mean = torch.zeros(3)

    def image_features(self, images):
        left = images[..., : images.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([left, torch.ones_like(left)], 1)


def left(share, **settings):
    """A region's settings."""
    return replace(EVERYWHERE, region="clip", region_share=share, **settings)


ALONG, ACROSS = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
SOURCE, CHANGE = torch.zeros(3, 3, 16, 16), torch.full((3, 3, 16, 16), 0.5)


def test_what_clip_does_not_see_goes_and_what_it_needs_stays():
    region = seen_region(left(0.9), HalfBlind(), ALONG, SOURCE, CHANGE)
    assert region.shape == (3, 1, 16, 16)
    assert float(region[..., 9:].max()) == 0  # it has half of the picture's pixels
    assert 0.8 <= float(region[..., :8].mean()) <= 1


def test_a_smaller_share_is_a_smaller_region():
    half = seen_region(left(0.5), HalfBlind(), ALONG, SOURCE, CHANGE)
    assert 0.4 <= float(half[..., :8].mean()) <= 0.6


def test_where_clip_sees_nothing_nothing_is_left():
    assert seen_region(left(0.9), HalfBlind(), ACROSS, SOURCE, CHANGE).max() == 0


def test_with_a_prior_less_is_left_where_it_is_seldom_needed():
    usual = torch.zeros(1, 1, 16, 16)
    usual[..., :4], usual[..., 4:6] = 1.0, 0.3
    free = seen_region(left(0.9), HalfBlind(), ALONG, SOURCE, CHANGE, usual)
    options = left(0.9, region_prior=1.0, region_low=0.2, region_high=0.4)
    bound = seen_region(options, HalfBlind(), ALONG, SOURCE, CHANGE, usual)
    half = seen_region(
        replace(options, region_prior=0.5), HalfBlind(), ALONG, SOURCE, CHANGE, usual
    )
    assert torch.equal(bound[..., :4], free[..., :4])
    assert torch.allclose(bound[..., 4:6], free[..., 4:6] / 2, atol=1e-5)
    assert bound[..., 6:].max() == 0 and free[..., 6:8].min() > 0.5
    assert torch.allclose(half[..., 6:8], free[..., 6:8] / 2, atol=1e-5)


def test_a_picture_is_the_same_alone_and_in_a_batch():
    clip, draw = load_clip(), torch.Generator().manual_seed(0)
    faces, change = torch.rand(2, 2, 3, 64, 64, generator=draw) - 0.5
    direction = torch.nn.functional.normalize(torch.ones(128), dim=0)
    with torch.inference_mode():  # as Lightning leaves pictures
        together = seen_region(left(0.9), clip, direction, faces, change / 2)
        alone = seen_region(left(0.9), clip, direction, faces[1:], change[1:] / 2)
    assert torch.allclose(together[1:], alone, atol=1e-3)


def test_large_pictures_have_a_region_of_their_size():
    large = torch.zeros(1, 3, 128, 128)
    region = seen_region(left(0.9), HalfBlind(), ALONG, large, large + 0.5)
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
    job, start = a_run(cfg, model, clip=load_clip(str(nets["clip"]))), start_at(images16(2))
    edit = load_edits(cfg, model)
    result, region = edit.apply(job, start, 1.0), edit.region(start)
    outside = (region == 0).expand_as(result)
    assert torch.equal(result[outside], start.sources.pixels[outside])
    other = write_edit(tmp_path / "o", tiny, nets["model16"], "tanned", 0.2)
    both = editing(f"[{smile},{other}]", gamma=2, metric="none")
    mixture = load_edits(both, model)
    assert isinstance(mixture.mixture, Mixture)
    mixture.apply(a_run(both, model, clip=job.networks.clip), start, 2.0)
    assert torch.allclose(mixture.regions(start)[0], region, atol=1e-3)


def test_a_run_measures_where_clip_usually_needs_it(tiny, tmp_path):
    more = {"dataset.train": 4, "dataset.test": 1, "metric": "none", "method.lora.rank": 2}
    where = {"edit.region_prior": 1, "edit.region_low": 0.2, "edit.region_high": 0.4}
    place = {"output": tmp_path, "degrees": "[]"}
    folder = run(*words({**tiny, **more, **where, **place}, **SEEN))
    usual = read_edit(str(folder)).usual
    assert usual.change is None and float(usual.seen.max()) == 1
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    changed = dclip.edit(dclip.load_model(str(tiny["checkpoint.name"])), faces, folder) != faces
    seldom = (usual.seen < 0.2).expand_as(changed)
    assert changed.any() and seldom.any() and not changed[seldom].any()


@pytest.mark.parametrize("region", ["auto", "clip"])
def test_a_prior_that_the_edit_does_not_know_is_told_of(editing, smile, model, caplog, region):
    load_edits(editing(smile, metric="none", edit__region=region, edit__region_prior=1), model)
    assert "edit.region_prior has no effect" in caplog.text


def test_the_pages_slider_stands_at_everywhere_only_where_there_is_no_region():
    """A region in which CLIP sees all of the edit is still one."""
    assert low_of(left(1.0)) > 0 and low_of(left(0.9)) == 0.1
    assert low_of(replace(EVERYWHERE, region_low=0.3)) == 0


def test_the_notebook_asks_the_clip_that_the_edit_was_learned_with(smile, model):
    pixels = images16(2).pixels
    where = dclip.edit(model, pixels, smile)
    assert not torch.equal(where, dclip.edit(model, pixels, smile, region="none"))
    assert where.shape == pixels.shape
