"""New shapes in a colour that the picture has."""

from dataclasses import replace

import pytest
import torch

from dclip.config.edit import Edit as EditOptions
from dclip.edits.edit import Edit
from dclip.edits.matte import Matte, Palette, origin_of, usual_share
from dclip.edits.place import Place, acted_apart, mean_weights
from dclip.edits.usual import Usual, matte_of

OPTIONS = EditOptions(source="a", target="b", region="auto", region_palette=0.1, region_gain=1.0)
SHAPE = (..., slice(16, 20), slice(8, 16))  # of the beard
HAIR = (-0.6, 0.0, -0.2, 0.3)  # four pictures


def bearded() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Palette]:
    """Hair above, skin below, and where beards go: sources, true pictures, mask, palette."""
    source = torch.full((4, 3, 24, 24), 0.6)
    source[..., :8, :] = torch.tensor(HAIR)[:, None, None, None]
    truth, mask, origin = source.clone(), torch.zeros(4, 1, 24, 24), torch.zeros(1, 1, 24, 24)
    truth[SHAPE] = torch.tensor(HAIR)[:, None, None, None]
    mask[SHAPE], origin[..., :4, :] = 1, 1
    return source, truth, mask, Palette(origin, 0.1)


def test_the_matte_of_true_pictures_is_their_shape():
    source, truth, mask, palette = bearded()
    share = usual_share(palette, source, truth - source)
    assert torch.allclose(share, mask[:1], atol=0.02)
    matte = Matte.of(palette, share, source, truth - source, 1.0, 0.35)
    assert torch.equal(matte.region, mask)
    laid = matte.laid_over(source, matte.region, 1.0)
    assert torch.allclose(laid, truth, atol=0.03)
    assert torch.equal(laid.where(mask == 0, 0.0), source.where(mask == 0, 0.0))


def test_what_is_drawn_in_another_colour_and_with_noise_has_the_same_shape():
    source, truth, mask, palette = bearded()
    noise = 0.05 * torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    red = torch.tensor([0.2, -0.1, -0.1])[:, None, None] * mask
    change = truth - source + noise + red
    share = usual_share(palette, source, change)
    assert (
        float(share[..., :8, :].max()) < 0.1
    )  # hair changes a little, but is of the colour already
    assert float((share - mask[:1]).abs().max()) < 0.3
    matte = Matte.of(palette, share, source, change, 1.0, 0.35)
    assert float((matte.region != mask).float().mean()) < 0.01
    laid = matte.laid_over(source, matte.region, 1.0)
    assert float((laid - truth).abs().mean()) < 0.2 * float((change - truth + source).abs().mean())


def test_a_faint_beard_has_the_shape_of_plain_ones_and_a_plain_one_its_own():
    source, truth, mask, palette = bearded()
    source[3, :, :8], truth[3, :, :8] = 0.55, 0.55  # nearly the skin's
    none = torch.zeros_like(source)
    matte = Matte.of(palette, mask[:1], source, none, 1.0, 0.35)
    assert float(matte.share[3][SHAPE].min()) > 0.99
    dark = matte.share[0, 0, 17, 10]  # |o - x|^2 is 3 * 1.2^2
    assert float(dark) == pytest.approx(3 / (3 + 4.32), abs=1e-3)


def test_the_degree_goes_with_gamma_and_nothing_is_drawn_below_zero():
    source, truth, mask, palette = bearded()
    matte = Matte.of(palette, mask[:1], source, truth - source, 1.0, 0.35)
    half = matte.laid_over(source, mask, 0.5)
    assert torch.allclose(half, (source + truth) / 2, atol=1e-4)
    for gamma in (0.0, -1.0):
        assert torch.equal(matte.laid_over(source, mask, gamma), source)
    assert torch.allclose(matte.laid_over(source, mask, 2.0), truth, atol=1e-4)
    within = mask.clone()
    within[..., :18, :] = 0.5  # a grey part of a mask
    for gamma in (1.0, 2.5):
        laid = matte.laid_over(source, within, gamma)
        assert torch.allclose(laid[..., 17, 10], half[..., 17, 10], atol=1e-4)


def test_what_is_thin_is_left_out():
    source, truth, mask, palette = bearded()
    matte = Matte.of(palette, 0.3 * mask[:1], source, 0.2 * (truth - source), 1.0, 0.35)
    assert float(matte.region.sum()) == 0
    assert torch.equal(matte.laid_over(source, matte.region, 1.0), source)
    lower = Matte.of(palette, 0.3 * mask[:1], source, 0.2 * (truth - source), 1.0, 0.1)
    assert torch.equal(lower.region, mask)


def test_the_colour_is_the_most_common_one_of_its_origin():
    source, _, _, palette = bearded()
    source[..., 1, :] = 0.9  # a stripe
    assert torch.allclose(palette.colors(source), torch.tensor(HAIR)[:, None].expand(4, 3))
    everywhere = Palette(torch.ones(1, 1, 24, 24), 0.1)
    assert torch.allclose(everywhere.colors(source), torch.full((4, 3), 0.6), atol=0.01)
    tiny = Palette(palette.origin, 1e-6)
    assert bool(tiny.colors(source).isfinite().all())
    nowhere = Palette(torch.zeros(1, 1, 24, 24), 0.1)
    assert torch.allclose(nowhere.colors(source), everywhere.colors(source))


def test_the_origin_is_where_the_colour_is_that_explains_the_change():
    source, truth, mask, _ = bearded()
    draw = torch.Generator().manual_seed(0)
    other = torch.rand(4, 3, 8, 4, generator=draw)
    source[..., 8:16, :4] = truth[..., 8:16, :4] = other
    region = mask[:1] > 0
    for drawn in (truth, (truth + source) / 2 + 0.02 * torch.randn(source.shape, generator=draw)):
        found = origin_of(source, drawn - source, region)
        assert float(found.max()) == 1 and float(found[..., :8, :].min()) > 0.9
        assert float(found[..., 8:, :].max()) < 0.01
    brown = torch.tensor([0.1, -0.1, -0.3])[:, None, None]  # whatever the hair, but darker with it
    drawn = torch.where(mask > 0, 0.5 * (truth + brown), source)
    assert float(origin_of(source, drawn - source, region)[..., 8:, :].max()) < 0.01


def usual() -> Usual:
    source, truth, _, palette = bearded()
    share = usual_share(palette, source, truth - source)
    return Usual(origin=palette.origin, share=share)


def edit_of(known: Usual, degree: float = 1.0) -> Edit:
    edit = Edit()
    edit.usual, edit.degree = known, degree
    return edit


def beard(source: torch.Tensor, truth: torch.Tensor, degree: float = 1.0) -> Place:
    return Place.of(
        OPTIONS, edit_of(usual(), degree), source, truth, source, find=lambda change: change[:, :1]
    )


def test_a_mixed_beard_is_of_the_hair_and_on_the_skin_that_other_edits_left():
    source, truth, mask, _ = bearded()
    hair = torch.zeros_like(mask)
    hair[..., :8, :] = 1
    red = torch.where(hair > 0, torch.tensor([0.8, -0.6, -0.6])[:, None, None], source)
    plain = replace(OPTIONS, region_palette=0)
    place = Place.of(plain, edit_of(Usual()), source, red, source, find=lambda change: hair)
    mixed = torch.where(hair > 0, red, truth)  # with a beard in the old colour
    made = acted_apart([beard(source, truth), place], source, mixed, source, [1.0, 1.0])
    assert torch.allclose(made[..., :8, :], red[..., :8, :], atol=1e-6)
    assert torch.allclose(made[..., 17, 10], torch.tensor([0.8, -0.6, -0.6]), atol=0.02)
    assert torch.equal(made[..., 21:, :], source[..., 21:, :])
    half = acted_apart([beard(source, truth), place], source, mixed, source, [0.5, 1.0])
    assert torch.allclose(half[:, 0, 17, 10], torch.tensor(0.7), atol=0.02)
    alone = acted_apart([beard(source, truth)], source, mixed, source, [1.0])
    assert torch.allclose(alone, truth, atol=0.03)


def test_a_calibrated_degree_is_that_of_the_matte():
    """gamma = 1 of an edit at degree d is what degree d of the whole edit was."""
    source, truth, _, _ = bearded()
    drawn = source + 0.7 * (truth - source)
    whole = beard(source, drawn)
    for degree in (0.2, 0.5, 1.4):
        at_degree = source + degree * (drawn - source)
        place = beard(source, at_degree, degree)
        for gamma in (0.5, 1.0):
            expected = whole.acted(source, drawn, source, gamma * degree)
            made = place.acted(source, at_degree, source, gamma)
            assert torch.allclose(made, expected, atol=1e-5)


def test_below_zero_an_edit_acts_as_it_draws():
    source, truth, _, _ = bearded()
    place, away = beard(source, truth), 2 * source - truth
    acted = place.acted(source, away, source, -1.0)
    assert torch.allclose(acted, away.clamp(-1, 1), atol=1e-6)
    assert torch.equal(acted_apart([place], source, away, source, [-1.0]), source)


def test_a_mixed_beard_leaves_no_trace_in_an_edit_of_the_same_skin():
    source, truth, mask, _ = bearded()
    skin = torch.zeros_like(mask)
    skin[..., 8:, :] = 1
    tan = torch.where(skin > 0, source - 0.2, source)
    options = replace(OPTIONS, region_palette=0, region_colors=0.9)
    tanned = Place.of(options, edit_of(Usual()), source, tan, source, find=lambda change: skin)
    places = [beard(source, source + 0.6 * (truth - source)), tanned]
    assert float(places[0].mixed_region.max()) == 0
    assert torch.equal(places[1].mixed_region, skin)
    made = acted_apart(places, source, tan, source, [1.0, 1.0])
    beside = (mask == 0) & (skin > 0)
    assert torch.allclose(made.where(beside, 0.0), tan.where(beside, 0.0), atol=1e-5)


def test_a_mask_keeps_the_shape_within_it():
    source, truth, mask, _ = bearded()
    left = torch.zeros_like(mask)
    left[..., :12] = 1
    options = replace(OPTIONS, region="truth")  # as a file's
    place = Place.of(options, edit_of(usual()), source, truth, source, find=lambda change: left)
    acted = place.acted(source, truth, source, 1.0)
    assert torch.allclose(acted[..., :12], truth[..., :12], atol=0.03)
    assert torch.equal(acted[..., 12:], source[..., 12:])
    assert torch.equal(place.region, left * beard(source, truth).region)


def test_there_is_none_without_what_it_needs():
    source, truth, _, _ = bearded()
    known = usual()
    assert matte_of(OPTIONS, known, source, truth - source) is not None
    for options, what in (
        (replace(OPTIONS, region_palette=0), known),
        (OPTIONS, replace(known, share=None)),
        (OPTIONS, replace(known, origin=None)),
    ):
        assert matte_of(options, what, source, truth - source) is None
    everywhere = replace(OPTIONS, region="none")
    place = Place.of(everywhere, edit_of(known), source, truth, source, find=lambda change: change)
    assert place.matte is None and float(place.region.min()) == 1


def test_weights_that_change_over_the_steps_count_on_average(tiny):
    from helpers.runs import configure, words

    sampler = configure(*words(tiny, sampler__t0=100, sampler__s_gen=4)).sampler
    weights = mean_weights(lambda t: (1.0, 0.0) if t > 50 else (0.0, 1.0), sampler)
    assert sum(weights) == pytest.approx(1) and 0.2 < weights[0] < 0.8
