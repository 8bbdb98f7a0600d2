import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from dclip.config import Loss
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.methods.contract import BACKWARD
from dclip.methods.diffusionclip import fit
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.module import DiffusionClipTuning, lr_factor
from dclip.methods.diffusionclip.options import DiffusionClip, LrSchedule
from dclip.models.checkpoints import load_model
from dclip.pipeline import run as run_pipeline
from dclip.prepare.plan import calls
from dclip.record.record import Record
from helpers.images import images16
from helpers.networks import a_run, put_on, save_edit
from helpers.runs import configure, words

TEXTS = ("person", "person with red hair")


@pytest.fixture
def make(nets, clip, tiny, tmp_path):
    """A configuration, a record and a tuning module with fresh tiny networks."""

    def build(folder="run", weights=None, validated=False, **settings):
        cfg = configure(
            *words(
                {**tiny, "checkpoint.name": nets["model16"]},
                method__lr=0.002,
                method__batch=2,
                **settings,
            )
        )
        record = Record(tmp_path / folder, cfg, False)
        record.folder.mkdir(exist_ok=True)
        model = load_model(str(nets["model16"]))
        model.unet.requires_grad_(True)
        weights = weights or Loss(clip=1.0, l1=0.3, id=0)
        images, latents = images16(), images16(seed=9).pixels
        objective = EditLoss.prepare(weights, clip, None, images, TEXTS)
        held = (
            (EditLoss.prepare(weights, clip, None, images16(2, 5), TEXTS), latents[:2])
            if validated
            else None
        )
        tuning = DiffusionClipTuning(
            model, objective, latents, pairs_down(500, 3), cfg.method, cfg.seed, held
        )
        run = replace(a_run(cfg, model), record=record)
        made = {"model": model, "tuning": tuning, "objective": objective, "latents": latents}
        return SimpleNamespace(cfg=cfg, run=run, record=record, **made)

    return build


def total_loss(made):
    with torch.no_grad():
        return float(made.objective(made.tuning.generate(made.latents), range(6))["total"])


def state(made):
    return {k: v.clone() for k, v in made.model.unet.state_dict().items()}


@pytest.mark.parametrize("form", ["neg_log", "cosine"])
def test_fine_tuning_lowers_its_loss(make, form):
    from dclip.config import ClipForm

    made = make(method__epochs=5, weights=Loss(clip=1.0, l1=0.3, id=0, form=ClipForm(form)))
    before = total_loss(made)
    fit.fit(made.run, made.cfg.method, made.tuning, False)
    assert total_loss(made) < before - 0.02


def test_the_objective_is_the_weighted_sum_of_its_terms(make):
    made = make(weights=Loss(clip=2.0, l1=0.5, id=0))
    terms = made.objective(images16(2, 3).pixels, [0, 4])
    assert set(terms) == {"clip", "l1", "total"}
    assert float(terms["total"]) == pytest.approx(
        2 * float(terms["clip"]) + 0.5 * float(terms["l1"]), rel=1e-5
    )
    assert float(terms["l1"]) == pytest.approx(
        float((images16(2, 3).pixels - images16().pixels[[0, 4]]).abs().mean()), rel=1e-5
    )


def test_a_term_without_weight_is_not_computed(make):
    made = make(weights=Loss(clip=0, l1=1.0, id=0))
    made.objective.clip = None
    assert set(made.objective(images16(2).pixels, [0, 1])) == {"l1", "total"}


# ------------------------------------------------------------------------------------------- order, learning rate


def test_the_order_of_images_depends_on_the_seed_and_the_step_only(make):
    one, other = make().tuning, make("other").tuning
    torch.manual_seed(123)
    expected = [one.images_of(s) for s in range(9)]
    torch.manual_seed(7)
    assert [other.images_of(s) for s in reversed(range(9))] == expected[::-1]
    another = make("seed", seed=1).tuning
    assert [another.images_of(s) for s in range(9)] != expected


def test_every_epoch_sees_every_image_once_in_a_new_order(make):
    tuning = make().tuning
    assert tuning.steps_per_epoch == 3
    epochs = [[i for s in range(3 * e, 3 * e + 3) for i in tuning.images_of(s)] for e in range(6)]
    assert all(sorted(e) == list(range(6)) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 3


def test_images_are_seen_in_one_order_where_that_is_published(make):
    tuning = make().tuning
    tuning.options = DiffusionClip(batch=4, shuffle=False)
    assert [tuning.images_of(s) for s in range(4)] == 2 * [[0, 1, 2, 3], [4, 5]]


def test_a_last_batch_may_be_smaller(make):
    tuning = make().tuning
    tuning.options = DiffusionClip(batch=4)
    assert tuning.steps_per_epoch == 2
    assert [len(tuning.images_of(s)) for s in range(4)] == [4, 2, 4, 2]


def test_learning_rate_schedules():
    constant = lr_factor(LrSchedule.constant, 4, 8)
    assert [constant(s) for s in (0, 8, 500)] == [1, 1, 1]
    paper = lr_factor(LrSchedule.paper, 1, 50)
    assert [paper(s) for s in (0, 49, 50, 99, 100, 250)] == pytest.approx(
        [1, 1, 1.2, 1.2, 1.4, 2.0]
    )
    batched = lr_factor(LrSchedule.paper, 5, 10)
    assert [batched(s) for s in (0, 9, 10, 20)] == pytest.approx([1, 1, 1.2, 1.4])
    cosine = lr_factor(LrSchedule.cosine, 4, 10, 4)
    assert [cosine(s) for s in (0, 1)] == pytest.approx([0.5, 0.5 + 0.5 * math.cos(math.pi / 40)])
    assert [cosine(s) for s in (20, 40, 41)] == pytest.approx([0.5, 0, 0])
    code = lr_factor(LrSchedule.code, 4, 8)
    assert [code(s) for s in (0, 7, 8, 15, 16)] == pytest.approx([1, 1, 1.3, 1.3, 1.69])


# ------------------------------------------------------------------------------------------- resume


class Stop(L.Callback):
    """Breaks the training off in the middle of an epoch."""

    def __init__(self, step, hook):
        def stop(trainer, *_):
            if trainer.global_step == step:
                raise RuntimeError("power cut")

        setattr(self, hook, stop)


@pytest.mark.parametrize(
    ("hook", "validated"), [("on_train_batch_start", True), ("on_train_batch_end", False)]
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    make, monkeypatch, hook, validated
):
    settings = {"method__epochs": 3, "method__lr_schedule": "code", "validated": validated}
    whole = make("whole", **settings)
    fit.fit(whole.run, whole.cfg.method, whole.tuning, validated)

    first = make("broken", **settings)
    start = state(first)
    with monkeypatch.context() as patch:
        original = fit.checkpointing
        patch.setattr(fit, "checkpointing", lambda *a: [Stop(5, hook), *original(*a)])
        with pytest.raises(RuntimeError, match="power cut"):
            fit.fit(first.run, first.cfg.method, first.tuning, validated)
    assert (first.record.folder / "checkpoints" / "last.ckpt").is_file()

    second = make("broken", **settings)
    steps = []
    seen = second.tuning.images_of
    second.tuning.images_of = lambda step: steps.append(step) or seen(step)
    fit.fit(second.run, second.cfg.method, second.tuning, validated)
    assert steps == [3, 4, 5, 6, 7, 8]  # from the last whole epoch
    end, resumed = state(whole), state(second)
    assert not all(torch.equal(end[k], start[k]) for k in end)
    for key, value in end.items():
        assert torch.equal(resumed[key], value), key


@pytest.mark.parametrize("validated", [False, True])
def test_every_epoch_leaves_a_checkpoint_to_resume_from(make, monkeypatch, validated):
    """A kill cannot be caught: last.ckpt must be there, and new, whether or not the validation loss got better."""
    made, found = make(method__epochs=4, validated=validated), []
    made.tuning.options.lr = 0.5  # so that the validation loss gets worse
    last = made.record.folder / "checkpoints" / "last.ckpt"

    class Look(L.Callback):
        def on_train_epoch_start(self, trainer, *_):
            found.append(
                torch.load(last, weights_only=True)["global_step"] if last.is_file() else None
            )

    original = fit.checkpointing
    monkeypatch.setattr(fit, "checkpointing", lambda *a: [Look(), *original(*a)])
    fit.fit(made.run, made.cfg.method, made.tuning, validated)
    assert found == [None, 3, 6, 9]


def test_frozen_networks_are_not_in_the_checkpoint(make):
    made = make(validated=True)
    fit.fit(made.run, made.cfg.method, made.tuning, True)
    saved = torch.load(made.record.folder / "checkpoints" / "best.ckpt", weights_only=True)
    keys = {f"unet.{k}" for k in made.model.unet.state_dict()}
    assert set(saved["state_dict"]) == keys


def test_frozen_networks_are_not_changed(make, clip):
    before = {k: v.clone() for k, v in clip.state_dict().items()}
    made = make()
    fit.fit(made.run, made.cfg.method, made.tuning, False)
    assert all(torch.equal(v, before[k]) for k, v in clip.state_dict().items())
    assert not any(p.requires_grad for p in clip.parameters())


def test_a_training_that_diverges_is_an_error_and_says_what_to_do(make):
    made = make()
    with torch.no_grad():
        next(made.model.unet.parameters()).fill_(float("nan"))
    with pytest.raises(DclipError, match=r"lower method\.lr"):
        fit.fit(made.run, made.cfg.method, made.tuning, False)


# ------------------------------------------------------------------------------------------- the edit's file


def test_an_edit_survives_the_way_to_disk(make, nets, tmp_path):
    made = make()
    with torch.no_grad():
        made.model.unet.conv_out.bias += 1
    save_edit(tmp_path / "adapter.safetensors", made.cfg, made.model, 12.5)
    for name in (tmp_path, tmp_path / "adapter.safetensors"):
        saved = read_edit(str(name))
        fresh = put_on(saved, load_model(str(nets["model16"])))
        assert all(
            torch.equal(v, made.model.unet.state_dict()[k])
            for k, v in fresh.unet.state_dict().items()
        )
    assert saved.header["edit"]["target"] == "person with red hair"
    assert saved.header["sampler"]["t0"] == 500
    assert saved.header["seconds_adapt"] == 12.5
    assert saved.header["base_sha256"] == made.model.digest


def test_an_edit_can_be_loaded_as_a_model(make, tmp_path):
    made = make()
    with torch.no_grad():
        made.model.unet.conv_out.bias += 1
    save_edit(tmp_path / "adapter.safetensors", made.cfg, made.model, 0.0)
    tuned = load_model(str(tmp_path / "adapter.safetensors"))
    assert all(
        torch.equal(v, made.model.unet.state_dict()[k]) for k, v in tuned.unet.state_dict().items()
    )


def test_an_edit_of_another_base_is_refused(make, nets, tmp_path):
    made = make()
    save_edit(tmp_path / "adapter.safetensors", made.cfg, made.model, 0.0)
    other = load_model(str(nets["other16"]))
    before = copy.deepcopy(other.unet.state_dict())
    with pytest.raises(DclipError, match="choose its own checkpoint") as caught:
        put_on(read_edit(str(tmp_path)), other)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in other.unet.state_dict().items())


def test_what_is_no_edit_is_refused(nets, tmp_path):
    with pytest.raises(DclipError, match=r"there is no adapter\.safetensors"):
        read_edit(str(tmp_path))
    with pytest.raises(DclipError, match="not an edit"):
        read_edit(str(nets["model16"]))


def test_the_planned_calls_are_those_that_a_fine_tuning_makes(tiny, tmp_path):
    """The prior's, those of what the sources are predicted as, and those of validation too."""
    settings = {
        **tiny,
        "method.objective": "gpu_efficient",
        "method.paired": "true",
        "method.epochs": 2,
        "loss": "directional_shift",
        "loss.prior": 5,
        "dataset.validation": 2,
        "sampler.encode": "stochastic",
        "edit.region": "none",
        "dataset.test": 1,
        "degrees": "[]",
    }
    cfg = configure(*words(settings, output=tmp_path))
    seen = []

    def count(module, inputs, _):
        if type(module).__name__ == "UNet2DModel" and inputs[0].device.type == "cpu":
            seen.append(len(inputs[0]))

    hook = register_module_forward_hook(count)
    try:
        run_pipeline(cfg)
    finally:
        hook.remove()
    parts = calls(cfg)
    forward = (
        2 * cfg.dataset.train * cfg.method.s_train
    )  # of 3 that a pass with its gradient counts as
    assert sum(seen) == sum(parts.values()) - (BACKWARD - 1) * forward
