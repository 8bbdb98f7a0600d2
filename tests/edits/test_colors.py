"""Regions and changes that are functions of the source's colours."""

from dataclasses import replace

import torch

from dclip.config.edit import Edit
from dclip.edits.colors import (
    Tint,
    by_color,
    edge_shares,
    like_core,
    mean_within,
)
from dclip.edits.region import acting_in, found_region

OPTIONS = Edit(
    source="a",
    target="b",
    region="auto",
    region_low=0.2,
    region_high=0.6,
    region_feather=0,
    region_colors=0.9,
)


def stripes() -> torch.Tensor:
    """Three flat colours [1,3,24,24]: the left third, the middle, the right third."""
    source = torch.empty(1, 3, 24, 24)
    for place, value in enumerate((-0.6, 0.0, 0.6)):
        source[..., 8 * place : 8 * place + 8] = value
    return source


def spilled() -> torch.Tensor:
    """A change [1,3,24,24] of the left third, strong above and faint below, spilled to the middle."""
    change = torch.zeros(1, 3, 24, 24)
    change[:, 0, :12, :8], change[:, 0, 12:, :8] = 1.0, 0.4
    change[:, 0, :, 8:12] = 0.3
    return change


def test_a_pixel_is_like_the_core_by_its_colour():
    source = stripes()[0]
    core, left = torch.zeros(24, 24, dtype=torch.bool), torch.zeros(24, 24, dtype=torch.bool)
    core[:4, :4], left[:, 8:] = True, True
    surely = like_core(source, core, left)
    assert surely[:, :8].min() > 0.99
    assert surely[:, 8:].max() < 0.01


def test_without_a_core_nothing_is_like_it():
    nothing = torch.zeros(24, 24, dtype=torch.bool)
    assert like_core(stripes()[0], nothing, ~nothing).max() == 0


def test_the_region_has_the_cores_colours_and_no_others():
    region = found_region(OPTIONS, stripes(), spilled())
    expected = torch.zeros(1, 1, 24, 24)
    expected[..., :8] = 1
    assert torch.equal(region, expected)


def test_it_does_not_reach_where_the_edit_does_nothing():
    change = spilled()
    change[:, 0, 12:] = 0  # the same colour, unchanged
    region = found_region(OPTIONS, stripes(), change)
    assert region[..., 14:, :].sum() == 0


def test_a_core_without_colours_of_its_own_is_the_region():
    region = found_region(OPTIONS, torch.zeros(1, 3, 24, 24), spilled())
    expected = torch.zeros(1, 1, 24, 24)
    expected[..., :12, :8] = 1
    assert float((region - expected).abs().mean()) < 0.02  # d is smoothed over 3x3 pixels


def test_one_colour_changes_alike_and_most_by_what_changes_most():
    source, change = stripes(), spilled()
    region = found_region(OPTIONS, source, change)
    result = acting_in(OPTIONS, region, source, source + change, source)
    made = (result - source)[:, 0, :, :8]
    assert float(made.max() - made.min()) < 1e-5
    expected = (1.0**3 + 0.4**3) / (1.0**2 + 0.4**2)  # weights: the squared change
    assert abs(float(made.mean()) - expected) < 1e-3
    assert torch.equal(result[..., 8:], source[..., 8:])


def smoothed() -> torch.Tensor:
    """The stripes, with columns between them that are three tenths of the left one."""
    source = stripes()
    source[..., 8] = 0.3 * source[..., 7] + 0.7 * source[..., 9]
    return source


def test_a_pixel_of_the_edge_has_the_share_that_its_colour_shows():
    region = torch.zeros(1, 1, 24, 24)
    region[..., :9] = 1
    shares = edge_shares(smoothed(), region)
    assert float((shares[..., 8] - 0.3).abs().max()) < 1e-3
    region[..., 8] = 0  # whether it was taken for the one side or for the other
    assert torch.allclose(edge_shares(smoothed(), region), shares, atol=1e-3)
    assert torch.equal(shares[..., :8], torch.ones(1, 1, 24, 8))
    assert torch.equal(shares[..., 9:], torch.zeros(1, 1, 24, 15))


def test_an_edge_in_a_third_colour_stays():
    source, region = stripes(), torch.zeros(1, 1, 24, 24)
    region[..., :9] = 1
    source[..., 8] = torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1)
    assert torch.equal(edge_shares(source, region), region)


def test_a_piece_changes_as_a_whole_where_a_quarter_of_it_does():
    options = replace(OPTIONS, region_colors=0.7)
    change = torch.zeros(1, 3, 24, 24)
    change[:, 0, :8, :8] = 1
    assert found_region(options, stripes(), change)[..., :8].min() == 1
    change[:, 0, 4:] = 0  # a sixth
    assert found_region(options, stripes(), change)[..., 6:, :8].max() == 0


def test_the_edge_of_what_is_too_thin_to_have_a_colour_of_its_own_stays():
    region = torch.zeros(1, 1, 24, 24)
    region[..., 3:5] = 1
    assert torch.equal(edge_shares(stripes(), region), region)


def test_an_edge_changes_by_its_share_of_what_is_beside_it():
    source, change = smoothed(), torch.zeros(1, 3, 24, 24)
    change[:, 0, :, :8], change[:, 0, :, 8] = 0.6, 0.1  # the network changes too little there
    region = found_region(OPTIONS, source, change)
    result = acting_in(OPTIONS, region, source, source + change, source)
    assert float((result - source)[:, 0, :, :8].sub(0.6).abs().max()) < 1e-3
    assert float((result - source)[:, 0, :, 8].sub(0.3 * 0.6).abs().max()) < 1e-3
    assert torch.equal(result[..., 9:], source[..., 9:])


def test_a_colour_that_the_region_lacks_keeps_its_change():
    source, change = stripes(), spilled()
    region = torch.zeros(1, 1, 24, 24)
    region[..., :8] = 1
    assert torch.equal(by_color(source, change, region)[..., 8:], change[..., 8:])
    nowhere = torch.zeros_like(region)
    assert torch.equal(by_color(source, change, nowhere), change)


def test_large_pictures_are_asked_for_some_of_their_pixels():
    source = stripes().repeat_interleave(8, 2).repeat_interleave(8, 3)
    change = spilled().repeat_interleave(8, 2).repeat_interleave(8, 3)
    region = found_region(OPTIONS, source, change)
    assert region[..., 8:-8, 8:56].min() == 1
    assert region[..., 66:].sum() == 0


def test_a_tint_brings_every_picture_to_one_colour():
    source = torch.rand(2, 3, 24, 24) - 0.5
    change = torch.tensor([[0.4, -0.2, 0.0], [0.1, 0.1, -0.3]])[:, :, None, None].expand_as(source)
    region = torch.zeros(2, 1, 24, 24)
    region[..., 4:20], region[..., 20] = 1, 0.5
    color = torch.tensor([0.5, -0.4, -0.3])
    before = mean_within(source, region)
    whole = Tint.towards(color, 1.0, source, change, region)
    made = mean_within(source + whole.added(source, change, region), region)
    assert torch.allclose(made, color.expand(2, 3), atol=1e-5)
    half = Tint.towards(color, 0.5, source, change, region).added(source, change, region)
    assert torch.allclose(
        mean_within(source + half, region), (before + change[..., 0, 0] + color) / 2, atol=1e-5
    )


def test_a_tint_goes_with_the_degree():
    source, region = torch.rand(1, 3, 24, 24) - 0.5, torch.ones(1, 1, 24, 24)
    change = torch.full_like(source, 0.2)
    tint = Tint.towards(torch.tensor([0.4, -0.4, 0.3]), 0.75, source, change, region)
    whole = tint.added(source, change, region)
    for gamma in (-0.5, 0.0, 0.5):
        assert torch.allclose(tint.added(source, gamma * change, region), gamma * whole, atol=1e-5)


def test_a_core_of_a_colour_that_is_elsewhere_too_is_found_by_where_the_edit_usually_acts():
    """A pullover as dark as the hair turns red too: it is left, as the edit seldom acts there."""
    source, change = stripes(), torch.zeros(1, 3, 24, 24)
    source[..., 20:, 12:] = -0.6  # the pullover, as dark as the left third
    change[:, 0, :, :8], change[:, 0, 20:, 12:] = 1.0, 0.6
    usual = torch.zeros(1, 1, 24, 24)
    usual[..., :8] = 1
    with_prior = replace(OPTIONS, region_prior=0.5)
    assert found_region(OPTIONS, source, change, usual)[..., 21:, 13:].min() == 1
    region = found_region(with_prior, source, change, usual)
    assert region[..., 21:, 13:].sum() == 0 and region[..., :7].min() == 1
