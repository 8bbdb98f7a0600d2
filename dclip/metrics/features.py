"""The networks whose features LPIPS, KID and FID compare."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from dclip.metrics import functional as F
from dclip.models import registry
from dclip.models.judge import Judge
from dclip.types import to_uint8

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's


class _Inception(nn.Module):
    """torch-fidelity's Inception with its 2,048 pooled features, for images in [-1, 1]."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from torchmetrics.image.fid import NoTrainInceptionV3

        self.net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))

    def forward(self, images: Tensor) -> Tensor:
        """[N,3,H,W] -> [N,2048]; takes 8-bit pixels, as FID and KID are defined."""
        features: Tensor = self.net(to_uint8(images))
        return features


Extractor = tuple[nn.Module, Callable[[Tensor], Tensor], str]


def extractor(judge: Judge | None) -> Extractor | str:
    """The network behind KID and FID, its features [N,D] of images in [-1, 1], and its name; or why there is none."""
    if judge is not None:
        net = judge
        return net, lambda x: net.features(F.unit(x) * 2 - 1), "judge"
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    weights = home / "hub" / "checkpoints" / INCEPTION
    if not weights.is_file():
        return f"its Inception weights are not on disk; put {INCEPTION} into TORCH_HOME/hub/checkpoints"
    inception = _Inception(weights)
    return inception, inception, "inception-v3-compat"


TRUNKS = {"alex": "alexnet-owt-7be5be79.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


def lpips_network(trunk: str) -> nn.Module | str:
    """LPIPS 0.1: pictures [N,3,H,W] in [-1, 1], twice -> distances [N,1,1,1]; or why there is none. Its heads are torchmetrics'."""
    file = registry.torch_folder() / TRUNKS[trunk]
    if not file.is_file():
        remedy = (
            "run dclip weights fetch lpips_alexnet"
            if trunk == "alex"
            else f"put {file.name} into {file.parent}"
        )
        return f"its {trunk} trunk is not on disk; {remedy}"
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    return _NoTrainLpips(net=trunk)  # type: ignore[arg-type]


class JudgeFeatures(nn.Module):
    """The judge's 128 hidden features as a KID extractor for ToonFaces; takes images in [0, 1]."""

    num_features = 128

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, images: Tensor) -> Tensor:
        """[N,3,64,64] in [0, 1] -> features [N,128]."""
        return self.judge.features(images * 2 - 1)
