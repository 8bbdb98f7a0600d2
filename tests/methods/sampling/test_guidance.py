import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dclip import losses
from dclip.config import OPTIONS, ClipRange, Normalise, Sees
from dclip.diffusion.noise import ImageNoise, image_seed
from dclip.diffusion.options import pairs_of, solver_of
from dclip.diffusion.sampler import DDIM, DDPM, Prediction, TimeTravel, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.solvers import AB2
from dclip.diffusion.timesteps import pairs_down
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.sampling.guidance import Context, Guide
from dclip.methods.sampling.guidances import guidance_named, guidances
from dclip.methods.sampling.objective import ClipObjective
from dclip.methods.sampling.trace import Trace
from dclip.methods.sampling.views import Views
from dclip.models.checkpoints import load_model
from dclip.prepare import plan
from dclip.text.features import read_prompts
from dclip.text.prompts import Prompt
from helpers.runs import configure, run, words

KINDS = sorted(guidances())
SOLVERS = {"ddim": DDIM(), "eta": DDIM(0.6), "ddpm": DDPM()}
PROMPT = Prompt("a person with a beard", 1.0, ("a person with no beard", "a zombie"))
SCHEDULE = Schedule()
IDS = [f"sample_{i}" for i in range(8)]


def noise_like(n=3, seed=0):
    return ImageNoise(IDS[:n], seed).like(torch.empty(n, 3, 16, 16))


def make_guide(clip, kind="contrastive", prompts=(PROMPT,), **options):
    chosen = guidances()[kind](**options)
    reader = read_prompts(
        clip,
        prompts,
        temperature=chosen.temperature,
        source="person" if chosen.needs_direction else None,
    )
    return Guide(
        chosen, ClipObjective(chosen, [reader], [p.weight for p in prompts]), SCHEDULE, seed=3
    )


def run_down(model, guide, solver=None, n=3, steps=3, context=None, **more):
    sources = torch.tanh(noise_like(n, seed=9))
    context = context or Context(IDS[:n], sources)
    eps_fn = guide(model.predict, context) if guide else model.predict
    with torch.no_grad():
        return sample(
            eps_fn,
            noise_like(n),
            pairs_down(900, steps),
            SCHEDULE,
            solver=solver,
            noise=ImageNoise(IDS[:n], 1),
            clip_x0=True,
            **more,
        )


# ------------------------------------------------------------------------------------------- every guidance, every sampler


def test_every_guidance_has_a_loss():
    assert {name for name in OPTIONS["guidance"] if name != "none"} == set(KINDS)
    assert len(KINDS) == 7


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_scale_zero_is_no_guidance_bit_for_bit_and_more_is_not(model, clip, kind, solver):
    free = run_down(model, None, SOLVERS[solver])
    off = run_down(model, make_guide(clip, kind, scale=0.0, tv=1.0, time_travel=2), SOLVERS[solver])
    assert torch.equal(free, off)
    on = run_down(model, make_guide(clip, kind, scale=2.0), SOLVERS[solver])
    assert bool(torch.isfinite(on).all())
    assert float((on - free).abs().amax((1, 2, 3)).min()) > 1e-3


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("sees", list(Sees))
def test_a_batch_of_one_gives_the_picture_of_a_batch_of_eight(model, clip, solver, sees):
    options = {"sees": sees, "cutouts": 2, "noise": 0.1, "every": 2, "tv": 0.1, "range": 0.1}
    whole = run_down(
        model, make_guide(clip, "contrastive_directional", **options), SOLVERS[solver], n=8
    )
    sources = torch.tanh(noise_like(8, seed=9))
    for i in (0, 5):
        guide = make_guide(clip, "contrastive_directional", **options)
        eps_fn = guide(model.predict, Context([IDS[i]], sources[i : i + 1]))
        with torch.no_grad():
            one = sample(
                eps_fn, noise_like(8)[i : i + 1], pairs_down(900, 3), SCHEDULE,
                solver=SOLVERS[solver], noise=ImageNoise([IDS[i]], 1), clip_x0=True,
            )  # fmt: skip
        torch.testing.assert_close(
            one[0], whole[i], rtol=2e-3, atol=5e-3
        )  # random weights: values up to 10


@pytest.mark.parametrize("option", [
    {"sees": Sees.x_t}, {"sees": Sees.blend}, {"sees": Sees.x0_through_unet}, {"clip_range": ClipRange.raw}, {"cutouts": 2},
    {"flip": False}, {"noise": 0.5}, {"normalise": Normalise.none}, {"normalise": Normalise.eps}, {"normalise": Normalise.cap},
    {"t_start": 500}, {"t_end": 600}, {"every": 2}, {"time_travel": 1}, {"range": 5.0}, {"tv": 5.0}, {"temperature": 0.5},
], ids=str)  # fmt: skip
def test_every_option_changes_the_picture(model, clip, option):
    def drawn(**options):
        guide = make_guide(clip, **options)
        eps_fn = guide(model.predict, Context(IDS[:3]))
        o = guide.options
        travel = TimeTravel(
            DDIM(), ImageNoise(IDS[:3], 5), o.time_travel, o.travel_start, o.travel_end
        )
        with torch.no_grad():
            return sample(eps_fn, noise_like(), pairs_down(900, 4), SCHEDULE, solver=travel)

    assert float((drawn(**option) - drawn()).abs().max()) > 1e-4


def test_a_network_that_predicts_its_variance_is_guided_too(nets, clip):

    model = load_model(str(nets["learned64"]))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500])
    with torch.no_grad():
        plain = model.predict(x, t)
        for sees in (Sees.x0, Sees.x0_through_unet):
            guided = make_guide(clip, sees=sees)(model.predict, Context(["a"]))(x, t)
            torch.testing.assert_close(guided.fraction, plain.fraction)
            assert not torch.allclose(guided.eps, plain.eps)


# ------------------------------------------------------------------------------------------- the published computation


def transcription(model, clip, x, gamma, ids, start):
    """The report's ancestral sampling (Eq. 5) with its code's placement of the constants, written down plainly."""
    texts = F.normalize(
        clip.clip.encode_text(clip.tokenizer([PROMPT.text, *PROMPT.distractors])), dim=-1
    ).detach()
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    posterior = betas[1:] * (1 - bars[:-1]) / (1 - bars[1:])
    variance = np.concatenate([posterior[:1], betas[1:]])  # "fixed large"
    drawers = [torch.Generator().manual_seed(image_seed(1, name)) for name in ids]
    for t in range(start, -1, -1):
        with torch.no_grad():
            eps = model.eps(x, torch.full((len(x),), t))
        seen = x.clone().requires_grad_()
        big = F.interpolate(seen, (64, 64), mode="bicubic", antialias=True)  # and not (x + 1) / 2
        image = F.normalize(clip.clip.encode_image((big - 0.5) / 0.5), dim=-1)
        score = torch.log_softmax(100 * image @ texts.T, dim=1)[:, 0].sum()
        (gradient,) = torch.autograd.grad(score, seen)
        z = torch.stack([torch.randn(x.shape[1:], generator=g) for g in drawers])
        x = (x - betas[t] / np.sqrt(1 - bars[t]) * eps + gamma * betas[t] * gradient) / np.sqrt(
            1 - betas[t]
        )
        x = (x + np.sqrt(variance[t]) * z).float()
    return x


def test_the_faithful_preset_is_equation_5_as_published(model, clip):
    cfg = configure(
        "guidance=contrastive_faithful",
        "sampler.variance=fixed_large",
        "guidance.targets=x",
        "guidance.distractors=[y]",
    )
    assert cfg.guidance.scale == 100
    assert not cfg.task.clip_x0
    assert (cfg.sampler.t0, cfg.sampler.s_gen) == (999, 1000)
    reader = read_prompts(clip, [PROMPT], temperature=cfg.guidance.temperature)
    guide = Guide(cfg.guidance, ClipObjective(cfg.guidance, [reader], [1.0]), SCHEDULE)
    ids, x, start = IDS[:2], noise_like(2) * 0.5, 6
    with torch.no_grad():
        ours = sample(
            guide(model.predict, Context(ids)), x, pairs_down(start, start + 1), SCHEDULE,
            solver=solver_of(cfg.sampler), noise=ImageNoise(ids, 1),
        )  # fmt: skip
    theirs = transcription(model, clip, x, 100, ids, start)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    without = transcription(model, clip, x, 0, ids, start)
    assert float((theirs - without).abs().max()) > 3e-4, "the gradient must matter here"


def test_spherical_faithful_differs_in_its_loss_and_strength_only():
    one, other = (
        configure(f"guidance={k}_faithful", "guidance.targets=x", "guidance.distractors=[y]")
        for k in ("contrastive", "spherical")
    )
    assert other.guidance.scale == 1000
    assert {k: v for k, v in vars(one.guidance).items() if k != "scale"} == {
        k: v for k, v in vars(other.guidance).items() if k != "scale"
    }
    assert one.sampler == other.sampler


def test_a_shift_of_eps_is_the_reports_shift_of_the_mean_at_any_stride():
    gradient, gamma = noise_like(2, seed=4), 7.0

    class Zero:
        def like(self, x):
            return torch.zeros_like(x)

    for t, t_next in ((500, 499), (500, 400), (900, 0)):
        a, a_next = SCHEDULE.alpha_bar(t), SCHEDULE.alpha_bar(t_next)
        beta = 1 - a / a_next
        made = []
        for scale in (0.0, gamma):
            shift = scale * math.sqrt(1 - a) * gradient
            made.append(
                sample(
                    lambda x, _, shift=shift: Prediction(0.3 * x).shifted(shift),
                    noise_like(2),
                    [(t, t_next)],
                    SCHEDULE,
                    solver=DDPM(),
                    noise=Zero(),
                )
            )
        plain, shifted = made
        torch.testing.assert_close(
            shifted - plain, gamma * beta * gradient / math.sqrt(1 - beta), rtol=1e-4, atol=1e-4
        )


def test_noise_on_the_last_step_has_the_published_variance():
    x = torch.zeros(1, 3, 8, 8)

    def last(**options):
        return sample(
            lambda x, t: Prediction(torch.zeros_like(x)),
            x,
            [(0, -1)],
            SCHEDULE,
            solver=DDPM(**options),
            noise=ImageNoise("a"),
        )

    assert torch.equal(last(), x)
    z = ImageNoise("a").like(x)
    sigma = float((last(variance="fixed_large", noise_last=True) / z).mean())
    assert sigma == pytest.approx(0.0074, abs=5e-5)
    assert float(last(variance="fixed_small", noise_last=True).abs().max()) < 1e-8


# ------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_along_the_gradient_raises_the_target(model, clip, kind):
    guide = make_guide(clip, kind, cutouts=0, flip=False, normalise=Normalise.none, sees=Sees.x_t)
    source = torch.tanh(noise_like(3, seed=9))
    guided = guide(model.predict, Context(IDS[:3], source))
    x, t = torch.tanh(noise_like(3, seed=2)), torch.full((3,), 500)
    with torch.no_grad():
        step = model.eps(x, t) - guided(x, t).eps  # eps - eps' points along the gradient
        features = [
            guide.objective.features(y)
            for y in (x, x + 0.3 * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
        ]
        sources = guide.objective.features(source)
        before, after = (guide.objective.loss(f, sources) for f in features)
    assert float(after) < float(before)
    if kind == "contrastive":
        p = [guide.objective.readers[0].probabilities(f[0])[0][:, 0] for f in features]
        assert bool((p[1] > p[0]).all())


@pytest.mark.parametrize("sees", list(Sees))
def test_the_gradient_is_that_of_what_clip_sees(model, clip, sees):
    guide = make_guide(
        clip, scale=1.0, flip=False, normalise=Normalise.none, sees=sees, temperature=1.0
    )
    t, a = torch.tensor([400]), SCHEDULE.alpha_bar(400)
    x = noise_like(1, seed=2)
    with torch.no_grad():
        eps = model.eps(x, t)
        guided = guide(model.predict, Context(IDS[:1]))(x, t).eps
        gradient = (eps - guided) / math.sqrt(1 - a)

    def log_p(x):
        with torch.no_grad():
            noise = model.eps(x, t) if sees is Sees.x0_through_unet else eps
            x0 = (x - math.sqrt(1 - a) * noise) / math.sqrt(a)
            share = {Sees.x_t: 0.0, Sees.blend: math.sqrt(1 - a)}.get(sees, 1.0)
            features = clip.image_features(share * x0 + (1 - share) * x)
            return losses.log_probabilities(
                features,
                torch.cat(
                    [guide.objective.readers[0].targets, guide.objective.readers[0].distractors[0]]
                ),
                1.0,
            )[0, 0]

    along = gradient / gradient.norm()
    measured = float(log_p(x + 0.02 * along) - log_p(x - 0.02 * along)) / 0.04
    assert measured == pytest.approx(float(gradient.norm()), rel=0.05)


@pytest.mark.parametrize(("normalise", "expected"), [
    (Normalise.eps, lambda e, a: 0.3 * e), (Normalise.bounded, lambda e, a: torch.full_like(e, 0.3 * math.sqrt(a * 768))),
])  # fmt: skip
def test_a_normalised_step_is_as_long_as_it_says(model, clip, normalise, expected):
    guided = make_guide(clip, scale=0.3, normalise=normalise)(model.predict, Context(IDS[:3]))
    x, t = noise_like(3), torch.full((3,), 400)
    with torch.no_grad():
        eps = model.eps(x, t)
        length = (eps - guided(x, t).eps).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        length, expected(eps.flatten(1).norm(dim=1), SCHEDULE.alpha_bar(400)), rtol=1e-3, atol=1e-3
    )


def test_a_capped_step_is_the_published_one_unless_it_is_too_long(model, clip):
    x, t = noise_like(3), torch.full((3,), 400)

    def step(**options):
        guide = make_guide(clip, cutouts=0, flip=False, **options)
        with torch.no_grad():
            return model.eps(x, t) - guide(model.predict, Context(IDS[:3]))(x, t).eps

    published = step(scale=1.0, normalise=Normalise.none)
    torch.testing.assert_close(step(scale=1.0, normalise=Normalise.cap, cap=1e6), published)
    with torch.no_grad():
        length = model.eps(x, t).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        step(scale=1e6, normalise=Normalise.cap, cap=0.1).flatten(1).norm(dim=1),
        0.1 * length,
        rtol=1e-3,
        atol=0,
    )


# ------------------------------------------------------------------------------------------- losses, by hand

TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def test_the_contrastive_loss_is_minus_the_log_of_a_softmax():
    features = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    logits = features.double() @ TEXTS.double().T / 0.1
    expected = -(logits.exp()[:, 0] / logits.exp().sum(1)).log().mean()
    assert float(losses.contrastive(features, TEXTS[0], TEXTS[1:], 0.1)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_the_contrastive_loss_does_not_underflow():
    features = torch.tensor([[-1.0, 0.0]], dtype=torch.float16)
    assert float(
        losses.contrastive(features, TEXTS[0].half(), TEXTS[2:].half(), 0.01)
    ) == pytest.approx(200, rel=1e-3)


def test_the_contrastive_gradient_fades_where_the_target_has_won():
    def pull(angle):
        features = torch.tensor([[math.cos(angle), math.sin(angle)]], requires_grad=True)
        (g,) = torch.autograd.grad(
            losses.contrastive(features, TEXTS[0], TEXTS[1:2], 0.1), features
        )
        return float(g.norm())

    assert pull(0.0) < 1e-3 < pull(1.2)


def test_spherical_single_and_contrastive_directional_losses_by_hand():
    features = torch.tensor([[0.0, 1.0]])
    assert float(losses.spherical(features, TEXTS[0])) == pytest.approx(
        2 * (math.pi / 4) ** 2, rel=1e-5
    )
    assert float(losses.spherical(TEXTS[:1], TEXTS[0])) == pytest.approx(0, abs=1e-6)
    assert float(losses.single(features, TEXTS[1])) == pytest.approx(
        math.log(1 + math.exp(-1)), rel=1e-5
    )
    edited, source = (
        torch.tensor([[0.0, 2.0]]),
        torch.tensor([[0.0, -1.0]]),
    )  # the change is along the second text
    loss = losses.contrastive_directional(edited, source, TEXTS[1], TEXTS[:1], 0.5)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.spherical, losses.single])
def test_the_losses_have_finite_gradients_at_and_opposite_the_text(loss):
    for row in ([1.0, 0.0], [-1.0, 0.0]):
        features = torch.tensor([row], requires_grad=True)
        (g,) = torch.autograd.grad(loss(features, TEXTS[0]), features)
        assert bool(torch.isfinite(g).all())


# ------------------------------------------------------------------------------------------- calls, views, trace, time travel


@pytest.mark.parametrize(("options", "steps"), [
    ({}, [900, 600, 300]), ({"t_start": 700}, [600, 300]), ({"t_end": 400}, [900, 600]), ({"every": 2}, [900, 300]),
    ({"every": 5}, [900]), ({"t_start": 10, "t_end": 5}, []),
], ids=str)  # fmt: skip
def test_clip_looks_when_it_should_and_once_an_image(model, clip, options, steps):
    guide = make_guide(clip, cutouts=0, **{"t_end": 100, **options})
    asked, trace = [], Trace()

    def counting(x, t):
        asked.append(int(t[0]))
        return model.predict(x, t)

    with torch.no_grad():
        sample(
            guide(counting, Context(IDS[:3]), trace.observe),
            noise_like(),
            pairs_down(900, 4),
            SCHEDULE,
        )
    assert asked == [900, 600, 300, 0]
    assert sorted(trace.sums, reverse=True) == steps
    assert trace.views == 3 * len(steps)


def test_texts_are_encoded_once_before_sampling(model, clip, monkeypatch):
    guide = make_guide(clip)

    def never(_):
        raise AssertionError("the text was encoded again")

    monkeypatch.setattr(clip, "text_features", never)
    run_down(model, guide)


def test_several_clips_guide_together_and_each_weighs_the_same(model, clip, nets):
    from dclip.models.checkpoints import load_clip

    options = OPTIONS["guidance"]["contrastive"](cutouts=0, flip=False, normalise=Normalise.none)
    readers = [
        read_prompts(clip, [PROMPT]),
        read_prompts(load_clip(str(nets["heldout"])), [PROMPT]),
    ]

    def step(*chosen):
        guided = Guide(options, ClipObjective(options, chosen, [1.0]), SCHEDULE)(
            model.predict, Context(IDS[:2])
        )
        x, t = noise_like(2), torch.tensor([400, 400])
        with torch.no_grad():
            return model.eps(x, t) - guided(x, t).eps

    together = step(*readers)
    torch.testing.assert_close(
        together, (step(readers[0]) + step(readers[1])) / 2, rtol=1e-3, atol=1e-5
    )
    assert not torch.allclose(together, step(readers[0]), atol=1e-4)


def test_several_targets_pull_by_their_weights(clip):
    prompts = [Prompt("a zombie", 1.0, ("a person",)), Prompt("red hair", 3.0, ("black hair",))]
    reader = read_prompts(clip, prompts)
    features = [clip.image_features(torch.tanh(noise_like()))]
    guidance = guidance_named("contrastive")
    whole = ClipObjective(guidance, [reader], [1.0, 3.0]).loss(features)
    each = [guidance.loss(reader, k, features[0], features[0]) for k in (0, 1)]
    torch.testing.assert_close(whole, (each[0] + 3 * each[1]) / 4)


def test_templates_are_averaged(clip):
    plain, averaged = (
        read_prompts(clip, [PROMPT], templates) for templates in ("none", "imagenet79")
    )
    assert not torch.allclose(plain.targets, averaged.targets, atol=1e-3)
    mean = F.normalize(
        clip.text_features([t.format(PROMPT.text) for t in losses.templates("imagenet79")]).mean(0),
        dim=0,
    )
    torch.testing.assert_close(averaged.targets[0], mean)


def test_a_view_of_the_whole_is_the_image_and_a_flipped_one_its_mirror():
    images = torch.tanh(noise_like(2))
    options = OPTIONS["guidance"]["contrastive"](cutouts=1, cut_min=1.0, flip=True)
    views = Views(options, IDS[:2], 0)
    seen = [views.cut(images, views.boxes(), 16) for _ in range(8)]
    mirrored = [torch.allclose(s[0], images[0].flip(-1), atol=1e-4) for s in seen]
    assert all(
        m or torch.allclose(s[0], images[0], atol=1e-4) for m, s in zip(mirrored, seen, strict=True)
    )
    assert 0 < sum(mirrored) < 8


def test_cutouts_are_squares_inside_the_image():
    views = Views(
        OPTIONS["guidance"]["contrastive"](cutouts=50, cut_min=0.3, cut_max=0.6, flip=False),
        ["a"],
        0,
    )
    boxes = views.boxes()
    sides, centers = boxes[..., 0, 0], boxes[..., :, 2]
    torch.testing.assert_close(sides, boxes[..., 1, 1])
    assert 0.3 <= float(sides.min()) < 0.4
    assert 0.5 < float(sides.max()) <= 0.6
    assert float((centers.abs() + sides[..., None]).max()) <= 1 + 1e-6


def test_without_augmentation_clip_sees_the_image_itself():
    options = OPTIONS["guidance"]["contrastive"](cutouts=0, flip=False)
    x = noise_like(1)
    assert Views(options, ["a"], 0).cut(x, None, 64) is x


def test_traces_of_several_processes_add_up():
    parts = [Trace(), Trace()]
    p = torch.tensor([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    parts[0].add(7, [p[:2]])
    parts[1].add(7, [p[2:]])
    n, total, squares = Trace.merged(parts).sums[7]
    assert n == 3
    torch.testing.assert_close(total, p.double().sum(0))
    torch.testing.assert_close(squares, p.double().square().sum(0))


def test_time_travel_repeats_the_steps_of_its_range_with_noise_of_its_own(model):
    asked = []

    def counting(x, t):
        asked.append(int(t[0]))
        return model.predict(x, t)

    noise = ImageNoise(IDS[:2], 1)
    travel = TimeTravel(DDPM(), ImageNoise(IDS[:2], 5), 2, from_t=800, to_t=400)
    with torch.no_grad():
        sample(counting, noise_like(2), pairs_down(900, 4), SCHEDULE, solver=travel, noise=noise)
    assert asked == [900, 600, 600, 600, 300, 0]
    used = ImageNoise(IDS[:2], 1)
    for _ in range(3):
        used.like(noise_like(2))
    assert torch.equal(noise.like(noise_like(2)), used.like(noise_like(2))), (
        "other methods must see the same step noise"
    )


def gaussian(mean, variance):
    """The exact denoiser of data whose pixels are all N(mean, variance)."""

    def denoiser(x, t):
        a = SCHEDULE.alpha_bar(int(t[0]))
        spread = a * variance + 1 - a
        return Prediction(math.sqrt(1 - a) / spread * (x - math.sqrt(a) * mean))

    return denoiser


@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_time_travel_in_a_gaussian_has_the_variance_of_its_closed_form(repeats):
    """DDIM keeps a Gaussian one: v' = k^2 v around sqrt(a') mean; the way up is k^2 = a / a'."""
    mean, variance, pairs, ids = 0.4, 0.3, pairs_down(900, 4), ["a", "b"]
    x = ImageNoise(ids, 1).like(torch.empty(2, 3, 128, 128).double())
    center, spread = 0.0, 1.0  # of pure noise, which no x_900 of the data is
    for t, t_next in pairs:
        a, a_next = SCHEDULE.alpha_bar(t), SCHEDULE.alpha_bar(t_next)
        covariance = math.sqrt(a * a_next) * variance + math.sqrt((1 - a) * (1 - a_next))
        k = covariance / (a * variance + 1 - a)
        for again in range(1 + (repeats if 200 <= t <= 700 else 0)):
            if again:
                center *= math.sqrt(a / a_next)
                spread = a / a_next * spread + 1 - a / a_next
            center = math.sqrt(a_next) * mean + k * (center - math.sqrt(a) * mean)
            spread = k**2 * spread
    travel = TimeTravel(DDIM(), ImageNoise(ids, 5), repeats, from_t=700, to_t=200)
    made = sample(gaussian(mean, variance), x, pairs, SCHEDULE, solver=travel)
    assert float(made.var()) == pytest.approx(spread, rel=0.02)
    assert float(made.mean()) == pytest.approx(center, abs=0.01)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_repetition_is_no_time_travel_bit_for_bit(model, clip, solver):
    guide = make_guide(clip, scale=2.0)
    travel = TimeTravel(SOLVERS[solver], ImageNoise(IDS[:3], 5), 0)
    assert torch.equal(run_down(model, guide, SOLVERS[solver]), run_down(model, guide, travel))


def test_time_travel_of_an_image_is_the_same_in_any_batch(model, clip):
    def drawn(rows):
        ids = [IDS[k] for k in rows]
        eps_fn = make_guide(clip)(model.predict, Context(ids))
        travel = TimeTravel(DDPM(), ImageNoise(ids, 5), 2, from_t=800, to_t=300)
        pairs, noise = pairs_down(900, 4), ImageNoise(ids, 1)
        with torch.no_grad():
            return sample(eps_fn, noise_like()[rows], pairs, SCHEDULE, solver=travel, noise=noise)

    whole = drawn([0, 1, 2])
    torch.testing.assert_close(drawn([1])[0], whole[1], rtol=2e-3, atol=5e-3)
    assert torch.equal(drawn([0, 1, 2]), whole)


def test_after_time_travel_a_solver_remembers_the_last_repetition():
    """AB2 written out: the repeated step is a first step, and the next one looks back at it."""
    denoiser, pairs = gaussian(0.4, 0.3), [(600, 300), (300, 100)]
    x, noise = noise_like(2).double(), ImageNoise(["a", "b"], 5)
    travel = TimeTravel(AB2(), ImageNoise(["a", "b"], 5), 1, from_t=600, to_t=500)
    made = sample(denoiser, x, pairs, SCHEDULE, solver=travel)
    once = sample(denoiser, x, pairs[:1], SCHEDULE, solver=AB2())
    kept = SCHEDULE.alpha_bar(600) / SCHEDULE.alpha_bar(300)
    back = math.sqrt(kept) * once + math.sqrt(1 - kept) * noise.like(once)
    torch.testing.assert_close(made, sample(denoiser, back, pairs, SCHEDULE, solver=AB2()))


@pytest.mark.parametrize("name", ["ddim", "ddpm", "ab2", "heun", "dpmpp_2m", "fixed_point"])
@pytest.mark.parametrize("final", ["to_clean", "to_t0"])
def test_a_plan_counts_the_steps_that_are_taken_again(model, name, final):
    settings = ["task=sample", "guidance=contrastive", "guidance.targets=a zombie", "task.count=3"]
    settings += [f"sampler={name}", "sampler.t0=900", "sampler.s_gen=6", "task.paired=false"]
    end = {"to_clean": 0, "to_t0": 100}[final]  # the step into the clean image, too
    settings += [f"sampler.final_step={final}", "guidance.travel_end=0", f"guidance.t_end={end}"]
    cfg, calls = configure(*settings, "guidance.time_travel=2"), []

    def counting(x, t):
        calls.append(len(x))
        return model.predict(x, t)

    o, pairs = cfg.guidance, pairs_of(cfg.sampler)[1]
    travel = TimeTravel(solver_of(cfg.sampler), ImageNoise(IDS[:3], 5), o.time_travel, *o.travels)
    with torch.no_grad():
        noise = ImageNoise(IDS[:3], 1)
        sample(counting, noise_like(), pairs, SCHEDULE, solver=travel, noise=noise)
    assert plan.calls(cfg)["sample"] == sum(calls)
    once = plan.calls(configure(*settings))["sample"]
    assert once == 3 * cfg.sampler.generation_calls() < sum(calls)


def test_only_guided_steps_are_taken_again():
    o = OPTIONS["guidance"]["contrastive"](time_travel=2, t_start=700, t_end=400)
    assert [o.repeats(t) for t in (750, 700, 500, 400, 350)] == [0, 2, 2, 2, 0]
    assert OPTIONS["guidance"]["contrastive"](time_travel=2, scale=0).repeats(500) == 0


def test_latents_that_are_sampled_under_guidance_count_time_travel_too():
    settings = ["task=sample", "guidance=contrastive", "guidance.targets=a zombie", "task.count=3"]
    settings += ["method=latent_opt", "sampler.t0=900", "sampler.s_gen=4"]
    work = [plan.calls(configure(*settings, f"guidance.time_travel={k}")) for k in (0, 2)]
    assert [one["sample"] for one in work] == [3 * 4, 3 * (4 + 2 * 2)]


def test_directional_guidance_needs_its_sources(model, clip):
    with pytest.raises(ValueError, match="source images"):
        make_guide(clip, "directional")(model.predict, Context(IDS[:2]))


SAMPLE = ["task=sample", "guidance=contrastive"]
REFUSALS = [
    (
        [*SAMPLE, "guidance.targets=a zombie", "guidance.time_travel=1", "sampler.t0=250"],
        "guidance.time_travel=1 repeats guided steps that begin from t=800 down to 300, and none",
    ),
    ([*SAMPLE, "guidance.targets=airplane"], "'airplane' has no distractors"),
    ([*SAMPLE, "guidance.targets=airplane", "guidance.distractors=[]"], "no distractors"),
    ([*SAMPLE, "guidance.targets="], "guidance.targets has an empty text"),
    ([*SAMPLE, "guidance.targets=[]"], "guidance.targets"),
    ([*SAMPLE, "guidance.targets=['  ']"], "empty text"),
    ([*SAMPLE, "guidance.targets=7"], "guidance.targets"),
    ([*SAMPLE, "guidance.targets=[7]"], "7 is not a text"),
    (
        [*SAMPLE, "guidance.targets=a cat", "guidance.distractors=[a dog,A cat]"],
        "holds the target itself",
    ),
    (
        [*SAMPLE, "guidance.targets=a cat", "guidance.distractors=sibling"],
        "guidance.distractors=sibling is no set of texts",
    ),
    ([*SAMPLE, "guidance.targets=[a sad face,an angry face]"], "at once"),
    ([*SAMPLE, "guidance.weights=[1,2]"], "guidance.weights"),
    ([*SAMPLE, "guidance.weights=[0]"], "all 0"),
    ([*SAMPLE, "guidance.weights=[-1]"], "guidance.weights[0]=-1"),
    ([*SAMPLE, "guidance.scale=nan"], "guidance.scale=nan"),
    ([*SAMPLE, "guidance.scale=-1"], "guidance.scale=-1"),
    ([*SAMPLE, "guidance.scale=inf"], "guidance.scale=inf"),
    ([*SAMPLE, "guidance.temperature=0"], "guidance.temperature=0"),
    ([*SAMPLE, "guidance.every=0"], "guidance.every=0"),
    ([*SAMPLE, "guidance.cutouts=-1"], "guidance.cutouts=-1"),
    ([*SAMPLE, "guidance.cut_min=0"], "guidance.cut_min=0"),
    ([*SAMPLE, "guidance.cut_max=1.2"], "guidance.cut_max=1.2"),
    ([*SAMPLE, "guidance.t_start=100", "guidance.t_end=200"], "is no interval"),
    ([*SAMPLE, "guidance.t_start=1000"], "guidance.t_start=1000"),
    ([*SAMPLE, "guidance.templates=imagenet80"], "guidance.templates=imagenet80"),
    ([*SAMPLE, "guidance.sees=x1"], "guidance.sees"),
    (["task=sample", "guidance=none", "guidance.scale=3"], "there is no setting guidance.scale"),
    (["task=sample", "guidance=contrast"], "did you mean contrastive?"),
    (["guidance=contrastive"], "guidance=contrastive is for task=sample"),
    (
        [
            "task=sample",
            "guidance=directional",
            "edit.source=person with red hair",
            "guidance.targets=person with red hair",
            "edit=beard",
        ],
        "edit.source",
    ),
    (
        [
            "task=sample",
            "guidance=contrastive_directional",
            "edit.source=a cat",
            "guidance.targets=a dog",
            "guidance.distractors=[A cat]",
        ],
        "no distractors but edit.source=a cat",
    ),
    (["task=sample", "input=/tmp"], "task.start=images"),
    (["task=sample", "sampler=ddpm", "sampler.variance=large"], "sampler.variance"),
    (["guidance=contrastive_faithful", "sampler=ddim"], "sampler.noise_last; sampler=ddpm has it"),
    (
        [*SAMPLE, "guidance.clips=[nothing_known]"],
        "guidance.clips=nothing_known is neither a file nor a known name",
    ),
    (["metric.kid_sizes=[1]"], "metric.kid_sizes"),
    (["metric.reference=0"], "metric.reference=0"),
    (["metric.bootstrap=-1"], "metric.bootstrap=-1"),
]


@pytest.mark.parametrize(
    ("overrides", "expected"), REFUSALS, ids=[" ".join(o) for o, _ in REFUSALS]
)
def test_bad_guidance_is_refused_in_one_line(overrides, expected):
    with pytest.raises(DclipError) as caught:
        configure(*overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_clips_context_is_refused_before_sampling(clip, tiny, tmp_path):
    text = "a person with a beard " * 8
    with pytest.raises(DclipError, match="too long for the CLIP"):
        read_prompts(clip, [Prompt(text, 1.0, ("a person",))])
    with pytest.raises(DclipError, match="too long for the CLIP"):
        read_prompts(clip, [Prompt("a person", 1.0, (text,))])
    with pytest.raises(DclipError, match="too long"):
        run(
            *words(
                tiny,
                task="sample",
                guidance="contrastive",
                guidance__targets=text.strip(),
                output=tmp_path,
            )
        )
    assert read_json(tmp_path / "latest" / "status.json")["status"] == "failed"


def test_texts_that_clip_cannot_tell_apart_are_refused(clip):
    with pytest.raises(DclipError, match="as the same text"):
        read_prompts(clip, [Prompt("Person", 1.0, ("a zombie",))], source="person")
