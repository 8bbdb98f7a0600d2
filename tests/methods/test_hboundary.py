"""The supervised boundary in h: found, crossed, saved, mixed."""

import math

import pytest
import torch
import torch.nn.functional as F

from dclip.config import Mix
from dclip.diffusion.options import pairs_of
from dclip.edits.edit import Mixture
from dclip.edits.saved import edit_header, read_edit
from dclip.errors import DclipError
from dclip.methods.contract import ImageCounts
from dclip.methods.hboundary.boundary import (
    BoundaryEdit,
    across,
    all_h,
    boundary_change,
    separating_weights,
)
from dclip.methods.hmean.direction import MeanEdit, mean_h, measured_change
from dclip.methods.load import join_edits
from helpers.networks import supervised_edit
from helpers.runs import SMALL, configure, run, words

DATA = ("dataset=toonfaces", "checkpoint=toonfaces", "clip=toonfaces", "edit=red_hair")
SETTINGS = [*DATA, *words({k: v for k, v in SMALL.items() if k.startswith(("dataset", "sampler"))})]


def cfg_of(nets, *more):
    return configure(*SETTINGS, "method=h_boundary", f"checkpoint.name={nets['model64']}", *more)


def cosine(a, b):
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def two_gaussians(count, spread, apart, seed=0):
    draw = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, count, len(apart), generator=draw, dtype=torch.float64) * spread
    return before, after + apart


def weights_of(before, after, penalty):
    labels = torch.cat([-torch.ones(len(before)), torch.ones(len(after))]).double()
    return separating_weights(torch.cat([before, after]), labels, penalty)


# ----------------------------------------------------------------------------- the hyperplane


def test_of_two_gaussians_the_normal_is_that_of_the_best_classifier():
    """Of equal covariance S it is S^-1 (mean_1 - mean_0) (Fisher), and not their difference."""
    spread = torch.tensor([0.3, 1.0, 2.0, 0.5], dtype=torch.float64)
    apart = torch.tensor([0.3, 1.0, 2.0, -0.5], dtype=torch.float64)
    found = weights_of(*two_gaussians(10_000, spread, apart), 1e-8)
    assert cosine(found, apart / spread**2) > 0.999
    assert cosine(found, apart) < 0.75


def test_of_separable_points_the_normal_goes_from_the_means_to_the_largest_margin():
    """By penalty: (1, 2) / sqrt(5), the difference of the means; (1, 0), the support vectors'."""
    after = torch.tensor([[1.0, 0.0], [1.0, 4.0]], dtype=torch.float64)
    angles = []
    for penalty in (1e4, 1e-1, 1e-3, 1e-8):
        w = weights_of(-after, after, penalty)
        angles.append(math.atan2(float(w[1]), float(w[0])))
    assert angles[0] == pytest.approx(math.atan(2), abs=1e-3)
    assert angles == sorted(angles, reverse=True)
    assert 0 < angles[-1] < 0.1


@pytest.mark.parametrize("shape", [(12, 5), (6, 40)], ids=["many rows", "many columns"])
@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_the_weights_are_those_that_gradients_find(shape, penalty):
    """The loss as it is written, in all dimensions, by L-BFGS."""
    before, after = two_gaussians(shape[0], 1.0, 0.4 * torch.ones(shape[1]).double())
    rows = torch.cat([before, after])
    unit = rows - rows.mean(0)
    unit = unit / unit.square().sum(1).mean().sqrt()
    labels = torch.cat([-torch.ones(len(before)), torch.ones(len(after))]).double()
    w = torch.zeros(shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [w, b],
        max_iter=5000,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss():
        solver.zero_grad()
        value = F.softplus(-labels * (unit @ w + b)).mean() + penalty / 2 * w.square().sum()
        value.backward()
        return value

    solver.step(loss)
    found = weights_of(before, after, penalty)
    torch.testing.assert_close(found, w.detach(), rtol=1e-4, atol=1e-5)


def test_with_a_large_penalty_it_is_the_mean_difference():
    before, after = two_gaussians(7, 1.0, torch.ones(12).double())
    shaped = [rows.reshape(-1, 3, 2, 2) for rows in (before, after)]
    difference = shaped[1].mean(0) - shaped[0].mean(0)
    torch.testing.assert_close(across(*shaped, 1e6), difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 1e-3])
def test_across_is_from_one_mean_to_the_other_along_the_normal(penalty):
    before, after = two_gaussians(7, 1.0, torch.ones(12).double())
    move = across(before, after, penalty)
    difference = after.mean(0) - before.mean(0)
    assert float(move @ move) == pytest.approx(float(move @ difference))
    assert cosine(move, weights_of(before, after, penalty)) == pytest.approx(1)


def test_pictures_that_are_alike_leave_h_where_it_is():
    rows, _ = two_gaussians(4, 1.0, torch.ones(6).double())
    for penalty in (1.0, 1e-4):
        assert float(across(rows, rows.clone(), penalty).abs().max()) < 1e-9


def test_neither_units_nor_a_shift_change_it():
    before, after = two_gaussians(7, 1.0, torch.ones(12).double())
    move = across(before, after, 1e-2)
    torch.testing.assert_close(across(50 * before + 3, 50 * after + 3, 1e-2), 50 * move)


# ---------------------------------------------------------------------------------- in a network


@pytest.fixture(scope="module")
def found(nets, tmp_path_factory):
    """An edit from three faces, of a tiny network."""
    return supervised_edit(cfg_of(nets), nets["model64"], tmp_path_factory.mktemp("h"))


def test_every_image_is_heard_in_its_place(found):
    heard = all_h(found.run, found.start)
    means = mean_h(found.run, found.start)
    assert list(heard) == [t for t, _ in pairs_of(found.cfg.sampler)[1]]
    for t, h in heard.items():
        torch.testing.assert_close(h.mean(0), means[t])
        alone = all_h(found.run, found.start.take([1]))[t]
        torch.testing.assert_close(h[1:2], alone, rtol=1e-4, atol=1e-4)


def test_with_a_large_penalty_it_is_the_edit_of_h_mean(found):
    firm = boundary_change(found.run, found.start, 2.0, 1e6)
    mean = measured_change(found.run, found.start, 2.0)
    assert torch.equal(firm.steps, mean.steps)
    torch.testing.assert_close(firm.means, mean.means, rtol=1e-3, atol=1e-4)
    usual = boundary_change(found.run, found.start, 2.0, 1e-2)
    torch.testing.assert_close(usual.means, 2 * found.edit.change.means)
    assert not torch.allclose(usual.means, mean.means, atol=1e-4)


def test_at_a_mixing_step_nothing_moves_elsewhere(found):
    steps = [t for t, _ in pairs_of(found.cfg.sampler)[1]]
    change = boundary_change(found.run, found.start, 1.0, 1e-2, steps[1])
    for k, move in enumerate(change.means):
        expected = found.edit.change.means[k] if k == 1 else torch.zeros_like(move)
        torch.testing.assert_close(move, expected)
    edit = BoundaryEdit(found.run.model, change, 0)
    x = found.start.latents
    for t in steps:
        made = edit.denoiser(1.0)(x, torch.full((3,), t))
        assert torch.allclose(made.noise_of_x0, made.eps, atol=1e-6) == (t != steps[1])


def test_the_step_nearest_to_the_mixing_step_moves(nets):
    moving = {}
    for at in (500, 420, 350, 349, "null"):
        cfg = cfg_of(nets, "sampler.s_gen=6", f"method.mixing_step={at}")  # 500, 400, ... 0
        moving[at] = cfg.method.moving_step(cfg)
    assert moving == {500: 500, 420: 400, 350: 300, 349: 300, "null": None}


def test_gamma_is_a_share_of_the_whole_move_of_x0(found):
    x, t = found.start.latents, torch.full((3,), 300)
    none, half, whole = (found.edit.denoiser(gamma)(x, t) for gamma in (0.0, 0.5, 1.0))
    middle = (none.noise_of_x0 + whole.noise_of_x0) / 2
    torch.testing.assert_close(half.noise_of_x0, middle, rtol=1e-4, atol=1e-4)
    assert torch.equal(none.noise_of_x0, none.eps)
    assert not torch.allclose(whole.noise_of_x0, whole.eps, atol=1e-4)


def test_it_survives_the_way_to_disk_and_mixes_with_another(found, tmp_path):
    paths = [tmp_path / "boundary.safetensors", tmp_path / "mean.safetensors"]
    found.run.record.seconds["seconds_adapt"] = 1.0
    found.edit.save(paths[0], edit_header(found.run))
    change = measured_change(found.run, found.start, 1.0)
    mean = MeanEdit(found.run.model, change, 0)
    mean.save(paths[1], {**edit_header(found.run), "method_name": "h_mean"})
    saved = [read_edit(str(path)) for path in paths]
    assert [one.method for one in saved] == ["h_boundary", "h_mean"]
    t0, x, t = found.cfg.sampler.t0, found.start.latents, torch.full((3,), 300)
    again = join_edits(found.run.model, saved[:1], Mix(), t0)
    assert isinstance(again, BoundaryEdit) and again.name == "an edit of method=h_boundary"
    assert torch.equal(again.denoiser(1.0)(x, t).x0_eps, found.edit.denoiser(1.0)(x, t).x0_eps)
    both = join_edits(found.run.model, saved, Mix(), t0)
    assert isinstance(both, Mixture)
    each = [edit.denoiser(1.0)(x, t).noise_of_x0 for edit in (found.edit, mean)]
    mixed = both.denoiser(1.0)(x, t).noise_of_x0
    torch.testing.assert_close(mixed, (each[0] + each[1]) / 2, rtol=1e-4, atol=1e-4)
    with pytest.raises(DclipError, match="an edit of method=h_boundary changes none"):
        join_edits(found.run.model, saved, Mix(soup=True), t0)


def test_a_run_learns_it_and_another_applies_it(tiny, tmp_path):
    given = ("checkpoint", "clip", "sampler", "metric", "trainer", "logger", "dataset")
    keep = {k: v for k, v in tiny.items() if k.split(".")[0] in given}
    learned = run(*DATA, *words(keep, method="h_boundary", output=tmp_path / "learn"))
    assert (learned / "adapter.safetensors").is_file()
    applied = {"task": "edit", "edit.adapter": learned, "gamma": 0.5}
    applied = run(*words({**keep, **applied}, output=tmp_path / "apply"))
    assert list((applied / "samples").glob("image_*.png"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["edit.name=mine"], "method=h_boundary needs the true edited pictures.*choose method="),
        (["edit=sketch"], "a change of style .edit=sketch. has no single one: choose method="),
        (["method.scale=0"], r"method\.scale=0.* greater than 0"),
        (["method.penalty=0"], r"method\.penalty=0.* greater than 0"),
        (["method.t_edit=999"], "leaves nothing to edit"),
        (["method.mixing_step=999"], r"method\.mixing_step=999 is not between method\.t_edit=0"),
        (["method.t_edit=50", "method.mixing_step=20"], r"mixing_step=20 is not .*t_edit=50"),
        (
            ["sampler.s_gen=6", "method.t_edit=210", "method.mixing_step=220"],
            r"mixing_step=220 is nearest to the step at 200, below method\.t_edit=210.* choose 300",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_built(words, message, nets):
    with pytest.raises(DclipError, match=message) as caught:
        cfg = cfg_of(nets, *words)
        cfg.method.check(cfg)
    assert "\n" not in str(caught.value)


def test_its_cost_counts_both_ways_down(nets):
    cfg = cfg_of(nets, "dataset.train=10")
    expected = 10 * (cfg.sampler.encoding_calls() + 2 * cfg.sampler.generation_calls())
    assert cfg.method.cost(cfg, ImageCounts(10, 0, 5)).calls == {"adapt": expected}
