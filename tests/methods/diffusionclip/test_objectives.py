"""How the loss reaches the network: gradients, updates, memory."""

import itertools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from dclip.config import OPTIONS, Lora, Loss, Precision
from dclip.config.options import name_of
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.sampler import predict_x0, sample
from dclip.diffusion.timesteps import pairs_down
from dclip.errors import DclipError
from dclip.methods.diffusionclip import fit as fitting
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.module import DiffusionClipTuning
from dclip.methods.diffusionclip.objectives import (
    Work,
    annealed,
    chain,
    chain_checkpointed,
    gpu_efficient,
    last_k,
    onestep,
)
from dclip.methods.diffusionclip.options import DiffusionClip
from dclip.methods.diffusionclip.threads import BatchThreads, split
from dclip.models.checkpoints import load_model
from dclip.models.identity import IdentityModel, IrSe, IrSeConfig
from dclip.models.lora import LowRankUpdates
from dclip.models.memory import saved_for_backward
from dclip.record.record import Record
from dclip.types import Images
from helpers.networks import a_run
from helpers.runs import configure, words

TEXTS = ("person", "person with red hair")
OBJECTIVES = {
    name: option
    for name, option in OPTIONS["method"].items()
    if issubclass(option, DiffusionClip) and name != "diffusionclip"
}
NAMES = list(OBJECTIVES)


def images16(n=4, seed=0):
    pixels = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Images(pixels, tuple(f"i{i}" for i in range(n)))


@pytest.fixture(scope="module")
def identity():
    torch.manual_seed(0)
    net = IrSe(IrSeConfig(input_size=16, stem=4, stages=((4, 1), (8, 1)), embedding=8))
    return IdentityModel(net).eval().requires_grad_(False)


@pytest.fixture
def model(nets):
    model = load_model(str(nets["model16"]))
    model.unet.requires_grad_(True)
    return model


@pytest.fixture
def make(model, clip, identity):
    """A batch of work for an objective, on fresh tiny networks."""

    def build(steps=4, weights=None, index=(0, 2), batch=0, progress=0.0, seed=0):
        loss = EditLoss.prepare(
            weights or Loss(clip=1.0, l1=0.3, id=0.5), clip, identity, images16(), TEXTS
        )
        latents = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))[list(index)]
        return Work(
            model.predict, loss, model.schedule, pairs_down(500, steps), latents, index, batch, progress, seed
        )  # fmt: skip

    return build


def gradient(model, terms):
    """Gradients of all weights, as one vector, after a single update's loss."""
    model.unet.zero_grad()
    (only,) = terms
    only["total"].backward()
    return torch.cat([p.grad.flatten() for p in model.unet.parameters()])


@pytest.mark.parametrize("name", NAMES)
def test_an_option_knows_what_its_objective_costs(name, model, make):
    """Updates, network calls with and without gradient, and how many graphs are kept."""
    steps, calls = 4, []
    option = OBJECTIVES[name](s_train=steps)
    model.unet.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    work, updates = make(steps, progress=1.0), 0
    for terms in option(work):
        updates += 1
        terms["total"].backward()
    cost = option.network_calls()
    assert updates == option.updates(work.pairs) == (steps if name == "gpu_efficient" else 1)
    assert option.needs_latents == (name != "onestep")
    if name == "annealed":  # on average over the epochs; this is the last
        assert (cost.with_gradient, sum(calls), cost.kept) == (2.5, 4, 4)
    elif name == "chain_checkpointed":  # the second call of each is the one that is differentiated
        assert (cost.without_gradient + cost.with_gradient, cost.kept) == (len(calls), 1)
    else:
        assert (cost.without_gradient, cost.with_gradient) == (calls.count(False), sum(calls))
        assert cost.kept == (1 if name == "gpu_efficient" else sum(calls))


def test_the_default_is_the_chain_under_both_names():
    assert OPTIONS["method"]["diffusionclip"] is OPTIONS["method"]["chain"] is DiffusionClip
    assert name_of("method", DiffusionClip) == "chain"


def test_the_checkpointed_chain_has_the_gradient_of_the_chain(model, make):
    plain, checkpointed = (
        gradient(model, chain(make())),
        gradient(model, chain_checkpointed(make())),
    )
    assert float(plain.abs().max()) > 1e-4
    torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-7)


def test_the_checkpointed_chain_calls_the_network_twice_a_step(model, make):
    calls = []
    model.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    gradient(model, chain_checkpointed(make(steps=4)))
    assert len(calls) == 8


@pytest.mark.parametrize("k", [4, 1, 2])
def test_last_k_is_the_gradient_of_the_last_k_steps(model, make, k):
    work = make(steps=4)
    with torch.no_grad():
        x = sample(work.eps_fn, work.latents, work.pairs[: 4 - k], work.schedule)
    expected = gradient(
        model, [work.loss(sample(work.eps_fn, x, work.pairs[4 - k :], work.schedule), work.index)]
    )
    assert torch.equal(gradient(model, last_k(work, k)), expected)
    assert torch.equal(expected, gradient(model, chain(make(steps=4)))) == (k == 4)


@pytest.mark.parametrize(("progress", "carrying"), [(0.0, 1), (0.25, 2), (0.5, 3), (1.0, 4)])
def test_annealed_lets_more_steps_carry_the_gradient(model, make, progress, carrying):
    calls = []
    model.unet.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    gradient(model, annealed(make(steps=4, progress=progress)))
    assert calls == [False] * (4 - carrying) + [True] * carrying


# ------------------------------------------------------------------------------------------- memory


def kept(model, objective, work):
    """Most bytes that one update of an objective keeps."""
    totals, updates = [], objective(work)
    while True:
        with saved_for_backward(model.unet.parameters()) as saved:
            terms = next(updates, None)
        if terms is None:
            return max(totals)
        totals.append(saved.total)
        del terms


def test_memory_grows_with_the_steps_of_the_chain_only(model, make):
    two, twelve = (kept(model, chain, make(steps=steps)) for steps in (2, 12))
    call, picture = (twelve - two) / 10, 2 * 3 * 16 * 16 * 4
    assert call > 100 * picture
    for objective in (chain_checkpointed, gpu_efficient, partial(last_k, k=1), onestep):
        few, many = (kept(model, objective, make(steps=steps)) for steps in (6, 24))
        assert many - few <= 18 * 4 * picture, objective  # a few pictures a step
        assert many < two, objective


# ------------------------------------------------------------------------------------------- gpu_efficient, onestep


def test_gpu_efficient_makes_one_update_a_step_on_the_predicted_x0(model, make):
    work, seen = make(steps=4), []
    x = work.latents
    for (t, t_next), terms in zip(work.pairs, gpu_efficient(work), strict=True):
        with torch.no_grad():
            a = work.schedule.alpha_bar(t)
            expected = work.loss(
                predict_x0(x, work.eps_fn(x, torch.full((2,), t)).eps, a), work.index
            )
            x = sample(work.eps_fn, x, [(t, t_next)], work.schedule)
        torch.testing.assert_close(terms["total"], expected["total"])
        seen.append(gradient(model, [terms]))
    assert len(seen) == 4
    assert all(float(g.abs().max()) > 1e-5 for g in seen)


def test_the_identity_loss_of_gpu_efficient_has_a_gradient_unless_the_published_flaw_is_asked_for(
    model, make
):
    for faithful in (False, True):
        for terms in gpu_efficient(make(steps=3), faithful):
            assert terms["id"].requires_grad is not faithful
            assert terms["clip"].requires_grad
            assert terms["l1"].requires_grad


def test_onestep_looks_at_the_x0_predicted_from_one_noised_image(model, make):
    work, calls = make(steps=4, batch=7, seed=5), []
    model.unet.register_forward_hook(lambda _net, args, _out: calls.append(args[1].tolist()))
    (terms,) = onestep(work)
    assert calls == [[500, 500]]
    clean, a = images16().pixels[[0, 2]], work.schedule.alpha_bar(500)
    x = add_noise(clean, ImageNoise(["onestep/7/0", "onestep/7/2"], 5).like(clean), a)
    expected = work.loss(predict_x0(x, work.eps_fn(x, torch.full((2,), 500)).eps, a), work.index)
    torch.testing.assert_close(terms["total"], expected["total"])


def test_the_noise_of_onestep_belongs_to_seed_batch_and_image(make):
    def total(**settings):
        (terms,) = onestep(make(**settings))
        return float(terms["total"])

    assert total() == total()
    assert len({total(), total(seed=1), total(batch=1)}) == 3
    both, first, second = (
        next(terms["l1"] for terms in onestep(make(index=i))) for i in ((0, 2), (0,), (2,))
    )
    assert float(both) == pytest.approx((float(first) + float(second)) / 2, abs=1e-6)


def test_onestep_may_draw_its_timestep(model, make):
    calls = []
    model.unet.register_forward_hook(lambda _net, args, _out: calls.append(int(args[1][0])))
    for batch in (0, 1, 2, 0):
        list(onestep(make(batch=batch), drawn_t=True))
    assert calls[0] == calls[3]
    assert len(set(calls)) == 3
    assert all(1 <= t <= 500 for t in calls)


# ------------------------------------------------------------------------------------------- whole trainings


@pytest.fixture
def training(nets, clip, tiny, tmp_path):
    """A configuration, a record and a tuning module with fresh tiny networks."""

    def build(folder="run", **settings):
        cfg = configure(
            *words(
                {**tiny, "checkpoint.name": nets["model16"]},
                **{"method__lr": 0.002, "method__batch": 2, **settings},
            )
        )
        record = Record(tmp_path / folder, cfg, False)
        record.folder.mkdir(exist_ok=True)
        model = load_model(str(nets["model16"]))
        model.unet.requires_grad_(True)
        objective = EditLoss.prepare(Loss(clip=1.0, l1=0.3, id=0), clip, None, images16(), TEXTS)
        tuning = DiffusionClipTuning(
            model, objective, images16(seed=9).pixels, pairs_down(500, 3), cfg.method, cfg.seed
        )  # fmt: skip
        run = replace(a_run(cfg, model), record=record)
        return SimpleNamespace(cfg=cfg, run=run, record=record, model=model, tuning=tuning)

    return build


def fit(made):
    fitting.fit(made.run, made.cfg.method, made.tuning, False)
    return torch.cat([p.detach().flatten() for p in made.model.unet.parameters()])


class Watch(L.Callback):
    def __init__(self, stop=None):
        self.stop, self.steps, self.lr = stop, [], []

    def on_train_batch_end(self, trainer, *_):
        self.steps.append(trainer.global_step)
        self.lr.append(trainer.optimizers[0].param_groups[0]["lr"])
        if len(self.steps) == self.stop:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("objective", ["gpu_efficient", "onestep", "annealed"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    training, monkeypatch, objective
):
    settings = {"method__epochs": 3, "method__objective": objective, "method__lr_schedule": "code"}
    watch, original = Watch(), fitting.checkpointing
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "checkpointing", lambda *a: [watch, *original(*a)])
        whole = fit(training("whole", **settings))
    updates = 3 if objective == "gpu_efficient" else 1
    assert watch.steps == [updates * n for n in range(1, 7)]
    assert watch.lr == pytest.approx([0.002, 0.0026, 0.0026, 0.00338, 0.00338, 0.004394])
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "checkpointing", lambda *a: [Watch(3), *original(*a)])
        with pytest.raises(RuntimeError, match="power cut"):
            fit(training("broken", **settings))
    second, seen = training("broken", **settings), []
    work = second.tuning.work
    second.tuning.work = lambda batch: seen.append(batch) or work(batch)
    assert torch.equal(fit(second), whole)
    assert seen == [2, 3, 4, 5]


def loss_of(made):
    """Mean loss of one-step predictions, over fixed noise."""
    with torch.no_grad():
        return (
            sum(float(t["total"]) for batch in range(2) for t in onestep(made.tuning.work(batch)))
            / 2
        )


def test_onestep_lowers_its_loss(training):
    made = training(method__epochs=6, method__objective="onestep")
    before = loss_of(made)
    fit(made)
    assert loss_of(made) < before - 0.02


@pytest.mark.parametrize("objective", NAMES)
def test_bf16_works_with_every_objective_and_keeps_weights_in_fp32(training, objective):
    made = training(method__epochs=1, method__objective=objective, trainer__precision="bf16")
    assert made.cfg.trainer.precision is Precision.bf16
    start = torch.cat([p.detach().flatten() for p in made.model.unet.parameters()]).clone()
    end = fit(made)
    assert end.dtype == torch.float32
    assert bool(torch.isfinite(end).all())
    assert float((end - start).abs().max()) > 1e-4


def test_an_update_in_bf16_is_seen_by_the_next_step_of_its_batch(training):
    """Autocast keeps bf16 copies of the weights while it is on: they must not outlive an update."""
    made = training(
        method__epochs=1,
        method__objective="gpu_efficient",
        trainer__precision="bf16",
        method__lr=0.05,
    )
    made.model.unet.requires_grad_(False)
    made.model.unet.conv_out.weight.requires_grad_(True)
    x, seen, gradients = images16(seed=3).pixels, [], made.tuning._gradients

    def watched(work):
        for terms in gradients(work):
            yield terms  # and the optimiser makes its step
            seen.append(made.model.eps(x, torch.full((4,), 300)).detach().clone())

    made.tuning._gradients = watched
    fit(made)
    assert len(seen) == 6
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in itertools.pairwise(seen))


# ------------------------------------------------------------------------------------------- threads that share a batch


@pytest.fixture
def threads():
    """Those of a machine with four, whose own threads are left alone."""
    before = torch.get_num_threads()
    made = BatchThreads()
    made.threads = 4
    yield made
    assert torch.get_num_threads() == before


def trajectory(model, updates, trained):
    """Gradients and terms of every update of one batch, with plain steps of gradient descent in between."""
    found = []
    for terms in updates:
        found.append(
            (
                torch.cat([p.grad.flatten() for p in trained]),
                {k: float(v.detach()) for k, v in terms.items()},
            )
        )
        with torch.no_grad():
            for parameter in trained:
                parameter -= 1e-2 * parameter.grad
    return found


def alone(objective, work, trained):
    for terms in objective(work):
        for parameter in trained:
            parameter.grad = None
        terms["total"].backward()
        yield terms


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("index", [(0, 1, 2, 3), (3, 0, 1)], ids=str)
def test_a_shared_batch_has_the_gradient_and_terms_of_the_whole(name, index, model, make, threads):
    trained = list(model.unet.parameters())
    start = [p.detach().clone() for p in trained]
    found = []
    for updates in (alone, threads.updates):
        for parameter, value in zip(trained, start, strict=True):
            parameter.data.copy_(value)
        found.append(
            trajectory(
                model,
                updates(OBJECTIVES[name](s_train=3), make(steps=3, index=index), trained),
                trained,
            )
        )
    whole, shared = found
    assert len(whole) == len(shared) == (3 if name == "gpu_efficient" else 1)
    for (gradient, terms), (other, others) in zip(whole, shared, strict=True):
        assert float((gradient - other).norm() / gradient.norm()) < 1e-4
        assert others == pytest.approx(terms, rel=1e-4)


def test_a_shared_batch_is_the_same_every_time_bit_for_bit(model, make, threads):
    trained = list(model.unet.parameters())
    found = []
    for _ in range(3):
        (terms,) = threads.updates(chain, make(index=(0, 1, 2, 3)), trained)
        found.append(torch.cat([p.grad.flatten() for p in trained]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert set(terms) == {"clip", "l1", "id", "total"}


def test_low_rank_updates_are_shared_too(model, make, threads):
    lora = LowRankUpdates(model.unet, Lora(2))
    lora.attach(model.unet)
    trained = list(lora.parameters())
    (whole,) = trajectory(model, alone(chain, make(index=(0, 1, 2)), trained), trained)
    with torch.no_grad():
        for parameter in trained:
            parameter += 1e-2 * parameter.grad
    (shared,) = trajectory(model, threads.updates(chain, make(index=(0, 1, 2)), trained), trained)
    torch.testing.assert_close(shared[0], whole[0], rtol=1e-3, atol=1e-7)
    assert all(p.grad is None for p in model.unet.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_lie_in_memory_as_their_weights_do_or_a_fused_optimiser_mixes_them_up(
    model, make, threads, layout
):
    model.unet.to(memory_format=layout)
    trained = list(model.unet.parameters())
    start = [p.detach().clone() for p in trained]
    found = []
    for updates in (alone, threads.updates):
        with torch.no_grad():
            for parameter, value in zip(trained, start, strict=True):
                parameter.copy_(value)
        adam = torch.optim.Adam(trained, 1e-3, eps=1e-4, fused=True)
        for batch in range(3):
            for _ in updates(chain, make(steps=2, index=(0, 1, 2, 3), batch=batch), trained):
                assert all(p.grad.stride() == p.stride() for p in trained)
                adam.step()
        found.append(
            torch.cat(
                [(p.detach() - value).flatten() for p, value in zip(trained, start, strict=True)]
            )
        )
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-2


def test_shares_are_even_and_cover_the_batch(make):
    work = make(index=(3, 1, 0, 2))
    for count, sizes in ((1, [4]), (2, [2, 2]), (3, [1, 2, 1]), (4, [1] * 4)):
        parts = split(work, count)
        assert sorted(len(p.index) for p in parts) == sorted(sizes)
        assert [i for p in parts for i in p.index] == [3, 1, 0, 2]
        torch.testing.assert_close(
            torch.cat([p.latents for p in parts]), work.latents, rtol=0, atol=0
        )


def test_an_error_in_one_share_is_the_batchs_error(model, make, threads):
    work = make(index=(0, 1))
    work.loss.images = work.loss.images[:1]
    with pytest.raises(IndexError):
        list(threads.updates(chain, work, list(model.unet.parameters())))


# ------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method__objective": "last_k", "method__k": 0}, "method.k=0"),
        ({"method__objective": "last_k", "method__k": 7, "method__s_train": 6}, "choose 1 to 6"),
        ({"method__objective": "onestop"}, "method.objective"),
        ({"method__faithful_id": "true"}, "method=gpu_efficient has it"),
        ({"method__drawn_t": "true"}, "method=onestep has it"),
        ({"method__k": 3}, "method=last_k has it"),
        ({"method__lora__rank": -1}, "method.lora.rank=-1"),
        ({"method__lora__alpha": 0}, "method.lora.alpha=0"),
        ({"sampler__encode": "both"}, "sampler.encode"),
        (
            {
                "method__faithful_id": "true",
                "method__objective": "gpu_efficient",
                "loss__clip": 0,
                "loss__l1": 0,
            },
            "method.faithful_id=true leaves nothing with a gradient",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, said):
    with pytest.raises(DclipError) as caught:
        configure(*words({}, **settings))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_math_of_the_forward_process():
    x, z = torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2.0)
    assert float(add_noise(x, z, 0.64)[0, 0, 0, 0]) == pytest.approx(0.8 + 2 * math.sqrt(0.36))
