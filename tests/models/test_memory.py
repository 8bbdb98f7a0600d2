"""How many images go through the network at a time."""

import json

import pytest
import torch

from dclip.diffusion.sampler import Prediction
from dclip.encode import walk
from dclip.encode.walk import Walk, run_walk
from dclip.models import memory, sizes
from dclip.models.checkpoints import load_model
from dclip.prepare import plan
from helpers.runs import configure

"""How many images go through the network at a time."""

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toonfaces():
    return load_model("toonfaces")


def test_what_is_kept_of_an_image_is_what_the_plan_says(toonfaces):
    assert memory._kept_mb(json.dumps(toonfaces.info.unet)) == pytest.approx(
        sizes.size_named("toonfaces").kept_mb, abs=0.1
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_is_counted_wherever_it_is_asked(toonfaces, mode):
    memory._kept_mb.cache_clear()
    with mode():
        assert memory._kept_mb(json.dumps(toonfaces.info.unet)) == pytest.approx(
            sizes.size_named("toonfaces").kept_mb, abs=0.1
        )


@pytest.mark.parametrize(
    ("device", "free", "gradient", "expected"),
    [
        ("cpu", 1e5, False, 16),
        ("cuda", 1e5, False, 64),
        ("cpu", 115, False, 10),
        ("cpu", 115, True, 2),
        ("cpu", 3, False, 1),
    ],
)
def test_as_many_images_as_half_of_the_free_memory_holds(
    toonfaces, device, free, gradient, expected, monkeypatch
):
    monkeypatch.setattr(memory, "free_mb", lambda _: free)
    assert memory.fitting_batch(toonfaces, torch.device(device), gradient) == expected


def test_free_memory_is_some_of_the_machines(toonfaces):
    assert 10 < memory.free_mb(CPU) <= 1e3 * plan._ram() * 1.08


@pytest.mark.parametrize(
    ("asked", "copies", "sizes"),
    [(None, 1, [3, 3, 1]), (5, 1, [5, 2]), (None, 2, [2] * 7), (1, 3, [3] * 7)],
)
def test_a_walk_takes_them_so_many_at_a_time(toonfaces, asked, copies, sizes, monkeypatch):
    monkeypatch.setattr(
        walk, "fitting_batch", lambda model, device, gradient: 3 if model is toonfaces else 0
    )
    cfg = configure(
        "trainer=cpu",
        "trainer.progress=false",
        *([] if asked is None else [f"trainer.batch={asked}"]),
    )
    seen = []

    def eps(x, t):
        seen.append(len(x))
        return Prediction(x)

    way = Walk(eps, [torch.nn.Identity(), toonfaces], [(10, 0)], toonfaces.schedule, copies=copies)
    x = torch.arange(7.0).view(7, 1, 1, 1).expand(7, 3, 64, 64)
    made = run_walk(cfg, way, [f"i{i}" for i in range(7)], x, "walking")
    assert seen == sizes
    assert made.flatten(1)[:, 0].argsort().tolist() == list(range(7))


def test_a_plan_counts_the_images_that_a_device_holds():
    size = sizes.size_named("toonfaces")
    device = plan.Device("CPU, 2 threads", 1.0, "", 24.0)
    assert plan.most_images(device, size) == 16
    assert plan.most_images(plan.Device("Some GPU", 1.0, "", 8.0), size) == 64
    assert plan.most_images(plan.Device("Some GPU", 1.0, "", 0.1), size) == 8
    assert plan.most_images(plan.Device("no NVIDIA GPU was found", 1.0, ""), size) == 64
