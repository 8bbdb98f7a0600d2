"""What calls itself faithful is the published computation by itself, whatever it is combined with."""

import pytest
from omegaconf import OmegaConf

from dclip.config import plain
from helpers.experiments import FINE_TUNING
from helpers.runs import ROOT, configure

GUIDED = {  # the code of the report on CLIP-guided sampling
    "task.clip_x0": False,
    "task.leak": 0,
    "task.start": "noise",
    "sampler.solver": "ddpm",
    "sampler.t0": 999,
    "sampler.s_gen": 1000,
    "sampler.final_step": "to_clean",
    "sampler.grid": "uniform",
    "sampler.noise_last": True,
    "guidance.templates": "none",
    "guidance.temperature": 0.01,
    "guidance.sees": "x_t",
    "guidance.clip_range": "raw",
    "guidance.clips": [],
    "guidance.cutouts": 0,
    "guidance.noise": 0,
    "guidance.flip": False,
    "guidance.normalise": "none",
    "guidance.t_start": 999,
    "guidance.t_end": 0,
    "guidance.every": 1,
    "guidance.time_travel": 0,
    "guidance.range": 0,
    "guidance.tv": 0,
    "clip.antialias": False,
}
CARRY = {"sampler.carry", "sampler.carry_weight", "sampler.carry_noises"}  # beside an edit
# settings of these groups that are the experiment's, or mean nothing there
OPEN = {
    "task.name", "task.count", "task.paired", "task.published_pixels",
    "sampler.s_for", "sampler.encode", "sampler.variance", *CARRY,
    "guidance.targets", "guidance.weights", "guidance.distractors", "guidance.scale",
    "guidance.cut_min", "guidance.cut_max", "guidance.cap",
    "guidance.travel_start", "guidance.travel_end",
    "clip.name", "clip.heldout", "clip.arch",
}  # fmt: skip
STRENGTHS = {"contrastive": 100, "spherical": 1000}


def settings(*words, groups):
    """The settings of some groups, by dotted name."""
    whole = plain(configure(*words))
    found = {}
    for group in groups:
        for name, value in whole[group].items():
            if isinstance(value, dict):
                found |= {f"{group}.{name}.{key}": inner for key, inner in value.items()}
            else:
                found[f"{group}.{name}"] = value
    return found


def check(found, published, undecided):
    """Every setting that decides the computation is listed, and as published."""
    for name, value in published.items():
        assert found[name] == value, name
    assert not found.keys() - published.keys() - undecided


GUIDED_GROUPS = ("task", "sampler", "guidance", "clip")


@pytest.mark.parametrize("loss", STRENGTHS)
@pytest.mark.parametrize(
    "words",
    [
        "guidance={}_faithful guidance.targets=x guidance.distractors=[y]",
        "experiment=cifar10_{} preset=faithful_guidance",
        "experiment=cifar10_latent guidance={}_faithful",
        "experiment=toonfaces_{} preset=faithful_guidance guidance.scale=7",
    ],
)
def test_guidance_that_is_faithful_is_complete(loss, words):
    found = settings(*words.format(loss).split(), "dataset=sampled", groups=GUIDED_GROUPS)
    # the steps from optimised latents are the experiment's
    own = {"sampler.t0", "sampler.s_gen"} if "cifar10_latent" in words else set()
    published = {name: value for name, value in GUIDED.items() if name not in own}
    check(found, published, OPEN | own)
    scale = 7 if "toonfaces" in words else STRENGTHS[loss]
    assert found["guidance.scale"] == scale


@pytest.mark.parametrize("loss", STRENGTHS)
def test_cifar10_to_the_letter(loss):
    cfg = configure(f"experiment=cifar10_{loss}", "preset=faithful_guidance", "dataset=sampled")
    assert cfg.task.published_pixels
    assert cfg.sampler.variance.value == "fixed_large"
    assert (cfg.checkpoint.name, cfg.clip.name) == ("cifar10", "openai_vit_b_32")
    ours = configure(f"experiment=cifar10_{loss}", "dataset=sampled")
    assert (ours.clip.antialias, ours.guidance.clip_range.value) == (True, "unit")
    assert (ours.task.clip_x0, ours.sampler.noise_last, ours.task.published_pixels) == (
        True,
        False,
        False,
    )


FINE_TUNED = {  # the published DiffusionCLIP code, as its README calls it
    "sampler.solver": "ddim",
    "sampler.s_for": 40,
    "sampler.s_gen": 40,
    "sampler.eta": 0,
    "sampler.final_step": "to_clean",
    "sampler.grid": "uniform",
    "sampler.encode": "invert",
    "sampler.carry": "none",
    "sampler.carry_weight": 1,
    "sampler.carry_noises": 1,
    "method.objective": "chain",
    "method.batch": 1,
    "method.shuffle": False,
    "method.epochs": 5,
    "method.lr": 8e-6,
    "method.lr_schedule": "code",
    "method.s_train": 6,
    "method.lora.rank": 0,
    "loss.clip": 3,
    "loss.form": "neg_log",
    "loss.templates": "imagenet79",
    "clip.antialias": False,
}
# settings of these groups that are the edit's or the data's, or mean nothing there
UNDECIDED = {
    "sampler.t0", "loss.l1", "loss.id", "method.save_every", "method.keep_epochs",
    "method.lora.alpha", "method.lora.attention", "method.lora.conv", "method.lora.time",
    "method.lora.decoder_from",
    "clip.name", "clip.heldout", "clip.arch",
}  # fmt: skip
FINE_TUNED_GROUPS = ("sampler", "method", "loss", "clip")


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_that_is_faithful_is_complete_on_every_data_set(name):
    words = [f"experiment={name}", "preset=faithful", "dataset=sampled"]
    found = settings(*words, groups=FINE_TUNED_GROUPS)
    twelve = {"method.s_train": 12} if name.startswith("imagenet") else {}
    check(found, FINE_TUNED | twelve, UNDECIDED)
    cfg = configure(*words)
    assert cfg.dataset.train == 50
    table5 = OmegaConf.load(ROOT / "conf" / "edit" / f"{cfg.edit.name or 'red_hair'}.yaml")
    if "loss" in table5:
        chosen = (cfg.sampler.t0, cfg.loss.l1, cfg.loss.id)
        assert chosen == (table5.sampler.t0, table5.loss.l1, table5.loss.id)


LATENT = {  # the latent optimisation of the published DiffusionCLIP code
    "task.clip_x0": False,
    "task.leak": 0,
    "task.start": "images",
    "task.published_pixels": False,
    "sampler.solver": "ddim",
    "sampler.s_for": 40,
    "sampler.eta": 0,
    "sampler.final_step": "to_clean",
    "sampler.grid": "uniform",
    "sampler.encode": "invert",
    "sampler.carry": "none",
    "sampler.carry_weight": 1,
    "sampler.carry_noises": 1,
    "guidance.templates": "a",
    "method.s_opt": 6,
    "method.lr": 2e-2,
    "method.objective": "global_neg_log",
    "method.clip": 3,
    "method.unit_gradients": False,
    "method.keep_best": False,
    "method.stop_at": 1,
    "method.patience": 1_000_000,
    "method.l1": 0,
    "method.id": 0,
    "method.norm": 0,
    "clip.antialias": False,
}
LATENT_OPEN = {  # the experiment's, or without influence on a latent
    "task.name", "task.count", "task.paired",
    "sampler.t0", "sampler.s_gen",
    "guidance.targets", "guidance.weights", "guidance.distractors",
    "method.steps", "method.batch", "method.checkpointing",
    "clip.name", "clip.heldout", "clip.arch",
}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "experiment=toonfaces_latent preset=faithful",
        "experiment=toonfaces_latent preset=faithful_latent",
        "experiment=cifar10_latent preset=faithful dataset=sampled",
        "task=sample method=latent_opt preset=faithful",
        "experiment=toonfaces_latent preset=[faithful]",
    ],
)
def test_latent_optimisation_that_is_faithful_is_complete(words):
    groups = ("task", "sampler", "guidance", "method", "clip")
    check(settings(*words.split(), groups=groups), LATENT, LATENT_OPEN)
