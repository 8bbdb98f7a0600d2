import csv
import json
import math

import pytest
import torch
from safetensors import safe_open

from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import sample
from dclip.diffusion.timesteps import pairs_down
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.latent.optimise import LatentChain, LatentLoss, optimise_batch
from dclip.methods.latent.options import LatentOpt
from dclip.methods.sampling.guidances import guidance_named
from dclip.methods.sampling.objective import ClipObjective
from dclip.prepare.checks import is_random
from dclip.text.features import read_prompts
from dclip.text.prompts import Prompt
from dclip.types import to_uint8
from helpers.runs import configure, words

PROMPT = Prompt("a person with a beard", 1.0, ("a person with no beard", "a zombie"))
IDS = ["a", "b", "c"]


def latents(n=2):
    return ImageNoise(IDS[:n]).like(torch.empty(n, 3, 16, 16))


def optimised(
    model, clip, start=None, kind="contrastive", prompts=(PROMPT,), temperature=0.05, **options
):
    options = LatentOpt(**{"steps": 4, "lr": 0.05, "s_opt": 2, "stop_at": 1.0, **options})
    start = latents() if start is None else start
    chain = LatentChain(model, pairs_down(999, options.s_opt), checkpointing=options.checkpointing)
    reader = read_prompts(
        clip, prompts, temperature=temperature, source="person" if "directional" in kind else None
    )
    with torch.no_grad():
        before = chain(start)
    pull = LatentLoss(
        options,
        ClipObjective(guidance_named(kind), [reader], [p.weight for p in prompts]),
        start,
        before,
        before,
        None,
    )
    return optimise_batch(chain, pull, options)


@pytest.mark.parametrize(
    "kind", ["contrastive", "spherical", "single", "global", "contrastive_directional"]
)
def test_the_loss_falls_and_the_latent_moves(model, clip, kind):
    found = optimised(model, clip, kind=kind, norm=0.0)
    assert found.curves[-1]["loss_total"] < found.curves[0]["loss_total"]
    moved = (found.latents - latents()).abs().flatten(1)
    assert float(moved.mean()) > 0.02
    assert float(moved.max()) < 0.5
    assert float((found.images - found.before).abs().flatten(1).amax(1).min()) > 0.01


def test_the_best_images_are_those_of_the_latents_that_are_kept(model, clip):
    found = optimised(model, clip)
    with torch.no_grad():
        again = LatentChain(model, pairs_down(999, 2))(found.latents)
    torch.testing.assert_close(again, found.images, rtol=1e-3, atol=1e-3)


def test_compound_targets_are_reached_together(model, clip):
    prompts = (PROMPT, Prompt("red hair", 1.0, ("black hair",)))
    found = optimised(model, clip, prompts=prompts)
    assert found.curves[-1]["p_target"] > found.curves[0]["p_target"]


def test_a_batch_of_one_finds_what_a_batch_of_two_finds(model, clip):
    options = {"patience": 2, "norm": 1.0, "l1": 0.5, "stop_at": 0.4}
    whole = optimised(model, clip, **options)
    for i in range(2):
        one = optimised(model, clip, latents()[i : i + 1], **options)
        assert float(one.steps[0]) == float(whole.steps[i])
        torch.testing.assert_close(one.latents[0], whole.latents[i], rtol=0, atol=0.02)


def test_an_image_stops_when_its_target_is_reached(model, clip):
    free = optimised(model, clip)
    eager = optimised(model, clip, stop_at=1e-6)
    assert eager.steps.tolist() == [0, 0]
    torch.testing.assert_close(eager.latents, latents())
    assert len(eager.curves) == 1
    assert free.steps.tolist() == [4, 4]


def test_an_image_stops_when_nothing_gets_better(model, clip):
    found = optimised(model, clip, lr=1e-9, patience=2)
    assert found.steps.tolist() == [2, 2]
    assert len(found.curves) == 3


def test_the_penalty_keeps_the_latents_length(model, clip):
    start = latents(1)
    ratio = [
        float(
            (
                optimised(model, clip, start, norm=norm, lr=0.3).latents.flatten(1).norm(dim=1)
                / start.flatten(1).norm(dim=1)
                - 1
            )
            .abs()
            .max()
        )
        for norm in (0.0, 1000.0)
    ]
    assert ratio[1] < 0.5 * ratio[0]


def test_l1_keeps_the_image(model, clip):
    change = [
        float((f.images - f.before).abs().mean())
        for f in (optimised(model, clip, latents(1), l1=w) for w in (0.0, 100.0))
    ]
    assert change[1] < change[0]


def test_a_diverged_optimisation_is_one_line(model, clip):
    with pytest.raises(DclipError, match=r"lower method\.lr"):
        optimised(model, clip, lr=1e30, checkpointing=False)


def test_the_published_latent_optimisation(model, clip):
    """DiffusionCLIP's code: Adam on raw gradients of 3 x -log((1 + cos) / 2) with "a TARGET"."""
    options = configure("experiment=toonfaces_latent", "preset=faithful", "method.steps=3").method
    start, pairs = latents(1), pairs_down(500, options.s_opt)
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], 2e-2)
    text = clip.text_features(["a zombie"])[0]
    for _ in range(3):
        image = sample(model.predict, x, pairs, model.schedule)
        cosine = clip.image_features(image)[0] @ text
        adam.zero_grad()
        (-3 * torch.log((1 + cosine) / 2)).backward()
        adam.step()

    chain = LatentChain(model, pairs, clip_x0=False)
    objective = ClipObjective(options.pull, [read_prompts(clip, [Prompt("zombie")], "a")], [1.0])
    with torch.no_grad():
        before = chain(start)
        expected = chain(x)
    loss = LatentLoss(options, objective, start, before, before, None, competing=False)
    found = optimise_batch(chain, loss, options)
    assert float((x.detach() - start).abs().max()) > 0.02
    torch.testing.assert_close(found.latents, x.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.images, expected, rtol=1e-3, atol=1e-3)


def test_the_last_latent_is_kept_where_the_best_one_is_not(model, clip):
    best = optimised(model, clip, lr=3.0, steps=3)
    last = optimised(model, clip, lr=3.0, steps=3, keep_best=False)
    assert float((best.latents - last.latents).abs().max()) > 0.1
    assert float((last.latents - latents()).abs().max()) > 1


# ------------------------------------------------------------------------------------------- memory


def saved(model, steps, checkpointing):
    """Numbers and floats that autograd keeps for a chain of this many steps."""
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    x = latents(1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        images = LatentChain(model, pairs_down(999, steps), checkpointing=checkpointing)(x)
    (gradient,) = torch.autograd.grad(images.square().sum(), x)
    return len(kept), sum(kept), gradient


def test_checkpointing_keeps_a_latent_a_step_and_no_activations(model):
    few, many = (saved(model, steps, True) for steps in (3, 12))
    whole = saved(model, 3, False)
    each = (many[1] - few[1]) / 9
    assert each <= 6 * latents(1).numel(), "per step: the latent and the clamp's masks"
    assert (many[0] - few[0]) / 9 <= 8
    assert whole[1] / 3 > 20 * each, "what a step's activations would be"
    torch.testing.assert_close(few[2], whole[2], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- whole runs


def run(tiny, tmp_path, **more):
    from dclip.pipeline import run as run_pipeline

    settings = {k: v for k, v in tiny.items() if not k.startswith(("method.", "experiment"))}
    settings |= {
        "task": "sample",
        "task.count": 2,
        "sampler.t0": 999,
        "sampler.s_gen": 3,
        "guidance.targets": "a person with a beard",
    }
    settings |= {
        "method": "latent_opt",
        "method.steps": 2,
        "method.s_opt": 2,
        "method.batch": 2,
        "metric.bootstrap": 0,
    }
    return run_pipeline(configure(*words(settings, output=tmp_path, **more)))


def test_a_run_keeps_latents_and_images(tiny, tmp_path):
    folder = run(tiny, tmp_path)
    with safe_open(str(folder / "latents.safetensors"), "pt") as file:
        kept, header = file.get_tensor("latents"), json.loads(file.metadata()["dclip"])
    assert list(kept.shape) == [2, 3, 64, 64]
    assert header["ids"] == [f"sample_{i:05d}" for i in range(2)]
    assert (header["t0"], header["texts"]) == (999, ["a person with a beard"])
    metrics = read_json(folder / "metrics.json")
    assert 0 <= metrics["optimiser_steps"] <= 2
    assert math.isfinite(metrics["p_target_heldout"])
    assert "p_target_guide_free" in metrics
    assert metrics["seconds_optimise"] > 0
    assert len(list((folder / "samples").glob("image_*.png"))) == 2
    lines = [json.loads(line) for line in (folder / "curves.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all({"loss_total", "p_target"} <= set(line) for line in lines)
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as stream:
        assert "optimiser_steps" in next(csv.DictReader(stream))


def test_then_contrastive_samples_from_the_latents_that_were_found(tiny, tmp_path):
    folder = run(tiny, tmp_path, guidance="contrastive")
    metrics = read_json(folder / "metrics.json")
    assert metrics["network_calls"] == 3
    assert metrics["clip_calls"] == 2
    assert (folder / "samples" / "film.png").is_file()
    assert (folder / "latents.safetensors").is_file()
    assert "contrastive after latent_opt" in (folder / "report.html").read_text("utf-8")


def test_an_image_is_edited_by_optimising_its_latent(tiny, tmp_path):
    folder = run(
        tiny, tmp_path, task__start="images", task__clip_x0="false", sampler__t0=400, dataset__test=2,
        method__objective="directional", method__l1=1, method__id=0.5,
    )  # fmt: skip
    metrics = read_json(folder / "metrics.json")
    assert {"mae", "s_dir", "id", "p_target_heldout"} <= set(metrics)
    assert metrics["count"] == 2


@pytest.mark.parametrize("start", ["noise", "images"])
def test_a_seed_decides_only_noise(tiny, tmp_path, start):
    given = {"task__start": start, "sampler__t0": 400, "dataset__test": 2}
    made = []
    for seed in (0, 1):
        folder = run(tiny, tmp_path, seed=seed, **given)
        files = sorted((folder / "samples").glob("image_*.png"))
        made.append([file.read_bytes() for file in files])
    assert len(made[0]) == 2
    drawn = made[0] != made[1]
    assert drawn == (start == "noise")
    assert is_random(configure("task=sample", "method=latent_opt", f"task.start={start}")) == drawn


def test_the_batch_size_changes_nothing(tiny, tmp_path):
    from helpers.images import read_image

    found = []
    for batch in (1, 2):
        folder = run(
            tiny, tmp_path / str(batch), method__batch=batch, method__steps=1, metric="none"
        )
        found.append(
            torch.stack(
                [read_image(p, 64) for p in sorted((folder / "samples").glob("image_*.png"))]
            )
        )
    different = (to_uint8(found[0]).int() - to_uint8(found[1]).int()).abs()
    assert float((different <= 3).float().mean()) > 0.98


OPT = ["task=sample", "method=latent_opt"]
REFUSALS = [
    ([*OPT, "method.lr=0"], "method.lr=0"),
    ([*OPT, "method.lr=nan"], "method.lr=nan"),
    ([*OPT, "method.steps=0"], "method.steps=0"),
    ([*OPT, "method.s_opt=1"], "method.s_opt=1"),
    (
        [*OPT, "sampler.t0=10", "sampler.s_for=5", "method.s_opt=12"],
        "method.s_opt=12 is impossible with sampler.t0=10",
    ),
    ([*OPT, "method.stop_at=1.5"], "method.stop_at=1.5"),
    ([*OPT, "method.patience=0"], "method.patience=0"),
    ([*OPT, "method.norm=-1"], "method.norm=-1"),
    ([*OPT, "method.batch=0"], "method.batch=0"),
    ([*OPT, "method.clip=0"], "method.clip=0"),
    ([*OPT, "method.objective=cosine"], "method.objective"),
    ([*OPT, "guidance.targets=airplane"], "no distractors"),
    (
        [*OPT, "method.objective=directional", "edit.source=face", "guidance.targets=face"],
        "edit.source=face",
    ),
    (["method=latent_opt"], "method=diffusionclip"),
]


@pytest.mark.parametrize(
    ("overrides", "expected"), REFUSALS, ids=[" ".join(o) for o, _ in REFUSALS]
)
def test_impossible_latent_optimisation_is_refused_in_one_line(overrides, expected):
    with pytest.raises(DclipError) as caught:
        configure(*overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_target_without_distractors_can_be_pulled_at_by_distance(tiny, tmp_path):
    folder = run(
        tiny,
        tmp_path,
        guidance__targets="airplane",
        method__objective="global",
        clip__heldout="null",
    )
    metrics = read_json(folder / "metrics.json")
    assert "nothing competes" in metrics["p_target_heldout_absent"]
    assert metrics["optimiser_steps"] >= 1
