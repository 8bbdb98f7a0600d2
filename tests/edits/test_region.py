"""Where an edit may act."""

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.config.edit import Edit as EditOptions
from dclip.data.toonfaces.faces import sample_face
from dclip.diffusion.sampler import Prediction
from dclip.edits.confined import Confined, ConfinedMixture, confined
from dclip.edits.edit import DenoiserEdit, Mixture
from dclip.edits.network import NetworkEdit
from dclip.edits.region import (
    change_map,
    close_holes,
    confine,
    followed,
    found_region,
    main_pieces,
    soften,
)
from dclip.edits.weights import weights_of
from dclip.encode.encoded import Encoded
from dclip.encode.invert import encode
from dclip.errors import DclipError
from dclip.methods.load import load_edits
from dclip.types import Images
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import configure, words

PLAIN = {
    "edit__region_colors": 0,
    "edit__region_follow": 0,
    "edit__region_gain": 1,
    "edit__region_low": 0.3,
}  # the change as it is


def options(region="auto", **more):
    return EditOptions(name="", source="a", target="b", region=region, **more)


@pytest.fixture
def red(tiny, nets, tmp_path):
    return write_edit(tmp_path / "red", tiny, nets["model16"], "red_hair", 0.3, **PLAIN)


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
    assert found_region(options(), x, x - x).sum() == 0
    assert torch.equal(confine(x, x - x, found_region(options(), x, x - x)), x)


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
    assert close_holes(hard)[0, 0, 4, 4] == 1


def test_quantile_takes_the_top_share_of_pixels():
    plain = torch.zeros(1, 3, 20, 20)
    edited = torch.linspace(0, 1, 400).view(1, 1, 20, 20).expand(1, 3, -1, -1)
    region = found_region(options("quantile", region_feather=0), plain, edited - plain)
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


def test_a_change_is_confined_to_its_region():
    source, change = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2)
    region = torch.ones(1, 1, 4, 4)
    region[..., 0] = 0
    result = confine(source, change, region)
    assert torch.allclose(result[..., 1:], torch.full((1, 3, 4, 3), 0.2))
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
    start = Encoded(images.ids, pixels, images)
    region = module.region_of(run, cfg.edit, start, pixels)
    truth = module.true_images(images, module.truth_of(cfg))
    differs = (truth - pixels).abs().amax(1, keepdim=True) > 1 / 255
    assert bool((region[differs] == 1).all())
    assert float(region.mean()) < 0.7


@pytest.mark.parametrize(
    "where", [{"edit__name": "angry_owl"}, {"edit__name": "sketch"}, {"input": "docs/face.png"}]
)
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
        ({"edit__region_feather": 1000}, "edit.region_feather=1000.0 must be 0 (off) to 64 pixels"),
        ({"edit__region_follow": 100000}, "edit.region_follow=100000 must be 0 (off) to 64 pixels"),
        ({"edit__region_gain": 0}, "edit.region_gain=0"),
        ({"edit__region_colors": 1}, "edit.region_colors=1"),
        ({"edit__region_palette": 3}, "edit.region_palette=3.0 is a distance of colours"),
        ({"edit__region_tint": 1.5}, "edit.region_tint=1.5 is a share"),
        ({"edit__region_prior": 1.5}, "edit.region_prior=1.5 is a share"),
        ({"edit__region_share": 0}, "edit.region_share=0.0 is a share"),
        ({"edit__regions": "auto"}, "edit.regions=auto must be a list"),
        ({"edit__regions": "[auto,none]"}, "edit.regions has 2 regions for 1 edit"),
        ({"edit__regions": "[{low: 3}]"}, "edit.regions[0] has low; choose region, region_low"),
        ({"edit__regions": "[truth]"}, "edit.regions has truth; of several edits each has auto"),
        ({"edit__regions": "[Auto]"}, "did you mean auto?"),
        ({"edit__regions": "[5]"}, "edit.regions[0] has 5, which is no region"),
        ({"edit__regions": "[{region_low: abc}]"}, "edit.regions[0].region_low=abc is no number"),
        ({"edit__regions": "[{region_follow: 2.5}]"}, "region_follow=2.5 is no whole number"),
        ({"edit__regions": "[auto]", "mix__soup": "true"}, "edit.regions is for edits that are"),
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
    path = write_edit(tmp_path / "e", tiny, nets["model16"], "red_hair", 0.3, **PLAIN | narrow)
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
        edit = editing(pair, mix__soup="true").edit
        assert (edit.region, edit.region_low, edit.region_follow) == ("auto", 0.3, 0)
    assert editing(f"[{one},{one}]", mix__soup="true").edit.region_follow == 6
    assert editing(f"[{one},{free}]", mix__soup="true").edit.region is None


def own_regions(edit):
    return [(own.region, own.region_low, own.region_follow) for own in edit.each]


def test_mixed_edits_have_each_the_region_that_they_were_learned_with(
    editing, tiny, nets, tmp_path
):
    following = {"edit__region_follow": 6, "edit__region_low": 0.1}
    one = write_edit(tmp_path / "1", tiny, nets["model16"], "red_hair", 0.3, **following)
    two = write_edit(tmp_path / "2", tiny, nets["model16"], "tanned", 0.1, **PLAIN)
    free = write_edit(tmp_path / "3", tiny, nets["model16"], "zombie", 0.1, edit__region="none")
    usual, own = ("auto", 0.3, 0), ("auto", 0.1, 6)
    assert own_regions(editing(f"[{one},{two}]").edit) == [own, usual]
    assert own_regions(editing(f"[{free},{one}]").edit)[1] == own
    assert own_regions(editing(f"[{free},{one}]").edit)[0][0] == "none"
    told = editing(f"[{one},{two}]", edit__region_low=0.2).edit
    assert own_regions(told) == [("auto", 0.2, 6), ("auto", 0.2, 0)]
    typed = editing(f"[{one},{two}]", edit__regions="[none,{region: quantile}]").edit
    assert [own.region for own in typed.each] == ["none", "quantile"]
    assert editing(f"[{one},{two}]", edit__region="none").edit.each == []
    assert editing(f"[{free},{free}]").edit.regions is None


# ------------------------------------------------------------------------------- several edits


def shifting(model, place, amount):
    """An edit whose denoiser differs from the model's in one place only, by ``amount``."""

    def eps_fn(x, t):
        shift = torch.zeros_like(x)
        shift[..., place, place] = amount
        return Prediction(shift)

    return DenoiserEdit(model, eps_fn, ())


@pytest.fixture
def still(model, monkeypatch):
    """A model that predicts no noise, pixel by pixel."""
    monkeypatch.setattr(model, "predict", lambda x, t: Prediction(torch.zeros_like(x)))
    return model


LEFT, RIGHT, MIDDLE = slice(1, 5), slice(10, 14), slice(3, 12)
HARD = {
    "edit__region_feather": 0,
    "edit__region_colors": 0,
    "edit__region_gain": 1,
    "edit__region_follow": 0,
}


def mixed(editing, red, model, places, gamma=2.0, regions="[auto,auto]", **settings):
    """(source, result, the mixture, a run) of two synthetic edits, mixed half and half."""
    cfg = editing(f"[{red},{red}]", edit__regions=regions, gamma=gamma, **HARD, **settings)
    run, start = a_run(cfg, model), start_at(images16(3))
    edits = [shifting(model, places[0], 0.4), shifting(model, places[1], -0.3)]
    mixture = confined(cfg, Mixture(model, edits, weights_of(None, 2, cfg.sampler.t0)))
    assert isinstance(mixture, ConfinedMixture)
    return start.sources.pixels, mixture.apply(run, start, gamma), mixture, run


def test_each_of_two_edits_acts_in_its_own_region_alone(editing, red, still):
    source, result, mixture, run = mixed(editing, red, still, (LEFT, RIGHT))
    start = start_at(images16(3))
    alone = [Confined(edit).apply(run, start, 1.0) for edit in mixture.mixture.edits]
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[LEFT, LEFT] = outside[RIGHT, RIGHT] = False
    assert torch.equal(result[..., outside], source[..., outside])
    for place, one in zip((LEFT, RIGHT), alone, strict=True):
        assert torch.allclose(result[..., place, place], one[..., place, place], atol=1e-5)
        assert float((one - source)[..., place, place].abs().mean()) > 0.1
    kept = mixture.region(start)[:, 0] == 0
    assert bool(kept[:, 7, 7].all()) and not bool(kept[:, ~outside].any())


def test_where_regions_overlap_the_edits_are_mixed_as_usual(editing, red, still):
    source, result, mixture, run = mixed(editing, red, still, (LEFT, MIDDLE))
    plain, usual = mixture.mixture.strip(run, start_at(images16(3)), [0.0, 2.0]).unbind(1)
    both = slice(3, 5)
    right = (source + usual - plain).clamp(-1, 1)[..., both, both]
    assert torch.allclose(result[..., both, both], right, atol=1e-5)
    assert torch.equal(result[..., 13:], source[..., 13:])


def test_an_edit_without_a_region_acts_everywhere_beside_one_that_has(editing, red, still):
    _, result, _, _ = mixed(editing, red, still, (LEFT, RIGHT), regions="[auto,none]")
    _, apart, _, _ = mixed(editing, red, still, (LEFT, RIGHT))
    assert torch.allclose(result, apart, atol=1e-5)


def test_each_edit_has_its_own_gain(editing, red, still):
    regions = "[{region: auto, region_gain: 1.5},auto]"
    source, result, _, _ = mixed(editing, red, still, (LEFT, RIGHT), gamma=0.5, regions=regions)
    _, plain, _, _ = mixed(editing, red, still, (LEFT, RIGHT), gamma=0.5)
    left, right = (LEFT, LEFT), (RIGHT, RIGHT)
    inner = (source.abs() < 0.4)[..., LEFT, LEFT]
    made, one = (result - source)[..., *left][inner], (plain - source)[..., *left][inner]
    assert torch.allclose(made, 1.5 * one, atol=1e-5)
    assert torch.allclose(result[..., *right], plain[..., *right], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_batch_size_never_changes_edits_in_their_regions(
    editing, red, model, tiny, nets, tmp_path, batch
):
    low = write_edit(tmp_path / "low", tiny, nets["model16"], "zombie", lora=True)
    found = []
    for size in (batch, 25):
        cfg = editing(f"[{red},{low}]", trainer__batch=size, gamma=2, sampler__eta=0.5)
        strip = load_edits(cfg, model).strip(a_run(cfg, model), start_at(images16(3)), [1.0, 2.0])
        found.append(strip)
    assert found[0].shape == (3, 2, 3, 16, 16)
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_the_notebook_keeps_edits_apart_as_a_run_does(editing, red, model, tiny, nets, tmp_path):
    import dclip

    low = write_edit(tmp_path / "low", tiny, nets["model16"], "zombie", lora=True, **PLAIN)
    cfg = editing(f"[{red},{low}]", gamma=2)
    images = images16(2)
    run = a_run(cfg, model)
    expected = load_edits(cfg, model).apply(run, encode(run, images), 2.0)
    made = dclip.edit(model, images.pixels, [red, low], gamma=2.0)
    assert torch.allclose(made, expected, atol=1e-3)
