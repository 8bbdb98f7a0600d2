"""Guided sampling from images, against a plain transcription: DiffusionCLIP D.5's rival, and SDEdit's start."""

import math

import pytest
import torch
import torch.nn.functional as F

from dclip.diffusion.noise import image_seed
from dclip.encode.invert import encode
from dclip.methods.contract import method_of
from dclip.types import Images
from helpers.networks import a_run
from helpers.runs import configure, words

SCALE, SEED = 3.0, 5
TIMES = [400, 200, 0]  # the way down, and then to the clean image


@pytest.fixture
def settings(tiny, nets):
    """Directional guidance that looks at the predicted x0 as it is, at every step."""

    def build(**more):
        keep = {k: v for k, v in tiny.items() if k.split(".")[0] in ("trainer", "logger", "clip")}
        keep |= {"task": "sample", "task.start": "images", "task.clip_x0": "false"}
        keep |= {"task.paired": "false", "checkpoint.name": nets["model16"], "edit": "beard"}
        keep |= {"guidance": "directional", "guidance.scale": SCALE, "guidance.normalise": "none"}
        keep |= {"guidance.cutouts": 0, "guidance.flip": "false", "guidance.range": 0}
        keep |= {"guidance.t_start": 999, "guidance.t_end": 0, "guidance.every": 1}
        keep |= {"guidance.sees": "x0", "guidance.tv": 0, "loss.templates": "none"}
        keep |= {"sampler": "ddim", "sampler.t0": 400, "sampler.s_gen": 3, "seed": SEED}
        return configure(*words(keep, **more))

    return build


def features(clip, images):
    """Unit features of images in [-1, 1], enlarged as CLIP wants them."""
    return F.normalize(clip.image_features(images), dim=-1)


def transcription(model, clip, schedule, images, x, scale):
    """DDIM along eps' = eps - scale sqrt(1 - a) g, g the gradient of the directional loss's opposite."""
    with torch.no_grad():
        before = features(clip, images)
        source, target = (
            F.normalize(clip.text_features([text])[0], dim=-1)
            for text in ("person", "person with a beard")
        )
        texts = F.normalize(target - source, dim=-1)
    for t, t_next in zip(TIMES, [*TIMES[1:], -1], strict=True):
        a = schedule.alpha_bar(t)
        a_next = schedule.alpha_bar(t_next) if t_next >= 0 else 1.0
        with torch.no_grad():
            eps = model.eps(x, torch.full((len(x),), t))
        leaf = x.clone().requires_grad_()
        x0 = (leaf - math.sqrt(1 - a) * eps) / math.sqrt(a)
        cosine = F.cosine_similarity(features(clip, x0) - before, texts[None], dim=-1)
        (gradient,) = torch.autograd.grad(-(1 - cosine).sum(), leaf)
        moved = eps - scale * math.sqrt(1 - a) * gradient
        x0 = (x - math.sqrt(1 - a) * moved) / math.sqrt(a)
        x = math.sqrt(a_next) * x0 + math.sqrt(1 - a_next) * moved
    return x


@pytest.mark.parametrize("way", ["stochastic", "invert"])
def test_images_are_guided_as_the_formula_says(settings, model, clip, way):
    cfg = settings(**{"sampler.encode": way})
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = Images(pixels, ("a", "b"))
    run = a_run(cfg, model, clip=clip)
    start = encode(run, images)
    if way == "stochastic":  # SDEdit: noise that belongs to the picture's name
        a, noise = model.schedule.alpha_bar(400), []
        for name in images.ids:
            drawer = torch.Generator().manual_seed(image_seed(SEED, f"encode/{name}"))
            noise.append(torch.randn(3, 16, 16, generator=drawer))
        expected = math.sqrt(a) * pixels + math.sqrt(1 - a) * torch.stack(noise)
        torch.testing.assert_close(start.latents, expected)
    made = method_of(cfg).adapt(run, {}).apply(run, start, 1.0)
    theirs = transcription(model, clip, model.schedule, pixels, start.latents, SCALE)
    torch.testing.assert_close(made, theirs, rtol=1e-4, atol=1e-4)
    without = transcription(model, clip, model.schedule, pixels, start.latents, 0)
    assert float((theirs - without).abs().max()) > 1e-2, "the guidance must matter here"
