"""What a run imports before it computes: neither Lightning, nor torch's compiler, nor W&B."""

import subprocess
import sys

import pytest

from dclip.runtime import imports

PROGRAM = """
import sys
def said(when):
    heavy = {"lightning", "torchmetrics", "torch._dynamo", "scipy.signal", "scipy.stats", "wandb"}
    heavy |= {"diffusers.models.transformers", "torch.nn.attention.flex_attention"}
    print(when, *sorted(heavy & set(sys.modules)))
import dclip.pipeline
said("pipeline")
print("torchvision", "torchvision" in sys.modules)
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.memory import kept_mb_of
kept_mb_of(load_model("toonfaces").info)
load_clip("toonfaces_clip")
said("networks")
import torch
from dclip.metrics.functional import ssim
picture = torch.rand(1, 3, 16, 16)
assert float(ssim(picture, picture)) == 1
said("scores")
import torch._dynamo, scipy.signal, scipy.stats, wandb
assert len(scipy.signal.windows.hamming(3)) == 3
from torchvision.ops import roi_align
from torch.nn.attention import flex_attention
from importlib.metadata import packages_distributions
assert flex_attention.create_block_mask and packages_distributions()["torch"]
from diffusers import UNet2DConditionModel
block = {"block_out_channels": (8, 8), "norm_num_groups": 8, "cross_attention_dim": 8}
down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
UNet2DConditionModel(16, down_block_types=down, up_block_types=up, attention_head_dim=4, **block)
net = torch.compile(torch.nn.Linear(2, 2), backend="eager")
print("later", net(torch.zeros(1, 2)).shape[0], scipy.stats.norm.cdf(0), callable(wandb.init))
"""


@pytest.mark.slow
def test_a_run_reaches_its_networks_without_what_it_does_not_use():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    said = ["pipeline", "torchvision False", "networks", "scores torchmetrics"]
    said.append("later 1 0.5 True")
    assert done.stdout.splitlines() == said


@pytest.fixture
def promised(tmp_path, monkeypatch):
    """A package that is promised in place of the real ones."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__init__.py").write_text("VALUE = 'slow'\n")
    (tmp_path / "slow" / "part.py").write_text("PART = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "PACKAGES", ("slow", imports.COMPILER))
    monkeypatch.setitem(sys.modules, imports.COMPILER, sys)  # as if it were there already
    yield
    for name in ("slow", "slow.part"):
        sys.modules.pop(name, None)


def test_a_promised_package_looks_installed_and_is_not_loaded(promised):
    from importlib.util import find_spec

    with imports.lightly():
        import slow  # noqa: F401

        assert find_spec("slow") is not None
        assert "VALUE" not in vars(sys.modules["slow"])
    assert "slow" not in sys.modules


def test_whoever_takes_something_of_a_promised_package_gets_it(promised):
    with imports.lightly():
        import slow

        assert slow.VALUE == "slow"
        assert not isinstance(sys.modules["slow"], imports.Promised)
    assert slow.VALUE == "slow"
    assert "slow" in sys.modules


def test_a_part_of_a_promised_package_can_be_imported(promised):
    with imports.lightly():
        from slow.part import PART
    assert PART == 2
