"""Where an edit may act."""

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.config.edit import Edit as EditOptions
from dclip.data.toonfaces.faces import sample_face
from dclip.edits.confined import Confined, confined
from dclip.edits.edit import DenoiserEdit
from dclip.edits.network import NetworkEdit
from dclip.edits.region import change_map, confine, followed, found_region, main_pieces, soften
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.methods.load import load_edits
from dclip.types import Images
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import configure, words

PLAIN = {"edit__region_follow": 0, "edit__region_gain": 1}  # the change as it is


def options(region="auto", **more):
    return EditOptions(name="", source="a", target="b", region=region, **more)


@pytest.fixture
def red(tiny, nets, tmp_path):
    return write_edit(tmp_path / "red", tiny, nets["model16"], "red_hair", 0.3, **PLAIN)


@pytest.fixture
def editing(tiny, nets):
    def build(adapter, **settings):
        groups = ("trainer", "logger", "clip", "metric")
        keep = {k: v for k, v in tiny.items() if k.split(".")[0] in groups}
        keep |= {"checkpoint.name": nets["model16"], "task": "edit", "edit.adapter": adapter}
        return configure(*words(keep, **settings))

    return build


# --------------------------------------------------------------------------- finding a region


def test_the_change_is_its_largest_channel_scaled_to_one():
    plain, edited = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    edited[0, 1, 2:5, 2:5] = 0.5
    d = change_map(edited - plain)
    assert float(d[0, 0, 3, 3]) == pytest.approx(1)
    assert float(d[0, 0, 1, 1]) == pytest.approx(1 / 9)
    assert float(d[0, 0, 6, 6]) == 0


def test_faint_parts_stay_with_their_core_and_faint_spots_go():
    d = torch.zeros(8, 8)
    d[1, 1:4] = torch.tensor([0.4, 0.9, 0.4])  # a core with faint sides
    d[2, 4] = 0.4  # touches it at a corner
    d[6, 6] = 0.4  # faint, alone
    expected = torch.zeros(8, 8)
    expected[1, 1:4] = 1
    expected[2, 4] = 1
    assert torch.equal(main_pieces(d, 0.3, 0.5), expected)


def test_a_small_strong_piece_goes_and_two_large_ones_stay():
    d = torch.zeros(12, 12)
    d[1:4, 1:4], d[6:9, 6:9], d[11, 0] = 0.8, 0.7, 1.0
    region = main_pieces(d, 0.3, 0.5)
    assert region.sum() == 18
    assert region[11, 0] == 0


def test_nothing_changed_is_no_region():
    x = images16(2).pixels
    assert found_region(options(), x - x).sum() == 0
    assert torch.equal(confine(x, x - x, found_region(options(), x - x)), x)


def test_a_border_is_soft_and_ends():
    hard = torch.zeros(1, 1, 21, 21)
    hard[..., 8:13, 8:13] = 1
    soft = soften(hard, 1.0)
    assert float(soft[0, 0, 10, 10]) > 0.95
    assert 0 < float(soft[0, 0, 10, 7]) < 1
    assert soft[..., :5, :].sum() == 0
    assert torch.equal(soften(hard, 0), hard)


def test_holes_of_a_pixel_are_closed():
    hard = torch.zeros(1, 1, 9, 9)
    hard[..., 2:7, 2:7] = 1
    hard[..., 4, 4] = 0
    assert soften(hard, 0)[0, 0, 4, 4] == 1


def test_quantile_takes_the_top_share_of_pixels():
    plain = torch.zeros(1, 3, 20, 20)
    edited = torch.linspace(0, 1, 400).view(1, 1, 20, 20).expand(1, 3, -1, -1)
    region = found_region(options("quantile", region_feather=0), edited - plain)
    assert 0.15 <= float(region.mean()) <= 0.65


def test_a_change_that_is_a_function_of_the_colour_stays_and_spill_goes():
    """Two flat colours side by side: one becomes red, and some of that spilled over the edge."""
    source = torch.full((1, 3, 16, 16), -0.5)
    source[..., 8:] = 0.5
    clean = torch.zeros(1, 3, 16, 16)
    clean[:, 0, :, :8] = 0.6
    again = followed(clean, source, 3)
    assert torch.allclose(again, clean, atol=5e-3)
    spilled = clean.clone()
    spilled[:, 0, 4:12, 8:10] = 0.6
    left = followed(spilled, source, 7)
    assert float(left[..., 8:].max()) < 0.3
    assert torch.allclose(left[..., :8], clean[..., :8], atol=5e-3)


def test_the_gain_is_of_the_change_alone():
    source, change = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2)
    region = torch.ones(1, 1, 4, 4)
    region[..., 0] = 0
    result = confine(source, change, region, 1.5)
    assert torch.allclose(result[..., 1:], torch.full((1, 3, 4, 3), 0.3))
    assert torch.equal(result[..., 0], source[..., 0])


# --------------------------------------------------------------------------- edits in a region


def edit_of(run, adapter):
    return load_edits(run.cfg, run.model)


def test_outside_of_its_region_an_edit_leaves_every_bit(editing, red, model):
    cfg = editing(red, edit__region="auto", edit__region_low=0.7, edit__region_high=0.8)
    run, start = a_run(cfg, model), start_at(images16(3))
    edit = edit_of(run, red)
    assert isinstance(edit, Confined)
    result, region = edit.apply(run, start, 1.0), edit.region(start)
    outside = (region == 0).expand_as(result)
    assert 0 < int(outside.sum()) < outside.numel()
    assert torch.equal(result[outside], start.sources.pixels[outside])
    assert not torch.equal(result, start.sources.pixels)


def test_at_degree_zero_the_source_comes_back_exactly(editing, red, model):
    run, start = a_run(editing(red, edit__region="auto"), model), start_at(images16(3))
    strip = edit_of(run, red).strip(run, start, [0.0, 0.5, 1.0, 1.5])
    assert torch.allclose(strip[:, 0], start.sources.pixels, atol=1e-6)
    assert torch.allclose(strip[:, 2], edit_of(run, red).apply(run, start, 1.0), atol=1e-5)


def test_an_edit_that_is_the_original_returns_the_source(editing, red, model):
    run, start = a_run(editing(red, edit__region="auto"), model), start_at(images16(3))
    nothing = Confined(DenoiserEdit(model, model.predict, ()))
    assert torch.equal(nothing.apply(run, start, 1.0), start.sources.pixels)


def test_the_region_is_the_whole_edits_at_every_degree(editing, red, model):
    run, start = a_run(editing(red, edit__region="auto"), model), start_at(images16(3))
    edit = edit_of(run, red)
    edit.apply(run, start, 0.5)
    half = edit.region(start)
    edit.apply(run, start, 1.0)
    assert torch.allclose(half, edit.region(start), atol=1e-3)


def test_noise_has_no_source_to_keep(editing, red, model):
    run, images = a_run(editing(red, edit__region="auto"), model), images16(2)
    noise = Encoded(images.ids, images.pixels)
    edit = edit_of(run, red)
    assert torch.equal(edit.apply(run, noise, 1.0), edit.edit.apply(run, noise, 1.0))


def test_a_picture_says_where(editing, red, model, tmp_path):
    drawn = np.zeros((32, 32), np.uint8)
    drawn[:, 16:], drawn[:, 24:] = 128, 255
    Image.fromarray(drawn).save(tmp_path / "where.png")
    cfg = editing(red, edit__region=tmp_path / "where.png")
    run, start = a_run(cfg, model), start_at(images16(2))
    edit = edit_of(run, red)
    result, source = edit.apply(run, start, 1.0), start.sources.pixels
    assert torch.equal(result[..., :6], source[..., :6])
    plain, whole = edit.edit.strip(run, start, [0.0, 1.0]).unbind(1)
    right = (source + (whole - plain)).clamp(-1, 1)[..., 14:]
    assert torch.allclose(result[..., 14:], right, atol=1e-5)
    half = (source + 128 / 255 * (whole - plain)).clamp(-1, 1)[..., 9:11]
    assert torch.allclose(result[..., 9:11], half, atol=0.02)


def test_several_edits_have_a_region_too(editing, red, model, tiny, nets, tmp_path):
    low = write_edit(tmp_path / "low", tiny, nets["model16"], "zombie", lora=True)
    narrow = {"edit__region_low": 0.7, "edit__region_high": 0.8}
    cfg = editing(f"[{red},{low}]", edit__region="auto", gamma=2, **narrow)
    run, start = a_run(cfg, model), start_at(images16(2))
    edit = load_edits(cfg, model)
    result, region = edit.apply(run, start, 2.0), edit.region(start)
    outside = (region == 0).expand_as(result)
    assert int(outside.sum()) > 0
    assert torch.equal(result[outside], start.sources.pixels[outside])


def test_the_true_region_is_where_the_true_picture_differs(tiny, nets):
    import dclip.edits.confined as module

    cfg = configure(*words(tiny, edit__region="truth", edit__region_feather=0))
    faces = [sample_face("test", i) for i in range(3)]
    from dclip.data.toonfaces.many import pictures_of
    from dclip.types import from_uint8

    pixels = from_uint8(pictures_of(faces))
    images = Images(pixels, ("a", "b", "c"), tuple(faces))
    run = a_run(cfg, None)
    region = module.region_of(run, Encoded(images.ids, pixels, images), pixels)
    truth = module.true_images(images, module.truth_of(cfg))
    differs = (truth - pixels).abs().amax(1, keepdim=True) > 1 / 255
    assert bool((region[differs] == 1).all())
    assert float(region.mean()) < 0.7


@pytest.mark.parametrize("where", [{"edit__name": "angry_owl"}, {"input": "docs/face.png"}])
def test_no_truth_is_said_before_anything_is_built(editing, red, where):
    with pytest.raises(DclipError, match=r"edit\.region=truth needs the true edited pictures"):
        editing(red, edit__region="truth", **where)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"edit__region": "nowhere.png"}, "edit.region=nowhere.png is no picture"),
        ({"edit__region_low": 0.9}, "edit.region_low=0.9 and edit.region_high=0.5"),
        ({"edit__region_feather": -1}, "edit.region_feather=-1"),
        ({"edit__region_follow": -2}, "edit.region_follow=-2"),
        ({"edit__region_gain": 0}, "edit.region_gain=0"),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(editing, red, settings, said):
    with pytest.raises(DclipError) as caught:
        editing(red, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- what an edit brings along


def test_an_edit_is_applied_where_it_was_learned_to_act(editing, tiny, nets, tmp_path):
    path = write_edit(tmp_path / "e", tiny, nets["model16"], "red_hair", edit__region="auto")
    assert editing(path).edit.region == "auto"
    assert editing(path, edit__region="none").edit.region == "none"
    old = write_edit(tmp_path / "o", tiny, nets["model16"], "red_hair", edit__region="none")
    assert editing(old).edit.region is None


def test_without_a_region_an_edit_is_what_it_was(editing, red, model):
    cfg = editing(red, edit__region="none")
    edit = NetworkEdit(model, model)
    assert confined(cfg, edit) is edit


def test_the_notebook_keeps_the_source_outside_of_the_region(model, tiny, nets, tmp_path):
    import dclip

    narrow = {"edit__region": "auto", "edit__region_low": 0.7, "edit__region_high": 0.8}
    path = write_edit(tmp_path / "e", tiny, nets["model16"], "red_hair", 0.3, **narrow, **PLAIN)
    x = images16(3).pixels
    everywhere, where = dclip.edit(model, x, path, region="none"), dclip.edit(model, x, path)
    kept = (where == x).all(1).float().mean()
    assert float((everywhere == x).all(1).float().mean()) < 0.01
    assert 0.05 < float(kept) < 1
    assert torch.allclose(dclip.edit(model, x, path, gamma=0.0), x, atol=1e-6)
    with pytest.raises(DclipError, match="region=moon does not exist here"):
        dclip.edit(model, x, path, region="moon")


def test_edits_of_different_regions_have_the_usual_one_in_any_order(editing, tiny, nets, tmp_path):
    following = {"edit__region_follow": 6, "edit__region_low": 0.1}
    one = write_edit(tmp_path / "1", tiny, nets["model16"], "red_hair", 0.3, **following)
    two = write_edit(tmp_path / "2", tiny, nets["model16"], "tanned", 0.1, **PLAIN)
    free = write_edit(tmp_path / "3", tiny, nets["model16"], "zombie", 0.1, edit__region="none")
    for pair in (f"[{one},{two}]", f"[{two},{one}]"):
        edit = editing(pair).edit
        assert (edit.region, edit.region_low, edit.region_follow) == ("auto", 0.3, 0)
    assert editing(f"[{one},{one}]").edit.region_follow == 6
    assert editing(f"[{one},{free}]").edit.region is None
