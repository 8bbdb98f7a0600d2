import copy
from dataclasses import replace

import pytest
import torch

import dclip
from dclip.config import Grid, Lora, Speed
from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.options import FixedPoint, inverter_of, pairs_of, solver_of
from dclip.diffusion.sampler import sample
from dclip.diffusion.schedule import Schedule
from dclip.encode.invert import latent_path
from dclip.errors import DclipError
from dclip.metrics import functional
from dclip.models.checkpoints import (
    load_model,
)
from dclip.models.compiled import compile_blocks
from dclip.models.lora import LowRankUpdates
from dclip.models.networks import build_networks, speed_up
from dclip.models.saved import model_header, save_weights
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet
from dclip.prepare.networks import networks
from helpers.networks import tiny_unet, write_tiny_model
from helpers.runs import configure


def test_predict_returns_the_two_halves_of_a_learned_variance(tmp_path):
    learned = load_model(
        str(write_tiny_model(tmp_path / "a.safetensors", variance="learned_range"))
    )
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 20])
    with torch.no_grad():
        whole = learned.unet(x, t, return_dict=False)[0]
        found = learned.predict(x, t)
        assert whole.shape == (2, 6, 16, 16)
        assert torch.equal(found.eps, whole[:, :3])
        assert torch.equal(found.fraction, whole[:, 3:])
        assert torch.equal(learned.eps(x, t), found.eps)


def test_predict_is_eps_where_no_variance_is_learned(model):
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 20])
    with torch.no_grad():
        found = model.predict(x, t)
        assert torch.equal(found.eps, model.eps(x, t))
        assert found.fraction is None
        assert model.eps(x, t).shape == x.shape


@torch.no_grad()
def test_fast_calls_move_no_picture_and_no_metric_beyond_the_stated_tolerance():
    """trainer.speed=fast, as a GPU would compute it, on the shipped network: there and back again."""
    model, pictures = load_model("toonfaces"), toonfaces("test", 1).pixels
    options = FixedPoint(500, s_gen=6, sweeps=2)
    made, latents = {}, {}
    for model.fast in (False, True):
        up, down = pairs_of(options)
        latents[model.fast] = sample(
            model.predict, pictures, up, model.schedule, solver=inverter_of(options)
        )
        made[model.fast] = sample(
            model.predict, latents[model.fast], down, model.schedule, solver=solver_of(options)
        )
    moved = float(functional.mae(made[False], made[True]).mean())
    assert 0 < moved < 0.002
    assert made[True].dtype == torch.float32
    before, after = (float(functional.mae(pictures, made[fast]).mean()) for fast in (False, True))
    assert abs(before - after) < 0.001
    assert (
        functional.psnr(pictures, made[True])
        .sub(functional.psnr(pictures, made[False]))
        .abs()
        .max()
        < 0.5
    )


def test_fast_leaves_gradients_exact_and_has_latents_of_its_own():
    model, x, t = load_model("toonfaces"), torch.randn(1, 3, 64, 64), torch.tensor([300])
    exact, path = model.eps(x, t), latent_path(model, x[0], [(0, 300)])
    model.fast = True
    assert torch.equal(model.eps(x, t), exact)  # gradients are on here
    assert latent_path(model, x[0], [(0, 300)]) != path


@pytest.mark.parametrize("speed", Speed)
def test_a_processor_computes_fast_where_it_is_asked_to_and_compiles_nothing(speed):
    cfg = configure("experiment=toonfaces_unconditional", "trainer=cpu", f"trainer.speed={speed}")
    model = build_networks(cfg, networks(cfg)).model
    assert (model.fast, model.compiled) == (speed is not Speed.exact, False)


@pytest.mark.parametrize("steps", [100, 4000])
def test_a_schedule_of_another_length_is_refused(tmp_path, steps):
    """Every t0 counts in 1,000 steps: t0 = 500 of 4,000 would have half the noise."""
    info, path = (
        ModelInfo("mine", tiny_unet(), schedule=Schedule(steps)),
        tmp_path / "a.safetensors",
    )
    save_weights(path, build_unet(info.unet), model_header(info))
    cfg = configure(f"checkpoint.name={path}", "trainer=cpu")
    x, other = torch.zeros(1, 3, 16, 16), load_model(str(path))
    for call in (
        lambda: build_networks(cfg, networks(cfg)),
        lambda: dclip.invert(other, x, steps=2),
        lambda: dclip.generate(other, x, steps=2),
    ):
        with pytest.raises(DclipError, match=f"mine was trained with a schedule of {steps:,}"):
            call()


@pytest.mark.parametrize("grid", Grid)
def test_steps_are_not_spread_on_a_schedule_that_is_not_the_models(model, grid):
    model.check_schedule(grid)
    other = replace(model.info, schedule=Schedule(kind="cosine"))
    cosine = DiffusionModel(model.unet, other)
    if not grid.follows_noise:
        cosine.check_schedule(grid)
        return
    with pytest.raises(DclipError, match=f"sampler.grid={grid} .*trained on a cosine one"):
        cosine.check_schedule(grid)


def test_compiled_blocks_compute_the_same_with_and_without_gradient_and_in_a_copy():
    """trainer.speed=compiled; torch's tracing is what is tested, without a compiler for speed."""
    import torch._dynamo

    model, x, t = _tiny_model(), torch.randn(2, 3, 8, 8), torch.tensor([300, 300])
    exact = model.eps(x, t)
    exact.square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch._dynamo.utils.counters.clear()
    blocks = compile_blocks(model.unet, backend="aot_eager")
    model.compiled = True
    out = model.eps(x, t)
    out.square().mean().backward()
    shapes = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < shapes < blocks  # blocks of one shape share their code
    torch.testing.assert_close(out, exact)
    for found, expected in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(found.grad, expected)
    twin = copy.deepcopy(model)
    assert twin.compiled
    assert len(_compiled(twin)) == blocks
    assert not _compiled(_tiny_model())


def test_a_low_rank_update_of_a_compiled_block_comes_and_goes():
    model, x, t = _tiny_model(), torch.randn(2, 3, 8, 8), torch.tensor([300, 300])
    compile_blocks(model.unet, backend="eager")
    lora = LowRankUpdates(model.unet, Lora(rank=2, time=False, decoder_from=1))
    for update in lora.updates.values():
        torch.nn.init.normal_(update.up)
    with torch.no_grad():
        before = model.eps(x, t)
        lora.attach(model.unet)
        during = model.eps(x, t)
        lora.detach()
        after = model.eps(x, t)
    assert float((during - before).abs().max()) > 1e-3
    assert torch.equal(after, before)


def test_a_gpu_without_triton_is_told_what_compiled_needs(monkeypatch):
    model = _tiny_model()
    monkeypatch.setattr("dclip.models.compiled.find_spec", lambda name: None)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    with pytest.raises(DclipError, match=r"trainer\.speed=fast"):
        speed_up(model, Speed.compiled)
    speed_up(model, Speed.fast)
    assert (model.fast, model.compiled) == (True, False)


def _tiny_model():
    torch.manual_seed(0)
    config = tiny_unet(8)
    return DiffusionModel(build_unet(config).eval(), ModelInfo("tiny", config))


def _compiled(model):
    return [m for m in model.modules() if m._compiled_call_impl is not None]
