"""What an edit drew, joined to the picture by the original network."""

from dataclasses import replace

import pytest
import torch

from dclip.config.edit import Edit as EditOptions
from dclip.edits.confined import Confined
from dclip.edits.edit import DenoiserEdit
from dclip.edits.refine import refined
from dclip.errors import DclipError
from dclip.prepare.plan import calls
from helpers.images import images16
from helpers.networks import a_run, start_at
from helpers.runs import configure, words


@pytest.fixture
def run(tiny, model):
    return a_run(configure(*words(tiny)), model)


def options(**settings):
    return EditOptions(**{"name": "", "source": "a", "target": "b", "region": "auto", **settings})


def test_only_the_region_is_drawn_anew(run):
    start = start_at(images16(2))
    edited, region = start.images.pixels, torch.zeros(2, 1, 16, 16)
    region[:, :, 4:9, 4:9] = 1
    result = refined(run, options(region_refine=200), start, region, edited, 1.0)
    stays = (region == 0).expand_as(edited)
    assert torch.equal(result[stays], edited[stays])
    assert not torch.equal(result[~stays], edited[~stays])


def test_without_a_region_at_degree_0_and_at_t_0_nothing_is_refined(run):
    start = start_at(images16(2))
    edited, everywhere = start.images.pixels, torch.ones(2, 1, 16, 16)
    assert refined(run, options(region_refine=200), start, everywhere, edited, 0.0) is edited
    assert refined(run, options(), start, everywhere, edited, 1.0) is edited
    acts_everywhere = options(region="none", region_refine=200)
    assert refined(run, acts_everywhere, start, everywhere, edited, 1.0) is edited


def test_what_is_no_edit_is_not_refined_either(run):
    nothing = Confined(DenoiserEdit(run.model, run.model.predict, ()))
    edit = replace(run.cfg.edit, region="auto", region_refine=300)
    refining = replace(run, cfg=replace(run.cfg, edit=edit))
    start = start_at(images16(2))
    assert torch.equal(nothing.apply(refining, start, 1.0), start.images.pixels)


def test_a_timestep_that_does_not_exist_is_refused():
    with pytest.raises(DclipError, match=r"edit.region_refine=1000 .* choose 0 to 999"):
        options(region_refine=1000)


def test_a_plan_counts_the_picture_without_the_edit_and_the_refinement(tiny):
    def edit_calls(**settings):
        cfg = configure(*words(tiny, dataset__test=5, degrees="[]", **settings))
        return calls(cfg)["edit"], cfg.sampler.generation_calls()

    everywhere, once = edit_calls(edit__region="none")
    assert everywhere == 5 * once
    assert edit_calls(edit__region="auto")[0] == 5 * 2 * once
    assert edit_calls(edit__region="auto", gamma=0.5)[0] == 5 * 4 * once
    assert edit_calls(edit__region="auto", edit__region_refine=200)[0] == 5 * (2 * once + 8)
