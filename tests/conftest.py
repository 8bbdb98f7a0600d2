"""What the tests share: an environment without network, tiny real networks, and runs that several tests look at."""

import os

from dclip.prepare import compose

os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side
os.environ["COLUMNS"] = "120"
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as dclip has it; some tests import torch before dclip
for inherited in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "DCLIP_DEBUG"):
    os.environ.pop(inherited, None)

import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = (
    "objective_",
    "apply_",
    "translate_",
    "single_",
    "examples",
)  # experiments of test_presets.py
SMALL = {  # overrides that keep a run in seconds
    "dataset.train": 4,
    "dataset.validation": 2,
    "dataset.test": 4,
    "method.epochs": 1,
    "method.s_train": 2,
    "sampler.s_for": 4,
    "sampler.s_gen": 2,
    "trainer.progress": "false",
    "trainer": "cpu",
    "logger": "csv",
}
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 2050, "width": 16, "heads": 2, "layers": 1},
}


def tiny_unet(size=16, out_channels=3):
    return {
        "sample_size": size,
        "out_channels": out_channels,
        "block_out_channels": (16, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
        "add_attention": False,
    }


def write_tiny_model(path, size=16, seed=0, variance="fixed_small"):
    """A diffusion model with random weights, on disk as ours are."""
    import torch

    from dclip.models.saved import model_header, save_weights
    from dclip.models.unet import ModelInfo, build_unet

    info = ModelInfo("tiny", tiny_unet(size, 6 if variance == "learned_range" else 3), variance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_unet(info.unet)
    save_weights(path, net, model_header(info))
    return path


def write_tiny_clip(path, seed=0):
    import torch

    from dclip.models.clip import build_clip
    from dclip.models.saved import save_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_clip(TINY_CLIP)
        for (
            name,
            parameter,
        ) in (
            net.visual.named_parameters()
        ):  # a fresh ResNet sees almost no difference between pictures
            if "bn" in name and name.endswith("weight"):
                torch.nn.init.constant_(parameter, 2.0)
    save_weights(path, net, {"kind": "clip", "config": TINY_CLIP})
    return path


def words(settings, **more):
    """Settings as command-line words; ``__`` stands for a dot."""
    merged = {**settings, **{k.replace("__", "."): v for k, v in more.items()}}
    return [f"{k}={v}" for k, v in merged.items()]


def configure(*overrides):
    """The checked configuration of one command line, made as ``cli.precheck`` makes it."""
    from hydra import initialize_config_dir

    with initialize_config_dir(version_base="1.3", config_dir=str(compose.CONF)):
        return compose.check_overrides([str(o) for o in overrides])


def command(*overrides, cwd, **options):
    """``python run.py ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *map(str, overrides)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        **options,
    )


def command_here(*overrides, cwd):
    """``run.py ...`` in this process, which is what it was afterwards: ten seconds less than in one of its own."""
    import logging

    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from dclip.cli import command

    logger = logging.getLogger("dclip")
    before = logger.handlers[:], logger.propagate, logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), *map(str, overrides)])
        patch.setattr(sys, "path", sys.path[:])
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        try:
            command.main()
        finally:
            logger.handlers[:], logger.propagate, level = before
            logger.setLevel(level)
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None


def write_edit(folder, tiny, net, name, bias=0.0, lora=False, decoder_from=None, **settings):
    """A fine-tuned edit of a tiny network: a shifted bias, or low-rank updates (``lora``: their seed); returns its folder."""
    import torch

    from dclip.config import Lora as LoraOptions
    from dclip.edits.saved import save_edit
    from dclip.models.checkpoints import load_model
    from dclip.models.lora import Lora

    cfg = configure(
        *words({**tiny, "experiment": f"toonfaces_{name}", "checkpoint.name": net}, **settings)
    )
    tuned, updates = load_model(str(net)), None
    if lora:
        updates = Lora(tuned.unet, LoraOptions(2, decoder_from=decoder_from), 0)
        with torch.no_grad():
            for i, update in enumerate(updates.updates.values(), 1000 * (int(lora) - 1)):
                update.up.copy_(
                    0.2 * torch.randn(update.up.shape, generator=torch.Generator().manual_seed(i))
                )
        updates.round().merge(tuned.unet)
    with torch.no_grad():
        tuned.unet.conv_out.bias += bias
        if not lora:
            tuned.unet.conv_in.weight *= 1 - bias
    folder.mkdir(parents=True, exist_ok=True)
    save_edit(folder / "adapter.safetensors", cfg, tuned, 1.0, updates)
    return str(folder)


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
    """Files of tiny networks: ``model16``, ``model64``, ``other16``, ``learned64``, ``clip``, ``heldout``."""
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
    from layouts import roots

    return roots(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def configure_on(photographs):
    """``configure``, with a tiny root for whatever photographs the command line asks for, and small counts."""

    def configured(*overrides):
        import hydra

        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(compose.CONF)):
            dataset = hydra.compose("config", overrides=[str(o) for o in overrides]).dataset
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
        "method.lr": 0.001,
        "metric.judge": "false",
        "metric.kid": "false",
    }
