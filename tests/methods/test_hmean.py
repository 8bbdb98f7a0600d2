"""The supervised direction of h: measured, added, saved."""

import pytest
import torch

from dclip.config import Mix
from dclip.data.toonfaces.truths import TRUTHS
from dclip.diffusion.options import pairs_of
from dclip.edits.saved import edit_header, read_edit
from dclip.encode.invert import encode
from dclip.errors import DclipError
from dclip.methods.asyrp.hspace import AsymmetricModel
from dclip.methods.hmean.direction import MeanChange, MeanEdit, mean_h, measured_change
from dclip.methods.hmean.options import HMean
from dclip.methods.load import join_edits
from dclip.prepare.checks import is_random
from dclip.types import Images
from helpers.networks import supervised_edit
from helpers.runs import SMALL, configure, words

DATA = ("dataset=toonfaces", "checkpoint=toonfaces", "clip=toonfaces", "edit=red_hair")
SETTINGS = [*DATA, *words({k: v for k, v in SMALL.items() if k.startswith(("dataset", "sampler"))})]


def cfg_of(nets, *more):
    return configure(*SETTINGS, "method=h_mean", f"checkpoint.name={nets['model64']}", *more)


@pytest.fixture(scope="module")
def measured(nets, tmp_path_factory):
    """An edit from three faces, of a tiny network."""
    return supervised_edit(cfg_of(nets), nets["model64"], tmp_path_factory.mktemp("h"))


def test_the_change_is_the_difference_of_the_means(measured):
    run, edit = measured.run, measured.edit
    steps = [t for t, _ in pairs_of(measured.cfg.sampler)[1]]
    assert edit.change.steps.tolist() == steps
    truth = TRUTHS["red_hair"].pictures(measured.faces)
    alone = []
    for i, name in enumerate(measured.faces.ids):
        before = mean_h(run, measured.start.take([i]))
        after = mean_h(run, encode(run, Images(truth[i : i + 1], (f"{name}_true",))))
        alone.append(torch.stack([after[t] - before[t] for t in steps]))
    expected = torch.stack(alone).mean(0)
    assert torch.allclose(edit.change.means, expected, atol=1e-5)
    assert float(expected.abs().max()) > 1e-3


def test_a_seed_changes_nothing(nets, measured, tmp_path):
    cfg = cfg_of(nets, "seed=1")
    assert not is_random(cfg)
    again = supervised_edit(cfg, nets["model64"], tmp_path)
    assert torch.equal(again.edit.change.means, measured.edit.change.means)


def test_its_length_is_scaled(measured):
    twice = measured_change(measured.run, measured.start, 2.0)
    assert torch.allclose(twice.means, 2 * measured.edit.change.means, atol=1e-6)


def test_each_step_gets_its_own_change_and_only_x0_sees_it(measured):
    model, shape = measured.run.model, measured.edit.change.means.shape[1:]
    means = torch.stack([torch.full(shape, 0.5), torch.zeros(shape)])
    edit = MeanEdit(model, MeanChange(torch.tensor([400, 100]), means), 0)
    x = measured.start.latents
    late, early = (edit.denoiser(1.0)(x, torch.full((3,), t)) for t in (120, 390))
    assert torch.allclose(late.noise_of_x0, late.eps, atol=1e-6)
    assert not torch.allclose(early.noise_of_x0, early.eps, atol=1e-3)
    assert torch.equal(early.eps, model.predict(x, torch.full((3,), 390)).eps)


def test_below_t_edit_nothing_changes(measured):
    edit = MeanEdit(measured.run.model, measured.edit.change, 300)
    found = edit.denoiser(1.0)(measured.start.latents, torch.full((3,), 299))
    assert torch.equal(found.noise_of_x0, found.eps)
    assert isinstance(edit.model, AsymmetricModel)


def test_it_survives_the_way_to_disk(measured, tmp_path):
    path = tmp_path / "edit.safetensors"
    measured.run.record.seconds["seconds_adapt"] = 1.0
    measured.edit.save(path, edit_header(measured.run))
    saved = read_edit(str(path))
    assert saved.method == "h_mean"
    again = join_edits(measured.run.model, [saved], Mix(), measured.cfg.sampler.t0)
    x, t = measured.start.latents, torch.full((3,), 300)
    assert torch.equal(again.denoiser(1.0)(x, t).x0_eps, measured.edit.denoiser(1.0)(x, t).x0_eps)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["edit.name=mine"], "only dataset=toonfaces knows"),
        (["edit=sketch"], "a change of style .edit=sketch. has no single one: choose method="),
        (["method.scale=0"], "greater than 0"),
        (["method.t_edit=999"], "leaves nothing to edit"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_built(words, message, nets):
    with pytest.raises(DclipError, match=message):
        cfg = cfg_of(nets, *words)
        assert isinstance(cfg.method, HMean)
        cfg.method.check(cfg)


def test_its_cost_counts_both_ways_down(nets):
    cfg = cfg_of(nets, "dataset.train=10")
    sampler = cfg.sampler
    from dclip.methods.contract import ImageCounts

    expected = 10 * (sampler.encoding_calls() + 2 * sampler.generation_calls())
    assert cfg.method.cost(cfg, ImageCounts(10, 0, 5)).calls == {"adapt": expected}
