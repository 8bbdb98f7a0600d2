"""h-Edit: against a plain implementation, and as a method of the house."""

import math

import pytest
import torch

from dclip.config import Loss, ShiftLoss
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import pairs_of
from dclip.edits.confined import confined
from dclip.edits.degree import calibrated
from dclip.edits.saved import edit_header
from dclip.encode.invert import encode_to_edit
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.contract import method_of
from dclip.methods.h_edit.edit import RewardedEdit, halves, loss_of
from dclip.methods.load import load_edits
from dclip.models.checkpoints import load_model
from dclip.pipeline import run as do
from dclip.prepare.networks import networks
from dclip.prepare.plan import calls
from helpers.images import images16
from helpers.networks import a_run
from helpers.runs import configure, words

OFF = {"edit__region": "none", "loss__keep": 0, "loss__id": 0, "loss__clip": 1}


@pytest.fixture(scope="module")
def model64(nets):
    return load_model(str(nets["model64"]))


@pytest.fixture(scope="module")
def settings(tiny):
    """A small run of the method."""
    dropped = ("method.lora.rank", "method.objective", "method.lr", "method.lr_schedule")
    dropped += ("method.epochs", "method.s_train")
    kept = {key: value for key, value in tiny.items() if key not in dropped}
    mine = {"experiment": "toonfaces_h_edit", "edit": "red_hair", "sampler.s_gen": 4}
    return {**kept, **mine, "method.rounds": 2, "method.scale": 5, "method.paired": "false"}


@pytest.fixture
def making(settings, model, clip):
    def build(**more):
        cfg = configure(*words(settings, **{**OFF, **more}))
        return a_run(cfg, model, clip=clip)

    return build


def edited(run, images, gamma=1.0):
    edit = method_of(run.cfg).adapt(run, {})
    return edit.apply(run, encode_to_edit(run, images), gamma)


def plainly(model, clip, name, source, pairs, seed, loss, texts, scale, rounds, paired):
    """One image [1,3,H,W], step by step with z_t written out and gradients taken at x."""
    a_of = model.schedule.alpha_bar
    before, after = clip.text_features([texts[0]])[0], clip.text_features([texts[1]])[0]
    direction = (after - before) / (after - before).norm()

    def asks(x0, beside):
        moved = clip.image_features(x0) - clip.image_features(beside)
        cosine = (moved / (moved.norm() + 1e-7)) @ direction
        value = loss.clip * -torch.log((1 + cosine) / 2)
        lacking = (loss.margin - moved @ direction).clamp_min(0)
        return (value + loss.shift * lacking).sum()

    def keeps(x0, beside):
        return loss.l1 * (x0 - beside).abs().mean()

    def eps_at(x, t):
        with torch.no_grad():
            return model.predict(x, torch.tensor([t])).eps

    def image_at(x, eps, t):
        return (x - math.sqrt(1 - a_of(t)) * eps) / math.sqrt(a_of(t))

    noise, states = ImageNoise([f"carry/{name}"], seed), []
    for t, _ in pairs:
        states.append(math.sqrt(a_of(t)) * source + math.sqrt(1 - a_of(t)) * noise.like(source))
    states.append(source)
    x = states[0]
    for k, (t, t_next) in enumerate(pairs):
        left = 1 - a_of(t_next)
        c_noise, c_eps = 0.5 * math.sqrt(left), math.sqrt(0.75 * left)
        means = []
        for now in (states[k], x):
            eps = eps_at(now, t)
            means.append(math.sqrt(a_of(t_next)) * image_at(now, eps, t) + c_eps * eps)
        if t_next == pairs[-1][1]:
            return states[-1] + means[1] - means[0]
        z = (states[k + 1] - means[0]) / c_noise
        x, beside = means[1] + c_noise * z, source
        if paired:
            beside = image_at(states[k + 1], eps_at(states[k + 1], t_next), t_next).clamp(-1, 1)
        for _ in range(rounds):
            for reward in (asks, keeps):
                eps, x = eps_at(x, t_next), x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(reward(image_at(x, eps, t_next), beside), x)
                x = (x - math.sqrt(a_of(t_next)) * scale * slope).detach()
    raise AssertionError("the way down has no end")


@pytest.mark.parametrize("paired", [False, True])
def test_it_is_the_papers_implicit_form(making, model, clip, paired):
    run, images = (
        making(loss__l1=20, method__paired=paired, loss__clip=int(not paired), loss__shift=10),
        images16(2),
    )
    texts, pairs = (run.cfg.edit.source, run.cfg.edit.target), pairs_of(run.cfg.sampler)[1]
    made = edited(run, images)
    for k, name in enumerate(images.ids):
        source = images.pixels[k : k + 1]
        given = name, source, pairs, run.cfg.seed, run.cfg.loss, texts
        one = plainly(model, clip, *given, 5, 2, paired)
        assert float((made[k] - one[0]).abs().mean()) < 1e-5
    assert float((made - images.pixels).abs().mean()) > 1e-2


def test_without_a_step_along_the_reward_the_source_comes_back(making):
    run, images = making(method__scale=1e-12), images16(2)
    torch.testing.assert_close(edited(run, images), images.pixels, rtol=0, atol=1e-6)
    assert torch.equal(edited(run, images, 0.0), images.pixels)


def test_the_other_way_earns_less(making, clip):
    """Among small steps, CLIP sees more of the edit with gamma above 0 than with one below."""
    from dclip.methods.diffusionclip.loss import edit_loss

    run, images = making(method__scale=0.5, loss__l1=0), images16(2)
    loss = edit_loss(run, images)
    there, back = (float(loss.s_dir(edited(run, images, gamma))) for gamma in (1.0, -1.0))
    assert there > back


def test_nothing_is_inverted_and_batches_change_no_picture(making, model):
    seen = []
    hook = model.unet.register_forward_hook(lambda _n, x, _o: seen.append(len(x[0])))
    images, made = images16(3), []
    for size in (1, 3):
        made.append(edited(making(trainer__batch=size, loss__l1=0, method__scale=1), images))
    hook.remove()
    steps, rounds = 4, 2
    assert sum(seen) == 2 * 3 * (2 * steps + rounds * (steps - 1))
    assert float((made[0] - made[1]).abs().mean()) < 1e-4


def test_a_plan_counts_its_rounds(making):
    work = calls(making(dataset__test=5, degrees="[]").cfg)
    assert (work["edit"], work["reward"]) == (5 * 2 * 4, 5 * 2 * 2 * 3)


def test_terms_of_the_loss_are_told_apart():
    loss = ShiftLoss(clip=1, shift=2, l1=3, id=4, keep=5, outside=6, contrast=7, prior=8)
    asking, keeping = halves(loss)
    asks = {name: weight for name, weight in asking.weights.items() if weight}
    keeps = {name: weight for name, weight in keeping.weights.items() if weight}
    assert asks == {"clip": 1, "shift": 2, "contrast": 7}
    assert keeps == {"l1": 3, "id": 4, "keep": 5, "outside": 6, "prior": 8}
    assert halves(Loss(clip=1, l1=0, id=0))[1] is None
    settings = {"clip": 2.0, "l1": 0.5, "id": 0.0, "form": "cosine", "templates": "a"}
    assert loss_of(settings) == Loss(2, 0.5, 0, "cosine", "a")
    older = {**settings, "shift": 3.0, "margin": 0.2, "keep": 1.0, "outside": 0.0}
    assert loss_of(older) == ShiftLoss(2, 0.5, 0, "cosine", "a", shift=3, margin=0.2, keep=1)


def test_a_run_keeps_it_and_it_is_applied_again(settings, tmp_path, clip, model, model64):
    more = {"output": tmp_path, "dataset.test": 2, "degrees": "[]", "metric.axioms": 1}
    folder = do(configure(*words({**settings, **more}, **OFF)))
    scores = read_json(folder / "metrics.json")
    assert scores["composition_1"] == 0
    groups = {k: v for k, v in settings.items() if k.split(".")[0] in ("clip", "metric", "trainer")}
    again = configure(
        *words({**groups, "task": "edit", "edit.adapter": folder, "logger": "csv"}),
        f"checkpoint.name={settings['checkpoint.name']}",
    )
    assert again.sampler.carry == "noise_maps" and again.sampler.s_gen == 4
    run, edit = a_run(again, model, clip=clip), load_edits(again, model64)
    assert isinstance(edit, RewardedEdit)
    images = images16(2)
    first = edited(a_run(configure(*words(settings, **OFF)), model, clip=clip), images)
    made = edit.apply(run, encode_to_edit(run, images), 1.0)
    assert float((made - first).abs().mean()) < 1e-4
    with pytest.raises(DclipError, match="cannot be mixed"):
        edit.denoiser(1.0)
    with pytest.raises(DclipError, match=r"set metric\.clip=true"):
        edit.apply(a_run(again, model), encode_to_edit(run, images), 1.0)


@pytest.mark.parametrize("weight", [0, 1])
def test_a_metric_switch_takes_none_of_its_networks(making, settings, weight, tmp_path):
    run, path = making(loss__id=weight), tmp_path / "adapter.safetensors"
    method_of(run.cfg).adapt(run, {}).save(path, edit_header(run))
    given = {"task": "edit", "edit.adapter": path, "metric": "none", "trainer": "cpu"}
    names = networks(configure(*words(given, checkpoint__name=settings["checkpoint.name"])))
    assert names.clip is not None and names.heldout is None
    assert (names.identity is not None) == bool(weight)


def test_it_has_degrees_too(making):
    run, images = making(edit__degree=0.5), images16(2)
    own = method_of(run.cfg).adapt(run, {})
    start = encode_to_edit(run, images)
    edit = confined(run.cfg, calibrated(run, own, start.take([])))
    assert torch.equal(edit.apply(run, start, 1.0), edited(run, images, 0.5))


def test_it_acts_in_a_region(making):
    run = making(edit__region="auto", edit__region_low=0.9, edit__region_high=0.95)
    edit = confined(run.cfg, method_of(run.cfg).adapt(run, {}))
    start = encode_to_edit(run, images16(2))
    made, source = edit.apply(run, start, 1.0), start.sources.pixels
    outside = (edit.region(start) == 0).expand_as(made)
    assert int(outside.sum()) > 0 and torch.equal(made[outside], source[outside])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampler__carry": "none"}, "set sampler.carry=noise_maps"),
        ({"sampler__carry_weight": 2}, "set method.scale"),
        ({"loss__clip": 0, "loss__shift": 0, "loss__l1": 1}, "set loss.clip above 0"),
        ({"method__paired": "true", "loss__clip": 1}, "set loss.clip=0, and"),
        ({"method__scale": 0}, "method.scale=0.0 must be greater than 0"),
        ({"method__spread": 2}, "method.spread=2.0 is a share"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(making, given, said):
    with pytest.raises(DclipError) as caught:
        making(**given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
