"""The benchmarks: that the transcription computes what dclip does, and that the scripts measure what they say."""

import json
import runpy
import time

import pytest
import torch

from dclip.config import OPTIONS, Loss, option_name
from dclip.diffusion.sampler import sample
from dclip.diffusion.timesteps import pairs_down, pairs_up
from dclip.models.checkpoints import load_model
from dclip.types import Images
from helpers.runs import ROOT


@pytest.fixture
def learning(model, clip):
    """A tiny network with its loss: (model, objective, latents, weights)."""
    from dclip.methods.diffusionclip.loss import EditLoss

    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    weights = Loss(clip=1, l1=0.5, id=0)
    texts = ("person", "person with red hair")
    objective = EditLoss.prepare(weights, clip, None, Images(pixels, ("a", "b", "c")), texts)
    return (
        model,
        objective,
        torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1)),
        weights,
        texts,
    )


def test_the_transcription_inverts_and_generates_as_dclip_does(learning):
    import transcription

    model, objective, latents, *_ = learning
    net = transcription.Network(model)
    with torch.no_grad():
        theirs = (
            transcription.generate(net, latents[:1], 401, 6),
            transcription.invert(net, objective.images[:1], 401, 7),
        )
        ours = (
            sample(model.predict, latents[:1], pairs_down(401, 6), model.schedule),
            sample(model.predict, objective.images[:1], pairs_up(401, 7), model.schedule),
        )
    assert net.calls == 6 + 6
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["chain", "chain_checkpointed"])
def test_a_batch_has_the_mean_of_the_transcriptions_gradients(name, learning):
    import transcription
    from dclip.methods.diffusionclip.objectives import Work

    model, objective, latents, weights, texts = learning
    net, criterion = (
        transcription.Network(model),
        transcription.Criterion(objective.clip, None, texts, weights),
    )
    for image, latent in zip(objective.images.split(1), latents.split(1), strict=True):
        (criterion(transcription.generate(net, latent, 500, 3), image) / 3).backward()
    expected = torch.cat([p.grad.flatten() for p in transcription.parameters(net)])
    assert any(
        p.grad is not None for p in criterion.clip.parameters()
    )  # published: CLIP is not frozen
    model.unet.requires_grad_(True).zero_grad()
    work = Work(
        model.predict,
        objective,
        model.schedule,
        pairs_down(500, 3),
        latents,
        [0, 1, 2],
        0,
        0.5,
    )
    next(OPTIONS["method"][name](s_train=3)(work))["total"].backward()
    found = torch.cat([p.grad.flatten() for p in model.unet.parameters()])
    assert float((found - expected).norm() / expected.norm()) < 1e-3
    assert float(expected.norm()) > 0


def test_the_transcriptions_training_lowers_its_loss(learning):
    import transcription

    model, objective, _, _, texts = learning
    net = transcription.Network(model)
    latents = transcription.precompute(net, objective.images, 300, 3)
    assert net.calls == 3 * (2 + 3)
    criterion = transcription.Criterion(objective.clip, None, texts, Loss(clip=0, l1=1, id=0))
    running = transcription.images_one_by_one(
        net, criterion, objective.images, latents, 300, 3, 1e-4
    )
    losses = [next(running) for _ in range(4 * 3)]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_an_edit_is_learned_until_both_goals_are_reached_and_the_clock_stands_still_meanwhile():
    import to_success

    clock, looked = to_success.Clock(), iter([(0.9, 0.5), (0.5, 0.9), (0.9, 0.9), (1.0, 1.0)])

    def look():
        time.sleep(0.05)
        return next(looked)

    goal = to_success.Goal(0.85, 0.85, 100)
    assert goal.pursue(clock, iter([4, 8, 12, 16]), look) == {
        "image_updates": 12, "judge_success": 0.9, "judge_preservation": 0.9, "reached": True,
    }  # fmt: skip
    assert clock.seconds < 0.05
    given_up = goal.pursue(clock, iter([96, 100, 104]), lambda: (0.1, 1.0))
    assert (given_up["image_updates"], given_up["reached"]) == (100, False)
    assert goal.pursue(clock, iter([4]), lambda: (0.1, 1.0))["reached"] is False


def test_nothing_is_cached_where_time_is_taken():
    import to_success

    cfg = to_success.config("zombie")
    assert (
        cfg.trainer.cache,
        cfg.edit.name,
        cfg.method.lora.rank,
        option_name("sampler", cfg.sampler),
    ) == (
        False,
        "zombie",
        8,
        "fixed_point",
    )


def test_edits_of_the_last_blocks_are_held_once():
    import mixing

    model = load_model("toonfaces")
    apart, together = mixing.edits(model, 2), mixing.late(model, 2)
    whole = sum(p.numel() for p in model.parameters()) * 4 / 1e6
    assert mixing.held_mb(apart, model) == pytest.approx(2 * whole)
    assert mixing.held_mb(together, model) < 0.25 * whole
    assert together[0].unet.mid_block is together[1].unet.mid_block


def test_a_power_law_is_found():
    import scaling

    assert scaling.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_the_gpu_benchmark_keeps_what_it_measured_and_says_what_it_did_not(tmp_path, capsys):
    import gpu

    device, output = torch.device("cpu"), tmp_path / "gpu.json"
    measuring = gpu.Measuring(gpu.Nets.tiny(device), 1e6, output, {"tiny": True})
    measuring.found["limits"] = gpu.limits(device, 64)
    plan = [
        ("update", 2, "bf16", "channels_last", 1),
        ("update, LoRA 8", 1, "fp32", "eager", 1),
        ("edit", 1, "bf16", "compiled", 1),
        ("guided step", 1, "fp32", "channels_last", 1),
        (gpu.GRADIENT, 1, "bf16", "compiled", 1),
        ("no such task", 1, "fp32", "eager", 1),
        ("inversion, 23 calls", 1, "fp32", "eager", 1e9),
    ]
    lines = measuring.run(plan)
    kept = json.loads(output.read_text("utf-8"))
    assert [line["part"] for line in kept["lines"]] == [line["part"] for line in lines]
    assert len(lines) == 5
    assert list(kept["failed"]) == ["no such task, batch 1, fp32, eager"]
    assert kept["not_measured"] == ["inversion, 23 calls, batch 1, fp32, eager"]
    update, _, edit, guided, gradient = lines
    assert update["images_per_s"] == pytest.approx(1 / update["seconds"])
    assert update["mfu"] == pytest.approx(
        update["unet_tflops"] / kept["limits"]["matmul_bf16_tflops"]
    )
    assert edit["times_faster"] > 0
    assert guided["seconds"] < edit["seconds"]
    assert 0 < gradient["channels_last_bf16"] < 0.3
    assert capsys.readouterr().out.count("\n") == 6


def test_the_gpu_benchmark_knows_every_task_of_its_plan_and_what_is_wanted():
    import gpu

    names = [f"{task}, batch {batch}, {kind}, {mode}" for task, batch, kind, mode, _ in gpu.PLAN]
    assert len(set(names)) == len(names)
    assert {part[0] for part in gpu.PLAN} == {*gpu.TASKS, gpu.GRADIENT}
    wanted = [part for part, *_ in gpu.GOALS]
    assert set(wanted) <= set(names)
    goals = gpu.goals_of([{"part": wanted[0], "seconds": 0.03}])
    assert [goal["met"] for goal in goals] == [True, None, None, None]


def test_the_gpu_benchmark_says_in_one_line_that_there_is_no_gpu(capsys):
    import gpu

    if not torch.cuda.is_available():
        assert gpu.main([]) == []
        assert capsys.readouterr().out.count("\n") == 1


def test_the_page_on_scale_is_what_its_script_writes():
    script = runpy.run_path(str(ROOT / "docs" / "scale.py"), run_name="docs")
    assert script["page"]() == (ROOT / "docs" / "scale.md").read_text("utf-8")
