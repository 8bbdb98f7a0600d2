"""Colours with a name, painted into the middle of photographs and measured there."""

import pytest
import torch

from dclip.data.cifar10 import captions
from dclip.pretrain.classes import HORSE, Answers, Texts, TrainClassCLIP, colored_things
from dclip.pretrain.colors import (
    COLORS,
    NAMES,
    UNKNOWN,
    Shares,
    lightness,
    measured,
    middles,
    painted,
    recolored,
    stripes,
)
from dclip.pretrain.contrastive import NO_ATTACK, Attack
from dclip.pretrain.training import Budget
from helpers.networks import TINY_CLIP


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=16, seed=0):
    """Soft grey shapes: light and shade, but no colour."""
    coarse = torch.rand(count, 1, 4, 4, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    return (0.6 * smooth - 0.3).expand(-1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_painted_is_measured_under_its_name(name):
    x, rng = pictures(), generator()
    words = torch.full((len(x),), NAMES.index(name))
    everywhere = torch.ones(len(x), 1, 32, 32)
    found = measured(recolored(x, everywhere, words, rng))
    assert int((found == words).sum()) >= 13
    assert not bool(((found != words) & (found != UNKNOWN)).sum() > 2)


def test_painting_keeps_light_and_shade_and_what_lies_outside():
    x, rng = pictures(), generator()
    mask = middles(x, rng)
    assert 0.1 < float(mask.mean()) < 0.7
    result = recolored(x, mask, torch.full((len(x),), NAMES.index("blue")), rng)
    assert float(result.min()) > -1.001
    assert float(result.max()) < 1.001
    outside = (mask < 1e-3).expand_as(x)
    assert float((result - x)[outside].abs().max()) < 3e-3
    before, after = lightness((x + 1) / 2), lightness((result + 1) / 2)
    for one, other, inside in zip(before, after, mask > 0.99, strict=True):
        pair = torch.stack([one[inside], other[inside]])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.9


def test_stripes_are_black_and_white_and_only_in_the_middle():
    x, rng = pictures(), generator()
    mask = middles(x, rng)
    result = stripes(x, mask, rng)
    inside = (mask > 0.95).expand_as(x)
    values = (result[inside] + 1) / 2
    assert float(((values < 0.3) | (values > 0.7)).float().mean()) > 0.7
    torch.testing.assert_close(result.amax(1), result.amin(1))


def test_shares_of_the_pictures_are_painted_and_say_what_they_show():
    x = torch.zeros(400, 3, 8, 8)
    known = torch.full((400,), NAMES.index("grey"))
    result = painted(x, known, Shares(0.5, 0.1, 0.0), generator())
    untouched = (result.pixels == x).flatten(1).all(1)
    assert 130 < int(untouched.sum()) < 190
    assert 20 < int(result.striped.sum()) < 60
    assert bool((result.color[result.striped] == UNKNOWN).all())
    assert bool((result.color[untouched] == NAMES.index("grey")).all())
    assert set(result.color.tolist()) == {UNKNOWN, *range(len(NAMES))}


def test_a_painted_ground_changes_no_words_and_leaves_the_middle():
    x, known = pictures(), torch.full((16,), UNKNOWN)
    result = painted(x, known, Shares(0.0, 0.0, 1.0), generator())
    assert torch.equal(result.color, known)
    middle = (result.pixels - x)[:, :, 14:18, 14:18].abs().mean()
    edge = (result.pixels - x)[:, :, :3].abs().mean()
    assert float(middle) < 0.1 * float(edge)


def test_captions_with_colours_are_english():
    things = colored_things()
    assert len(things) == 10 * len(COLORS)
    assert things[:2] == ["red airplane", "orange airplane"]
    assert captions("a photo of a {}", things)[:2] == [
        "a photo of a red airplane",
        "a photo of an orange airplane",
    ]


def tiny(labels, colors=1.0, pool=None, robust=NO_ATTACK):
    from dclip.models.clip import build_clip
    from dclip.pretrain.course import tokenizer

    torch.manual_seed(0)
    if pool is None:
        pool = ((pictures(len(labels)) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1)
    net = build_clip(TINY_CLIP)
    return TrainClassCLIP(net, Budget(60, 24, 4e-3), tokenizer(), pool, labels, 64, robust, colors)


def test_a_striped_horse_is_a_zebra_and_a_striped_truck_a_truck():
    module = tiny(torch.tensor([HORSE, 9]).repeat(200), 0.8, torch.zeros(400, 32, 32, 3).byte())
    x = torch.zeros(400, 3, 32, 32)
    _, answers = module.shown(x, torch.arange(400), generator())
    things = answers.thing.view(200, 2)
    assert set(things[:, 1].tolist()) == {9}
    zebras = things[:, 0] == 10
    assert 5 < int(zebras.sum()) < 40
    assert bool((answers.colored.view(200, 2)[:, 0][zebras] == UNKNOWN).all())
    known = answers.colored[answers.colored != UNKNOWN]
    assert set((known // len(NAMES)).tolist()) == {HORSE, 9}


def test_the_losses_are_those_of_the_things_and_of_the_coloured_things():
    texts = Texts(torch.eye(12)[:2], torch.eye(12)[2:12], torch.tensor(50.0))
    image = torch.eye(12)[[0, 5]] + torch.eye(12)[[4, 1]]
    right = Answers(torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert [float(loss) < 1e-3 for loss in texts.losses(image, right)] == [True, True]
    silent = Answers(torch.tensor([0, 1]), torch.tensor([UNKNOWN, UNKNOWN]))
    assert float(texts.losses(image, silent)[1]) == 0
    wrong = Answers(torch.tensor([0, 1]), torch.tensor([3, 2]))
    assert float(texts.losses(image, wrong)[1]) > 50


def test_a_small_clip_learns_the_colour_words(monkeypatch):
    """After a short training many painted pictures find their colour (by chance: one in ten)."""
    from dclip.models.clip import ClipModel
    from dclip.pretrain.cifar10 import score_attacked
    from dclip.pretrain.course import tokenizer

    module = tiny(torch.zeros(24, dtype=torch.long))
    done: list[int] = []
    monkeypatch.setattr(TrainClassCLIP, "global_step", property(lambda _: len(done)), raising=False)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    optimizer = torch.optim.AdamW(module.net.parameters(), 4e-3)
    while len(done) < 70:
        optimizer.zero_grad()
        module.training_step().backward()
        torch.nn.utils.clip_grad_norm_(module.net.parameters(), 1.0)
        optimizer.step()
        done.append(1)
    clip = ClipModel(module.net.eval().requires_grad_(False), tokenizer())
    with torch.no_grad():
        scores = score_attacked(clip, pictures(48, 1), torch.zeros(48, dtype=torch.long))
    assert scores["painted_color"] > 0.3
    assert scores["painted_color"] > scores["painted_color_l2_1"]


def test_an_attack_goes_against_colours_too():
    module = tiny(torch.arange(10).repeat(2), robust=Attack(1.0))
    x, index = pictures(20), torch.arange(20)
    texts = module.texts().fixed()
    x, answers = module.shown(x, index, generator())
    module.ramp = lambda: 1.0
    moved = module.attacked(x, texts, answers, generator())
    before, after = (texts.losses(module.features(y), answers)[1] for y in (x, moved))
    assert float(after) > float(before)
    assert float((moved - x).flatten(1).norm(dim=1).max()) <= 1.001
