"""What an edit usually does."""

import pytest
import torch

import dclip
from dclip.edits.colors import mean_within
from dclip.edits.region import with_prior
from dclip.edits.saved import read_edit
from dclip.edits.usual import Usual, mean_color, mean_map, origin_map, read, share_map, written
from dclip.errors import DclipError
from dclip.methods.load import load_edits
from dclip.models.checkpoints import load_model
from dclip.types import Images
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import run, words

PRIOR = {
    "edit.region": "auto",
    "edit.region_colors": 0,
    "edit.region_low": 0.3,
    "edit.region_high": 0.5,
    "edit.region_prior": 1,
    "edit.region_follow": 0,
    "edit.region_palette": 0,
}


def test_the_usual_change_decides_by_its_share():
    d, usual = torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8)
    d = d / d.flatten(1).amax(1).view(-1, 1, 1, 1)
    usual = usual / usual.max()
    assert torch.allclose(with_prior(d, usual, 0.0), d)
    assert torch.allclose(with_prior(d, usual, 1.0), usual.expand_as(d))
    half = (d * usual).sqrt()
    assert torch.allclose(
        with_prior(d, usual, 0.5), half / half.flatten(1).amax(1).view(-1, 1, 1, 1)
    )


def test_a_map_is_written_into_a_header_and_read_back():
    for side in (16, 128):
        usual = mean_map(torch.rand(3, 3, side, side))
        assert usual.shape == (1, 1, min(side, 64), min(side, 64))
        assert torch.equal(read(written(Usual(change=usual))).change, usual)
    assert written(Usual()) == {} and read({}) == Usual()


def test_an_origin_and_a_share_are_written_into_a_header_and_read_back():
    source, region = torch.rand(3, 3, 128, 128), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    region[..., 50:, :] = True
    change = torch.zeros_like(source)
    change[..., 100:, :] = (source[..., :1, :1] - source)[..., 100:, :]
    origin = origin_map(source, change, region)
    assert origin.shape == (1, 1, 64, 64) and float(origin.max()) == 1
    assert float(origin[..., 50:, :].max()) == 0
    assert torch.equal(read(written(Usual(origin=origin))).origin, origin)
    share = share_map(source, change, origin, 0.1)
    assert share.shape == (1, 1, 64, 64) and 0 < float(share.max()) <= 1
    assert float(share[..., :50, :].max()) == 0
    assert torch.equal(read(written(Usual(share=share))).share, share)


@pytest.mark.parametrize(
    "entry", [{}, {"side": 4, "values": "?"}, {"side": 9, "values": "eJxjYAAAAAQAAQ=="}, 3]
)
def test_a_broken_map_is_said_in_one_line(entry):
    for key, said in (
        ("change", "where it usually acts"),
        ("origin", "where its colours usually"),
        ("share", "how far it usually goes"),
    ):
        with pytest.raises(DclipError, match=f"does not say {said}") as caught:
            read({f"usual_{key}": entry})
        assert "\n" not in str(caught.value)


def test_a_colour_is_written_into_a_header_and_read_back():
    edited, region = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    edited[0, :, :4], region[:, :, :4] = torch.tensor([1.0, -1.0, 0.5])[:, None, None], 1
    color = mean_color(edited, region)
    assert color.tolist() == [0.5, -0.5, 0.25]
    assert torch.equal(read(written(Usual(color=color))).color, color)
    assert read(written(Usual(change=region[:1]))).color is None


@pytest.mark.parametrize("entry", [3, [0.1], [0, 0, 2], [0, 0, float("nan")], ["a", "b", "c"]])
def test_what_is_no_colour_is_said_in_one_line(entry):
    with pytest.raises(DclipError, match="in what colour it usually draws"):
        read({"usual_color": entry})


@pytest.fixture(scope="module")
def learned(tiny, tmp_path_factory):
    more = {"dataset.train": 4, "dataset.test": 1, "metric": "none", "method.lora.rank": 2}
    place = {"output": tmp_path_factory.mktemp("usual"), "degrees": "[]"}
    return run(*words({**tiny, **PRIOR, **more, **place, "method.epochs": 2}))


@pytest.fixture(scope="module")
def model(nets):
    return load_model(str(nets["model64"]))


def pictures(count):
    pixels = torch.rand(count, 3, 64, 64) - 0.5
    return Images(pixels, tuple(map(str, range(count))))


def regions_of(cfg, model):
    start = start_at(pictures(3))
    edit = load_edits(cfg, model)
    edit.apply(a_run(cfg, model), start, 1.0)
    return edit.region(start)


def test_a_run_measures_it_and_all_pictures_share_the_region(editing, learned, model, nets):
    base = {"checkpoint__name": nets["model64"]}
    usual = read_edit(str(learned)).usual.change
    assert usual is not None and float(usual.max()) == 1
    assert read_edit(str(learned)).usual.origin is None
    regions = regions_of(editing(learned, **base), model)
    assert torch.equal(regions[0], regions[1]) and float(regions.mean()) > 0
    own = regions_of(editing(learned, edit__region_prior=0, **base), model)
    assert not torch.equal(own[0], own[1])


def test_a_run_measures_the_shape_and_draws_it(tiny, editing, model, nets, tmp_path):
    more = {"dataset.train": 4, "dataset.test": 1, "metric": "none", "method.lora.rank": 2}
    place = {"output": tmp_path, "degrees": "[]", "method.epochs": 2, "edit.region_palette": 0.1}
    folder = run(*words({**tiny, **PRIOR, **more, **place}))
    usual = read_edit(str(folder)).usual
    assert float(usual.origin.max()) == 1 and float(usual.share.max()) > 0
    cfg = editing(folder, edit__region_gain=4, checkpoint__name=nets["model64"])
    regions = regions_of(cfg, model)
    assert 0 < float(regions.mean()) < 1 and set(regions.unique().tolist()) == {0.0, 1.0}


def test_edits_are_drawn_in_their_usual_colour(editing, learned, model, nets):
    start, saved = start_at(pictures(3)), read_edit(str(learned))
    spread = []
    for share in (0, 1):
        cfg = editing(learned, edit__region_tint=share, checkpoint__name=nets["model64"])
        edit = load_edits(cfg, model)
        drawn = edit.apply(a_run(cfg, model), start, 1.0)
        means = mean_within(drawn, edit.region(start))
        spread.append(float((means - saved.usual.color).abs().max()))
    assert spread[1] < 0.1 < spread[0]


@pytest.mark.parametrize("setting", ["region_tint", "region_palette"])
def test_an_edit_that_does_not_know_its_colours_is_told_of(
    editing, model, tiny, nets, tmp_path, caplog, setting
):
    path = write_edit(tmp_path / "red", tiny, nets["model64"], "red_hair", lora=True)
    for share, said in ((0, False), (0.5, True)):
        more = {"edit__region_tint": 0, f"edit__{setting}": share}
        load_edits(editing(path, checkpoint__name=nets["model64"], **more), model)
        assert (f"edit.{setting} has no effect" in caplog.text) is said
    assert "learn it again" in caplog.text
    both = {"mix__soup": True, "edit__region": "auto", f"edit__{setting}": 0.5}
    load_edits(editing(f"[{path},{path}]", checkpoint__name=nets["model64"], **both), model)
    assert "a soup does not know" in caplog.text
    caplog.clear()
    both |= {"mix__soup": False}
    load_edits(editing(f"[{path},{path}]", checkpoint__name=nets["model64"], **both), model)
    assert f"edit.{setting} has no effect: several edits in one region" in caplog.text


def test_an_epochs_edit_acts_where_the_finished_one_does(learned):
    epoch = read_edit(f"{learned}/epochs/epoch_01.safetensors")
    assert torch.equal(epoch.usual.change, read_edit(str(learned)).usual.change)


def test_the_notebook_uses_it_too(learned, model):
    pixels = pictures(2).pixels
    changed = (dclip.edit(model, pixels, str(learned)) != pixels).any(1)
    assert 0 < float(changed.float().mean()) < 1


def test_too_few_images_do_not_say_it(tiny, tmp_path):
    more = {"dataset.train": 2, "dataset.test": 1, "metric": "none", "method.lora.rank": 2}
    folder = run(*words({**tiny, **PRIOR, **more, "output": tmp_path, "degrees": "[]"}))
    assert read_edit(str(folder)).usual == Usual()
    assert "2 images do not say what" in (folder / "run.log").read_text("utf-8")
