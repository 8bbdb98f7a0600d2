"""How many images go through the network at a time."""

from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch

from dclip.diffusion.sampler import Prediction
from dclip.encode import trajectory
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.models import memory, sizes
from dclip.models.checkpoints import load_model
from dclip.prepare import plan
from helpers.runs import configure

MODES = [torch.no_grad, torch.inference_mode, torch.enable_grad]


@pytest.fixture(scope="module")
def toonfaces():
    return load_model("toonfaces")


def test_what_is_kept_of_an_image_is_what_the_plan_says(toonfaces):
    kept = sizes.size_named("toonfaces").kept_mb
    assert memory.kept_mb_of(toonfaces.info) == pytest.approx(kept, abs=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_counted_wherever_it_is_asked(toonfaces, mode):
    # another network each, as answers are remembered
    unet = toonfaces.info.unet | {"norm_eps": 1e-6 * (1 + MODES.index(mode))}
    with mode():
        kept = memory.kept_mb_of(replace(toonfaces.info, unet=unet))
    assert kept == pytest.approx(sizes.size_named("toonfaces").kept_mb, abs=0.1)


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


def test_free_memory_is_what_the_system_has_and_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5e9))
    assert memory.free_mb(torch.device("cpu")) == 5000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2e9, 8e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1e9)
    assert memory.free_mb(torch.device("cuda")) == 4000


@pytest.mark.parametrize(
    ("asked", "copies", "sizes"),
    [(None, 1, [3, 3, 1]), (5, 1, [5, 2]), (None, 2, [2] * 7), (1, 3, [3] * 7)],
)
def test_a_walk_takes_them_so_many_at_a_time(toonfaces, asked, copies, sizes, monkeypatch):
    monkeypatch.setattr(
        trajectory, "fitting_batch", lambda model, device, gradient: 3 if model is toonfaces else 0
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

    way = Trajectory(
        eps, [torch.nn.Identity(), toonfaces], [(10, 0)], toonfaces.schedule, copies=copies
    )
    x = torch.arange(7.0).view(7, 1, 1, 1).expand(7, 3, 64, 64)
    made = run_trajectory(cfg.trainer, way, [f"i{i}" for i in range(7)], x, "walking")
    assert seen == sizes
    assert made.flatten(1)[:, 0].argsort().tolist() == list(range(7))


def test_a_plan_counts_the_images_that_a_device_holds():
    size = sizes.size_named("toonfaces")
    device = plan.Device("CPU, 2 threads", 1.0, "", 24.0)
    assert plan.most_images(device, size) == 16
    assert plan.most_images(plan.Device("Some GPU", 1.0, "", 8.0), size) == 64
    assert plan.most_images(plan.Device("Some GPU", 1.0, "", 0.1), size) == 8
    assert plan.most_images(plan.Device("no NVIDIA GPU was found", 1.0, ""), size) == 64
