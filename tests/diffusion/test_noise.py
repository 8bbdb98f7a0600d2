import torch

from dclip.diffusion.noise import ImageNoise


def test_noise_depends_on_the_seed_and_the_id_and_nothing_else():
    x = torch.empty(1, 3, 8, 8)
    first = ImageNoise(["a"], 0).like(x)
    torch.manual_seed(99)
    assert torch.equal(first, ImageNoise(["a"], 0).like(x))
    assert not torch.equal(first, ImageNoise(["b"], 0).like(x))
    assert not torch.equal(first, ImageNoise(["a"], 1).like(x))
    again = ImageNoise(["a"], 0)
    assert not torch.equal(again.like(x), again.like(x))


def test_no_images_have_no_noise():
    assert ImageNoise([]).like(torch.empty(0, 3, 8, 8)).shape == (0, 3, 8, 8)
