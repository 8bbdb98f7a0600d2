"""Background metrics by hand: as they should be, and as PIE-Bench computes them."""

import math

import numpy as np
import pytest
import torch

from dclip.config import Metrics
from dclip.metrics import functional as F
from dclip.metrics import masked
from dclip.metrics import scorers as scorers_module
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.types import Edited, Images

SIDE = 32


def noise(seed, n=2):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, SIDE, SIDE, generator=random) * 2 - 1


def left(share=0.5, n=2):
    """A region: the left part of the picture."""
    region = torch.zeros(n, 1, SIDE, SIDE)
    region[..., : round(SIDE * share)] = 1
    return region


def numpy_of(x):
    return np.rint((x.numpy().astype(np.float64) + 1) * 127.5) / 255


def test_the_background_is_measured_where_the_region_is_not():
    a, b = noise(1), noise(2)
    x, y = numpy_of(a)[..., 16:], numpy_of(b)[..., 16:]
    mse = np.square(x - y).mean((1, 2, 3))
    np.testing.assert_allclose(masked.background_mse(a, b, left()), mse, rtol=1e-5)
    np.testing.assert_allclose(masked.background_psnr(a, b, left()), -10 * np.log10(mse), rtol=1e-5)


def test_grey_in_a_region_counts_in_part():
    region = left(0.5)
    region[..., 24:] = 0.75
    a, b = torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, 3, SIDE, SIDE)
    a[..., 24:] = 0.5  # 1/4 of the pixels, which weigh 1/4: 1/5 of the background
    error = float(np.square(numpy_of(a) - numpy_of(b)).max())
    np.testing.assert_allclose(masked.background_mse(a, b, region), error / 5, rtol=1e-4)


def test_piebench_divides_the_backgrounds_error_by_all_pixels():
    """The same error everywhere outside: PSNR is too high by 10 log10(all pixels / background)."""
    b = torch.zeros(2, 3, SIDE, SIDE)
    a = b + 0.2
    background = 15 * 30  # of 32 x 32: the left half and the outermost pixels are masked
    gain = 10 * math.log10(SIDE * SIDE / background)
    right, published = masked.background_psnr(a, b, left()), masked.piebench_psnr(a, b, left())
    np.testing.assert_allclose(published - right, gain, rtol=1e-4)


def test_piebench_blackens_the_region_and_the_outermost_pixels():
    a, b = noise(1), noise(2)
    inside = np.ones((SIDE, SIDE))
    inside[:, :16] = inside[0] = inside[-1] = inside[:, -1] = 0
    x, y = numpy_of(a) * inside, numpy_of(b) * inside
    mse = np.square(x - y).mean((1, 2, 3))
    np.testing.assert_allclose(masked.piebench_mse(a, b, left()), mse, rtol=1e-5)
    one, other = (torch.from_numpy(z * 2 - 1).float() for z in (x, y))
    np.testing.assert_allclose(masked.piebench_ssim(a, b, left()), F.ssim(one, other), atol=1e-6)


def test_what_happens_inside_the_region_is_nobodys_business():
    source = noise(3)
    result = source.clone()
    result[..., :16] = noise(4)[..., :16]
    assert masked.background_ssim(result, source, left()).tolist() == pytest.approx([1, 1])
    assert masked.background_psnr(result, source, left()).tolist() == [100, 100]
    worse = masked.background_ssim(result, source, left(0.25))
    assert bool((worse < 0.9).all())


def test_without_a_region_the_background_is_the_whole_picture():
    a, b, none = noise(1), noise(2), torch.zeros(2, 1, SIDE, SIDE)
    np.testing.assert_allclose(masked.background_mse(a, b, none), F.mse(a, b), rtol=1e-5)
    np.testing.assert_allclose(masked.background_ssim(a, b, none), F.ssim(a, b), rtol=1e-5)


def test_a_region_that_is_everything_leaves_no_background():
    region = torch.ones(2, 1, SIDE, SIDE)
    assert masked.background_psnr(noise(1), noise(2), region).isnan().all()
    assert masked.piebench_psnr(noise(1), noise(2), region).tolist() == [100, 100]


class Distance(torch.nn.Module):
    """In LPIPS' place: the mean absolute difference."""

    def forward(self, a, b):
        return (a - b).abs().mean((1, 2, 3), keepdim=True)


def test_a_run_measures_both_backgrounds_where_a_region_is_known(monkeypatch):
    source, result, region = noise(1), noise(2), left(0.75)
    images = Images(source, ("a", "b"))
    monkeypatch.setattr(scorers_module, "lpips_network", lambda trunk: Distance())
    scorers = Scorers()
    options = Metrics(clip=False, identity=False, kid=False, judge=False)
    plain = measure(Edited(images, result), options, scorers).values
    assert not any(name.startswith(("background_", "piebench_")) for name in plain)
    scores = measure(Edited(images, result, None, region), options, scorers).values
    kept = [f"{kind}_{name}" for kind in ("background", "piebench") for name in ("psnr", "ssim")]
    assert {*kept, "background_lpips", "piebench_lpips", "background_mse"} <= set(scores)
    outside = (result - source).abs()[..., 24:].mean()
    assert scores["background_lpips"] == pytest.approx(float(outside), rel=1e-4)
    assert scores["piebench_psnr"] > scores["background_psnr"] + 5


def test_a_region_of_another_shape_is_refused():
    images = Images(noise(1), ("a", "b"))
    with pytest.raises(ValueError, match=r"region is \[2, 3, 32, 32\], not \[2, 1, 32, 32\]"):
        Edited(images, noise(2), None, noise(3))
