"""What an edit drew, joined to the picture by the original network."""

from dataclasses import replace

import pytest
import torch

import dclip
from dclip.config.edit import Edit as EditOptions
from dclip.edits.confined import Confined, finish_of
from dclip.edits.edit import DenoiserEdit
from dclip.edits.usual import Usual
from dclip.encode.invert import encode, encode_to_edit
from dclip.errors import DclipError
from dclip.methods.load import load_edits
from dclip.prepare.plan import calls
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
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
    result = finish_of(run, start.ids).refined(options(region_refine=200), region, edited, 1.0)
    stays = (region == 0).expand_as(edited)
    assert torch.equal(result[stays], edited[stays])
    assert not torch.equal(result[~stays], edited[~stays])


def test_without_a_region_at_degree_0_and_at_t_0_nothing_is_refined(run):
    start = start_at(images16(2))
    edited, everywhere = start.images.pixels, torch.ones(2, 1, 16, 16)
    finish = finish_of(run, start.ids)
    assert finish.refined(options(region_refine=200), everywhere, edited, 0.0) is edited
    assert finish.refined(options(), everywhere, edited, 1.0) is edited
    acts_everywhere = options(region="none", region_refine=200)
    assert finish.refined(acts_everywhere, everywhere, edited, 1.0) is edited


@pytest.mark.parametrize(("t", "gamma"), [(1, 1.0), (2, 0.5), (20, 0.05), (2, 1.0)])
def test_the_smallest_timesteps_are_refined_too(run, t, gamma):
    start = start_at(images16(2))
    edited, everywhere = start.images.pixels, torch.ones(2, 1, 16, 16)
    result = finish_of(run, start.ids).refined(options(region_refine=t), everywhere, edited, gamma)
    assert result.isfinite().all() and not torch.equal(result, edited)


def test_what_is_no_edit_is_not_refined_either(run):
    nothing = Confined(DenoiserEdit(run.model, run.model.predict, ()))
    edit = replace(run.cfg.edit, region="auto", region_refine=300)
    refining = replace(run, cfg=replace(run.cfg, edit=edit))
    start = start_at(images16(2))
    assert torch.equal(nothing.apply(refining, start, 1.0), start.images.pixels)


FINISHED = {"edit__region_refine": 300, "edit__region_palette": 0.2, "edit__region_colors": 0}
HALF = torch.cat([torch.ones(1, 1, 8, 16), torch.zeros(1, 1, 8, 16)], 2)
UPPER = Usual(origin=HALF, share=1 - HALF)


def test_the_notebook_finishes_as_a_run_does(editing, model, tiny, nets, tmp_path):
    paths = [
        write_edit(tmp_path / name, tiny, nets["model16"], name, lora=True, usual=UPPER, **FINISHED)
        for name in ("beard", "zombie")
    ]
    images = images16(2)
    images = replace(images, ids=("image_00000", "image_00001"))
    for adapter, chosen in ((paths[0], paths[0]), (f"[{paths[0]},{paths[1]}]", paths)):
        cfg = editing(adapter)
        run = a_run(cfg, model)
        expected = load_edits(cfg, model).apply(run, encode(run, images), 1.0)
        made = dclip.edit(model, images.pixels, chosen)
        assert torch.allclose(made, expected, atol=1e-3)
        for off in ("region_refine", "region_palette"):
            rough = editing(adapter, **{f"edit__{off}": 0})
            run = a_run(rough, model)
            other = load_edits(rough, model).apply(run, encode(run, images), 1.0)
            assert float((made - other).abs().max()) > 0.01


def test_the_notebook_says_what_an_edit_does_not_know(model, tiny, nets, tmp_path, caplog):
    path = write_edit(tmp_path / "beard", tiny, nets["model16"], "beard", lora=True, **FINISHED)
    dclip.edit(model, images16(1).pixels, path)
    assert "edit.region_palette has no effect: the edit's file does not say" in caplog.text


def test_the_notebook_finishes_carried_edits_as_a_run_does(editing, model, tiny, nets, tmp_path):
    carry = {"sampler__carry": "noise_maps", "sampler__carry_weight": 1.9}
    more = {**FINISHED, **carry, "lora": True, "usual": UPPER}
    path = write_edit(tmp_path / "beard", tiny, nets["model16"], "beard", **more)
    images = replace(images16(2), ids=("image_00000", "image_00001"))
    cfg = editing(path, gamma=0.5)
    run = a_run(cfg, model)
    expected = load_edits(cfg, model).apply(run, encode_to_edit(run, images), 0.5)
    made = dclip.edit(model, images.pixels, path, gamma=0.5)
    assert torch.allclose(made, expected, atol=1e-3)


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
