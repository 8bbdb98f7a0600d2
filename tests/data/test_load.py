from itertools import pairwise

import pytest
import torch

from helpers.networks import a_run, drawn
from helpers.runs import configure, words

# ------------------------------------------------------------------------------------------- drawn by the model


@pytest.fixture
def sampled(nets):
    def configured(**more):
        counts = {"dataset.train": 3, "dataset.validation": 0, "dataset.test": 4}
        settings = {
            "dataset": "sampled",
            "dataset.steps": 5,
            "checkpoint.name": nets["model16"],
            "sampler.s_for": 6,
            **counts,
        }
        return configure(
            *words({**settings, "trainer": "cpu", "trainer.progress": "false"}, **more)
        )

    return configured


def test_images_are_drawn_without_any_data(sampled, model):

    cfg = sampled()
    images = {split: drawn(cfg, model, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in images.items()} == {
        "train": 3,
        "validation": 0,
        "test": 4,
    }
    assert images["test"].latents is None
    assert not torch.allclose(images["test"].pixels[:3], images["train"].pixels)
    more = drawn(sampled(dataset__train=3, dataset__test=6, trainer__batch=2), model, "test")
    torch.testing.assert_close(more.pixels[:4], images["test"].pixels, rtol=1e-4, atol=1e-4)
    other = drawn(sampled(seed=1), model, "test")
    assert not torch.allclose(other.pixels, images["test"].pixels)


def test_drawn_images_are_remembered(sampled, model, monkeypatch):
    from dclip.encode import source

    first = drawn(sampled(seed=5), model, "test")
    monkeypatch.setattr(source, "run_trajectory", lambda *_: pytest.fail("drawn again"))
    assert torch.equal(drawn(sampled(seed=5), model, "test").pixels, first.pixels)


def test_drawn_images_may_keep_their_latents_instead_of_being_inverted(sampled, model):
    import dclip
    from dclip.encode.invert import encode

    cfg = sampled(dataset__invert="false", sampler__t0=400)
    images = drawn(cfg, model, "test")
    latents = encode(a_run(cfg, model), images).latents
    assert torch.equal(latents, images.latents)
    assert torch.equal(encode(a_run(cfg, model), images.take([2, 0])).latents, latents[[2, 0]])
    again = dclip.generate(model, latents, t0=400, steps=6)
    torch.testing.assert_close(again.clamp(-1, 1), images.pixels, rtol=1e-4, atol=1e-4)


def test_the_way_down_passes_exactly_at_t0():
    from dclip.diffusion.timesteps import pairs_above, pairs_down

    upper = pairs_above(400, 999, 50)
    assert upper[0][0] == 999
    assert upper[-1][1] == 400
    assert all(a[1] == b[0] for a, b in pairwise(upper))
    assert upper[:-1] == pairs_down(999, 50)[: len(upper) - 1]
    assert pairs_above(999, 999, 50) == []
