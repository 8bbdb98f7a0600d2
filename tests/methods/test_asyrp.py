"""A change of h, and the asymmetric step."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dclip.config import Loss, Mix, ShiftLoss
from dclip.diffusion.options import Heun
from dclip.diffusion.sampler import sample
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.saved import edit_header, read_edit
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.methods.asyrp import interval
from dclip.methods.asyrp.hspace import AsymmetricModel, HChange, HSpaceEdit, change_for
from dclip.methods.asyrp.options import Asyrp
from dclip.methods.contract import ImageCounts
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.objectives import Work
from dclip.methods.load import join_edits
from dclip.metrics.scorers import Scorers
from dclip.record.record import Record
from helpers.images import images16
from helpers.networks import a_run, write_edit
from helpers.runs import configure, words


def changed(model, seed=0, size=0.3):
    """A change that does something."""
    change = change_for(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        change.leave.weight.copy_(torch.randn(change.leave.weight.shape, generator=generator))
        change.leave.weight *= size
    return change


def x_and_t(t=300, n=2):
    return images16(n).pixels, torch.full((n,), t)


def test_an_unlearned_change_is_the_original_model(model):
    x, t = x_and_t()
    plain, edited = model.predict(x, t), AsymmetricModel(model, change_for(model)).predict(x, t)
    assert torch.equal(edited.eps, plain.eps)
    assert torch.allclose(edited.noise_of_x0, plain.eps, atol=1e-6)


def test_the_change_sees_h_and_the_time():
    change = HChange(8, 12)
    torch.nn.init.ones_(change.leave.weight)
    h, early = torch.randn(2, 8, 4, 4), torch.randn(2, 12)
    assert change(h, early).shape == h.shape
    assert not torch.allclose(change(h, early), change(2 * h, early))
    assert not torch.allclose(change(h, early), change(h, -early))


def test_only_x0_sees_the_change(model):
    x, t = x_and_t()
    edited = AsymmetricModel(model, changed(model)).predict(x, t)
    assert torch.equal(edited.eps, model.predict(x, t).eps)
    assert not torch.allclose(edited.x0_eps, edited.eps, atol=1e-3)


def test_a_step_is_the_papers(model):
    """x' = sqrt(a') P(h + dh) + sqrt(1 - a') D(h), Eq. 6."""
    x, t = x_and_t(500)
    net = AsymmetricModel(model, changed(model))
    a, a_next = model.schedule.alpha_bar(500), model.schedule.alpha_bar(250)
    edited = net.predict(x, t)
    p = (x - math.sqrt(1 - a) * edited.x0_eps) / math.sqrt(a)
    expected = math.sqrt(a_next) * p + math.sqrt(1 - a_next) * model.predict(x, t).eps
    stepped = sample(net.predict, x, [(500, 250)], model.schedule)
    assert torch.allclose(stepped, expected, atol=1e-5)


def test_below_t_edit_nothing_changes(model):
    net = AsymmetricModel(model, changed(model), t_edit=200)
    assert torch.equal(net.predict(*x_and_t(199)).noise_of_x0, model.predict(*x_and_t(199)).eps)
    assert not torch.equal(net.predict(*x_and_t(200)).noise_of_x0, model.predict(*x_and_t(200)).eps)


def test_steps_below_t_edit_teach_nothing_and_are_not_made(model, clip):
    texts, calls = ("person", "person with a beard"), []
    model.unet.requires_grad_(False)
    loss = EditLoss.prepare(Loss(clip=1, l1=0.3, id=0), clip, None, images16(2), texts)
    net, option = AsymmetricModel(model, changed(model), 200), Asyrp(s_train=4, t_edit=200)
    pairs = pairs_down(500, 4)  # 500, 333, 166, 0
    model.unet.conv_in.register_forward_hook(lambda *_: calls.append(1))
    x = images16(2, seed=9).pixels
    updates = list(option(Work(net.predict, loss, model.schedule, pairs, x, (0, 1), 0, 0.0)))
    assert len(updates) == option.updates(pairs) == 2
    assert all(terms["total"].requires_grad for terms in updates)
    assert len(calls) == 2 * 2


@pytest.mark.parametrize("prior", [0, 1])
def test_steps_below_t_edit_cost_nothing(prior):
    more = ["method=asyrp", "loss=directional_shift", f"loss.prior={prior}", "loss.clip=1"]
    cfg = configure(*more, "method.s_train=4", "method.epochs=3", "method.t_edit=200")
    images = ImageCounts(10, 2, 0)
    some, auto = cfg.method.cost(cfg, images), replace(cfg.method, t_edit="auto")
    saved = auto.cost(cfg, images).calls["fine-tune"] - some.calls["fine-tune"]
    assert saved == 3 * 10 * 2 * (3 + prior)


def test_degrees_move_x0_along_a_line(model):
    edit, (x, t) = HSpaceEdit(model, changed(model), 0), x_and_t()
    whole = edit.denoiser(1.0)(x, t)
    for gamma in (0.0, 0.5, 2.0):
        expected = whole.eps + gamma * (whole.x0_eps - whole.eps)
        assert torch.allclose(edit.denoiser(gamma)(x, t).noise_of_x0, expected, atol=1e-5)


@pytest.fixture
def learned(nets, clip, model, tiny, tmp_path):
    overrides = words(
        {**tiny, "experiment": "toonfaces_beard", "checkpoint.name": nets["model16"]},
        method__lr=0.02,
        method__epochs=4,
        loss__l1=0.1,
        loss__id=0,
        loss__margin=0.1,
    )
    dropped = ("method.objective", "method.lr_schedule", "method.lora.rank")
    cfg = configure(*(word for word in overrides if word.split("=")[0] not in dropped))
    assert isinstance(cfg.loss, ShiftLoss)
    record = Record(tmp_path / "run", cfg, False)
    record.folder.mkdir()
    run = replace(a_run(cfg, model, clip=clip), record=record)
    start = Encoded(images16(4).ids, images16(4, seed=9).pixels, images16(4))
    before = copy.deepcopy(model.unet.state_dict())
    starts = {"train": start, "validation": start.take([0, 1]), "test": start}
    edit = cfg.method.adapt(run, starts)
    return SimpleNamespace(run=run, cfg=cfg, edit=edit, before=before, start=start)


def test_learning_changes_h_and_leaves_the_network_alone(learned):
    state = learned.run.model.unet.state_dict()
    assert state.keys() == learned.before.keys()
    assert all(torch.equal(value, state[name]) for name, value in learned.before.items())
    assert float(learned.edit.change.leave.weight.abs().max()) > 1e-3
    lines = (learned.run.record.folder / "curves.jsonl").read_text().splitlines()
    assert len(lines) > 4


def test_an_edit_survives_the_way_to_disk(learned, tmp_path):
    path = tmp_path / "edit.safetensors"
    learned.run.record.seconds["seconds_adapt"] = 1.0
    learned.edit.save(path, edit_header(learned.run))
    saved = read_edit(str(path))
    assert saved.method == "asyrp"
    again = join_edits(learned.run.model, [saved], Mix(), 500)
    x, t = x_and_t()
    assert torch.equal(again.denoiser(1.0)(x, t).x0_eps, learned.edit.denoiser(1.0)(x, t).x0_eps)


def test_it_mixes_with_a_fine_tuning_but_has_no_weights_to_merge(learned, nets, tiny, tmp_path):
    path = tmp_path / "edit.safetensors"
    learned.run.record.seconds["seconds_adapt"] = 1.0
    learned.edit.save(path, edit_header(learned.run))
    red = write_edit(tmp_path / "red", tiny, nets["model16"], "red_hair", 0.3)
    saved = [read_edit(str(path)), read_edit(red)]
    model = learned.run.model
    mixed = join_edits(model, saved, Mix(), 500).denoiser(1.0)
    x, t = x_and_t()
    one, two = (join_edits(model, [edit], Mix(), 500).denoiser(1.0)(x, t) for edit in saved)
    assert torch.allclose(mixed(x, t).eps, (one.eps + two.eps) / 2, atol=1e-6)
    expected = (one.x0_eps + two.eps) / 2
    assert torch.allclose(mixed(x, t).x0_eps, expected, atol=1e-6)
    with pytest.raises(
        DclipError, match=r"merges weights, and an edit of method=asyrp changes none"
    ):
        join_edits(model, saved, Mix(soup=True), 500)


def test_what_would_edit_nothing_is_refused():
    with pytest.raises(DclipError, match=r"method\.t_edit=500 leaves nothing to edit"):
        configure("experiment=toonfaces_beard", "method=asyrp", "method.t_edit=500")


@pytest.fixture
def measuring(monkeypatch, model, nets, tiny):
    """t_edit of a run at a threshold, and the distances that it saw; the distance is a pixel's."""
    seen = []

    def distance(a, b):
        seen.append(float((a - b).abs().mean()))
        return seen[-1]

    monkeypatch.setattr(interval, "distance_of", lambda networks: ("a test's", distance))
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"], "sampler.s_for": 8}))
    run = a_run(cfg, model)
    return lambda threshold: interval.measured_t_edit(run, images16(2), threshold), seen


def test_the_edit_ends_where_the_predicted_picture_is_far_enough(measuring):
    measured, seen = measuring
    with pytest.raises(DclipError, match=r"t_edit=auto: below sampler.t0=\d+ .* nothing would be"):
        measured(1e6)
    assert len(seen) > 3
    first, middle = measured(1e-9), measured(sorted(seen)[len(seen) // 2])
    assert 0 < first < middle < 500


def test_the_threshold_shrinks_with_the_likeness_of_the_texts(model, clip, nets, tiny):
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}))
    source, target = clip.text_features([cfg.edit.source, cfg.edit.target])
    expected = max(0.0, float(source @ target / source.norm() / target.norm()))
    run = a_run(cfg, model, clip=clip)
    assert interval.likeness(run, images16(1)) == pytest.approx(expected, abs=1e-5)
    assert interval.likeness(a_run(cfg, model), images16(1)) == 1.0


def test_l1_weighs_as_the_texts_are_alike(learned, monkeypatch, tmp_path):
    """The same as the weight times the cosine, given by hand."""
    monkeypatch.setattr(interval, "likeness", lambda run, images: 0.25)
    cfg = learned.cfg

    def change(l1, by_texts):
        method = replace(cfg.method, l1_by_texts=by_texts, epochs=1)
        settings = replace(cfg, method=method, loss=replace(cfg.loss, l1=l1))
        record = Record(tmp_path / f"{l1}_{by_texts}", settings, False)
        record.folder.mkdir()
        run = replace(learned.run, cfg=settings, record=record)
        starts = dict.fromkeys(("train", "validation", "test"), learned.start)
        return method.adapt(run, starts).denoiser(1.0)(*x_and_t(t=400)).x0_eps

    by_hand = change(10.0, False)
    assert torch.equal(change(40.0, True), by_hand)
    assert not torch.equal(change(40.0, False), by_hand)


def test_a_measured_t_edit_is_learned_with_stored_and_reported(learned, monkeypatch, tmp_path):
    monkeypatch.setattr(interval, "measured_t_edit", lambda run, images, threshold: 200)
    method = replace(learned.cfg.method, t_edit="auto", epochs=1)
    cfg = replace(learned.cfg, method=method)
    record = Record(tmp_path / "measured", cfg, False)
    record.folder.mkdir()
    run = replace(learned.run, cfg=cfg, record=record)
    few = learned.start.take([0, 1])
    starts = {"train": learned.start, "validation": few, "test": learned.start}
    edit = method.adapt(run, starts)
    assert float(edit.change.leave.weight.abs().max()) > 1e-3
    run.record.seconds["seconds_adapt"] = 1.0
    edit.save(tmp_path / "edit.safetensors", edit_header(run))
    saved = read_edit(str(tmp_path / "edit.safetensors"))
    assert (saved.header["t_edit"], saved.header["method"]["t_edit"]) == (200, "auto")
    again = join_edits(run.model, [saved], Mix(), 500)
    assert again.measured == {"t_edit": 200}
    plain = again.denoiser(1.0)(*x_and_t(t=100))
    assert torch.equal(plain.x0_eps, plain.eps)


def test_auto_needs_a_distance_and_validation_images(model, nets, tiny, photos, monkeypatch):
    monkeypatch.setattr(Scorers, "perceptual_distance", lambda self, a, b: "not on disk")
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}))
    run = a_run(cfg, model)
    with pytest.raises(DclipError, match=r"needs LPIPS \(not on disk\), or an identity network"):
        interval.distance_of(run.networks)
    with pytest.raises(DclipError, match="measured on validation images, and there are none"):
        interval.measured_t_edit(run, images16(1).take([]), 0.33)
    with pytest.raises(DclipError, match=r"method.t_edit=soon is neither auto nor a timestep"):
        configure("experiment=toonfaces_beard", "method.t_edit=soon")
    with pytest.raises(DclipError, match="measured on validation images, and there are none"):
        configure("experiment=toonfaces_beard", "method.t_edit=auto", "dataset.validation=0")
    with pytest.raises(DclipError, match="with input= there are none; give"):
        configure("experiment=toonfaces_beard", "method.t_edit=auto", f"input={photos}")


def test_auto_needs_a_timestep_to_measure_at(measuring, monkeypatch):
    monkeypatch.setattr(interval, "_distances", lambda run, x, distance: [])
    with pytest.raises(DclipError, match=r"no timestep above 0 .* choose more steps"):
        measuring[0](0.33)


def test_steps_that_no_asymmetric_prediction_can_make_are_refused(model):
    net = AsymmetricModel(model, changed(model))
    with pytest.raises(ValueError, match="which only the steps of DDIM"):
        sample(
            net.predict, x_and_t()[0], pairs_down(500, 3), model.schedule, solver=Heun().rule(False)
        )
