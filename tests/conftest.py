"""What the tests share: an environment without network, tiny real networks, data sets."""

import gc
import os
import sys

# Before torch is imported, by whatever a test imports first: tests run side by side.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["COLUMNS"] = "120"
# Without bytecode every process that a test starts would compile dclip anew.
for inherited in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "DCLIP_DEBUG", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(inherited, None)
sys.dont_write_bytecode = False
gc.disable()  # until all tests are collected: there is none among imports

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from PIL import Image  # noqa: E402

from dclip.prepare import composing  # noqa: E402
from dclip.prepare.paths import CONF  # noqa: E402
from helpers import quick_hydra  # noqa: E402
from helpers.layouts import roots  # noqa: E402
from helpers.networks import write_tiny_clip, write_tiny_model  # noqa: E402
from helpers.runs import SMALL, configure, words  # noqa: E402

quick_hydra.be_quick()
composing.MOST = 600  # many tests choose what others chose


def pytest_collection_finish():
    """Look for garbage among what the tests make, less often than usual: it took a tenth of them."""
    gc.freeze()
    gc.set_threshold(5000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks: more threads only cost, and a run may leave another number behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("DCLIP_CACHE", str(folder))
    patch.delenv("WANDB_API_KEY", raising=False)
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    """Files of tiny networks, by name."""
    folder = tmp_path_factory.mktemp("nets")
    return {
        "model16": write_tiny_model(folder / "model16.safetensors"),
        "other16": write_tiny_model(folder / "other16.safetensors", seed=1),
        "model64": write_tiny_model(folder / "model64.safetensors", 64),
        "learned64": write_tiny_model(
            folder / "learned64.safetensors", 64, variance="learned_range"
        ),
        "clip": write_tiny_clip(folder / "clip.safetensors"),
        "heldout": write_tiny_clip(folder / "heldout.safetensors", seed=1),
    }


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Roots of tiny data sets on disk, by the name of their dataclass."""
    return roots(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def configure_on(photographs):
    """``configure`` with small counts, and a tiny root for whatever photographs are asked for."""

    def configured(*overrides):
        import hydra

        from dclip.prepare.composing import composed

        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            dataset = composed([str(o) for o in overrides]).dataset
        kind = OmegaConf.get_type(dataset).__name__
        places = {"dataset.root": photographs[kind]} if kind in photographs else {}
        counts = {"dataset.train": 4, "dataset.validation": 2, "dataset.test": 4}
        return configure(*words({**places, **counts}), *overrides)

    return configured


@pytest.fixture
def model(nets):
    from dclip.models.checkpoints import load_model

    return load_model(str(nets["model16"]))


@pytest.fixture(scope="session")
def clip(nets):
    from dclip.models.checkpoints import load_clip

    return load_clip(str(nets["clip"]))


@pytest.fixture(scope="session")
def tiny(nets):
    """Settings of a small run with the tiny networks."""
    return {
        "experiment": "toonfaces_red_hair",
        **SMALL,
        "checkpoint.name": nets["model64"],
        "clip.name": nets["clip"],
        "clip.heldout": nets["heldout"],
        "sampler": "ddim",
        "method.objective": "chain",
        "method.lr_schedule": "constant",
        "method.lora.rank": 0,
        "method.lr": 0.001,
        "metric.judge": "false",
        "metric.kid": "false",
    }


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Nothing is found, and nothing may be fetched."""
    for name in ("DCLIP_WEIGHTS", "DCLIP_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DCLIP_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)
