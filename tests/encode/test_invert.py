import torch

from dclip.diffusion.timesteps import pairs_up
from dclip.encode.invert import latent_path
from dclip.models.checkpoints import load_model
from dclip.types import Images
from helpers.images import images16
from helpers.networks import latents_of
from helpers.runs import configure, words

# ------------------------------------------------------------------------------------------- latents


def counted(model):
    """The batch sizes of the model's calls from now on."""
    calls = []
    model.unet.register_forward_hook(lambda _net, inputs, _out: calls.append(len(inputs[0])))
    return calls


def test_latents_are_read_from_the_cache_the_second_time(nets, tiny, model):
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}))
    images, calls = images16(seed=101), counted(model)
    first = latents_of(cfg, model, images)
    assert len(calls) == 3
    second = latents_of(cfg, model, images)
    assert len(calls) == 3
    assert torch.equal(first, second)
    some = images16(
        8, seed=101
    )  # the first image is the same; the others are drawn from the same stream
    latents_of(cfg, model, Images(torch.cat([images.pixels[:4], some.pixels[6:]]), tuple("abcdef")))
    assert calls[3:] == [2, 2, 2]


def test_another_model_other_steps_or_other_pixels_miss_the_cache(nets, tiny, model):
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}))
    images, other = images16(seed=102), load_model(str(nets["other16"]))
    latents_of(cfg, model, images)
    calls = counted(other)
    latents = latents_of(cfg, other, images)
    assert len(calls) == 3
    assert not torch.allclose(latents, latents_of(cfg, model, images))
    mine = counted(model)
    latents_of(
        configure(*words({**tiny, "checkpoint.name": nets["model16"]}, sampler__t0=400)),
        model,
        images,
    )
    assert len(mine) == 3
    latents_of(cfg, model, images16(seed=103))
    assert len(mine) == 6


def test_a_damaged_cache_file_is_made_again(nets, tiny, model):
    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}))
    images = images16(2, seed=104)
    first = latents_of(cfg, model, images)
    latent_path(model, images.pixels[0], pairs_up(500, 4)).write_bytes(b"\x93NUMPY half")
    calls = counted(model)
    torch.testing.assert_close(latents_of(cfg, model, images), first, rtol=0, atol=1e-5)
    assert calls == [1, 1, 1]


def test_no_images_have_no_latents(tiny, model):
    none = Images(torch.zeros(0, 3, 16, 16), ())
    assert latents_of(configure(*words(tiny)), model, none).shape == (0, 3, 16, 16)


# -------------------------------------------------------------------------------------------- SDEdit


def test_stochastic_encoding_is_the_closed_form_and_asks_no_network(nets, tiny, model):
    """x_t0 = sqrt(a) x0 + sqrt(1 - a) n (Meng et al. 2022, SDEdit): n is normal, an image's own."""
    settings = {**tiny, "checkpoint.name": nets["model16"], "sampler.encode": "stochastic"}
    images, calls = images16(64), counted(model)
    noise = {}
    for seed in (0, 1):
        cfg = configure(*words({**settings, "seed": seed}))
        a = model.schedule.alpha_bar(cfg.sampler.t0)
        latents = latents_of(cfg, model, images)
        noise[seed] = (latents - a**0.5 * images.pixels) / (1 - a) ** 0.5
        part = Images(images.pixels[3:5], images.ids[3:5])
        assert torch.equal(latents_of(cfg, model, part), latents[3:5])
    assert calls == []
    both = torch.stack([noise[0].flatten(), noise[1].flatten(), images.pixels.flatten()])
    assert both[:2].mean(1).abs().max() < 0.02
    assert (both[:2].std(1) - 1).abs().max() < 0.02
    assert (torch.corrcoef(both) - torch.eye(3)).abs().max() < 0.02
