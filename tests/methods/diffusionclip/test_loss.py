"""Terms of the loss that need more than the edited picture: the prior, and texts that compete."""

import torch

from dclip.config import ShiftLoss
from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.sampler import Prediction, predict_x0
from dclip.methods.diffusionclip.loss import EditLoss, edit_loss
from dclip.methods.diffusionclip.prior import LEAST, MOST, Prior
from dclip.text.direction import texts_against
from helpers.images import images16
from helpers.networks import a_run
from helpers.runs import configure, words


def total(**weights):
    """The settings of a loss with these weights alone."""
    others = ("clip", "l1", "id", "shift", "keep", "outside")
    return {"loss": "directional_shift", **{f"loss__{name}": 0 for name in others}, **weights}


def made(tiny, model, clip, **settings):
    """The loss of a run on two pictures, and the pictures."""
    cfg = configure(*words(tiny, **settings))
    run, images = a_run(cfg, model, clip=clip), images16(2)
    return edit_loss(run, images), images.pixels


# -------------------------------------------------------------------------------------- prior


def test_the_prior_is_the_distance_to_what_the_network_makes_of_a_picture(model):
    prior, x = Prior(model, seed=3), images16(2).pixels.requires_grad_()
    distance = prior.distance(x, [4, 7], draw=5)
    t = prior.timestep(5)
    a = model.schedule.alpha_bar(t)
    noisy = add_noise(x.detach(), ImageNoise(["prior/5/4", "prior/5/7"], 3).like(x), a)
    with torch.no_grad():
        known = predict_x0(noisy, model.predict(noisy, torch.full((2,), t)).eps, a)
    assert LEAST <= t < MOST
    torch.testing.assert_close(distance, (x - known).abs().mean())
    (gradient,) = torch.autograd.grad(distance, x)
    torch.testing.assert_close(gradient, (x - known).sign() / x.numel())  # none through the network


class Knows:
    """A network that knows one picture, and takes all else for noise."""

    def __init__(self, model, picture):
        self.schedule, self.picture = model.schedule, picture

    def predict(self, x, t):
        a = self.schedule.alpha_bar(int(t[0]))
        return Prediction((x - a**0.5 * self.picture) / (1 - a) ** 0.5)


def test_what_the_network_knows_costs_nothing(model):
    known = images16(1).pixels
    prior = Prior(Knows(model, known), seed=0)
    assert float(prior.distance(known, [0], 0)) < 1e-5
    assert abs(float(prior.distance(known + 0.1, [0], 0)) - 0.1) < 1e-4


def test_noise_and_timestep_belong_to_seed_call_and_image(model):
    prior, x = Prior(model, 0), images16(2).pixels
    both = prior.distance(x, [0, 1], 9)
    shares = [prior.distance(x[i : i + 1], [i], 9) for i in (0, 1)]
    torch.testing.assert_close(both, sum(shares) / 2)  # threads share a batch
    others = {float(prior.distance(x, [0, 1], draw)) for draw in range(4)}
    assert len(others) == 4 and float(Prior(model, 1).distance(x, [0, 1], 9)) != float(both)


def test_every_update_draws_anew_and_the_same_after_a_resumed_run(model):
    from dclip.diffusion.timesteps import pairs_down
    from dclip.methods.diffusionclip.objectives import Work, gpu_efficient

    draws = []

    def loss(edited, index, id_of=None, draw=0):
        draws.append(draw)
        return {"total": edited.mean()}

    pairs, x = pairs_down(500, 3), images16(2).pixels
    for batch in (0, 1, 4):
        work = Work(model.predict, loss, model.schedule, pairs, x, (0, 1), batch, progress=0.0)
        list(gpu_efficient(work))
    assert draws == [0, 1, 2, 3, 4, 5, 12, 13, 14]


def test_a_run_asks_its_own_network(tiny, model, clip):
    loss, x = made(tiny, model, clip, **total(loss__prior=2))
    terms = loss(x + 0.2, [0, 1], draw=3)
    assert loss.prior.model is model
    torch.testing.assert_close(terms["total"], 2 * terms["prior"])
    again = loss.of(images16(2))(x + 0.2, [0, 1], draw=3)  # of each step, and of validation
    torch.testing.assert_close(again["prior"], terms["prior"])
    assert "prior" not in made(tiny, model, clip, **total(loss__l1=1))[0](x, [0, 1])


# ----------------------------------------------------------------------------------- contrast


def test_contrast_is_the_targets_probability_among_what_it_competes_with(tiny, model, clip):
    target, against = "person with red hair", ["person with black hair", "person"]
    texts = {
        "edit__target": target,
        "edit__source": "face",
        "edit__against": f"[{','.join(against)}]",
    }
    loss, x = made(tiny, model, clip, **total(loss__contrast=3), **texts)
    terms = loss(x, [0, 1])
    with torch.no_grad():
        cosines = clip.image_features(x) @ clip.text_features([target, *against]).T
        chance = (cosines * clip.logit_scale).softmax(1)[:, 0]
    torch.testing.assert_close(terms["contrast"], -chance.log().mean())
    torch.testing.assert_close(terms["total"], 3 * terms["contrast"])


def test_by_default_a_target_competes_with_its_siblings_or_with_what_it_was():
    def of(target, *more):
        return texts_against(configure(f"edit.target={target}", "edit.source=face", *more))

    assert of("smiling face") == ["calm face", "sad face", "angry face", "surprised face"]
    assert of("vase") == ["face"]
    named = of(
        "smiling face", "edit.against=[sad face]", "loss=directional_shift", "loss.contrast=1"
    )
    assert named == ["sad face"]


def test_a_weight_of_nothing_prepares_nothing(tiny, model, clip):
    loss, _ = made(tiny, model, clip, **total(loss__l1=1))
    assert loss.against is None and loss.prior is None
    assert isinstance(loss, EditLoss) and isinstance(loss.options, ShiftLoss)
