"""Face identity: residual networks with squeeze-and-excitation (IR-SE), the backbone of ArcFace.

IR-SE50 (Deng et al. 2019, as in TreB1eN/InsightFace_Pytorch) and the small one of ToonFaces are one
class at two sizes; state-dict keys are those of ``model_ir_se50.pth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import isqrt

import torch.nn.functional as F
from torch import Tensor, nn

from dclip.errors import DclipError


@dataclass(frozen=True)
class IrSeConfig:
    """Shape of the network: (channels, blocks) per stage; each stage halves the picture."""

    input_size: int = 112
    stem: int = 64
    stages: tuple[tuple[int, int], ...] = ((64, 3), (128, 4), (256, 14), (512, 3))
    embedding: int = 512
    dropout: float = 0.6


IR_SE50 = IrSeConfig()
TOONFACES_IDENTITY = IrSeConfig(
    input_size=64, stem=16, stages=((16, 2), (32, 2), (64, 2), (96, 2)), embedding=128, dropout=0.1
)


def ir_se_config(state: Mapping[str, Tensor]) -> IrSeConfig:
    """The shape of a published IR-SE network, from its state dict.

    A stage is a run of blocks of one width: the published networks double it from stage to stage.
    DclipError if it is no such network.
    """
    try:
        stem, embedding = len(state["input_layer.0.weight"]), len(state["output_layer.3.weight"])
        widths: list[int] = []
        while f"body.{len(widths)}.res_layer.3.weight" in state:
            widths.append(len(state[f"body.{len(widths)}.res_layer.3.weight"]))
        stages = tuple((width, len(list(blocks))) for width, blocks in groupby(widths))
        side = isqrt(state["output_layer.3.weight"].shape[1] // widths[-1])
    except (KeyError, IndexError, TypeError) as error:
        missing = "blocks"
        if isinstance(error, KeyError):
            missing = str(error.args[0])
        raise DclipError(
            f"this is no IR-SE network (ArcFace, model_ir_se50.pth): it has no {missing}"
        ) from error
    return IrSeConfig(side * 2 ** len(stages), stem, stages, embedding, IR_SE50.dropout)


class SqueezeExcite(nn.Module):
    """Channel gates from the pooled picture."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> the same shape."""
        gates: Tensor = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()
        return x * gates


class Bottleneck(nn.Module):
    """BN, 3x3, PReLU, 3x3 (stride), BN, SE, and a shortcut.

    The shortcut sub-samples; where the width changes, it is a 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if inputs == outputs:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcite(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H/stride,W/stride]."""
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out


class IrSe(nn.Module):
    """IR-SE network: pictures [N,3,S,S] in [-1, 1] -> unit embeddings [N, D]."""

    def __init__(self, config: IrSeConfig = IR_SE50) -> None:
        super().__init__()
        self.config = config
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, config.stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.PReLU(config.stem),
        )
        blocks: list[nn.Module] = []
        width = config.stem
        for channels, count in config.stages:
            blocks.append(Bottleneck(width, channels, stride=2))
            for _ in range(count - 1):
                blocks.append(Bottleneck(channels, channels, stride=1))
            width = channels
        self.body = nn.Sequential(*blocks)
        side = config.input_size // 2 ** len(config.stages)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(config.dropout),
            nn.Flatten(),
            nn.Linear(width * side * side, config.embedding),
            nn.BatchNorm1d(config.embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Unit embeddings [N, D] of pictures at the network's own input size."""
        return F.normalize(self.output_layer(self.body(self.input_layer(x))), dim=-1)


class IdentityModel(nn.Module):
    """Identity features of whole pictures: crop, pool to the network's input, embed.

    ``crop`` is (top, bottom, left, right) as fractions of the picture; published for faces aligned
    as in CelebA-HQ: rows 35:223 and columns 32:220 of 256.
    """

    def __init__(
        self, net: IrSe, crop: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)
    ) -> None:
        super().__init__()
        self.net, self.crop = net, crop

    def features(self, images: Tensor) -> Tensor:
        """Unit embeddings [N, D] of images [N,3,H,W] in [-1, 1]; gradients reach the pixels."""
        h, w = images.shape[-2:]
        top, bottom, left, right = self.crop
        x = images[..., round(top * h) : round(bottom * h), round(left * w) : round(right * w)]
        size = self.net.config.input_size
        if x.shape[-2:] != (size, size):
            x = F.adaptive_avg_pool2d(x, (size, size))
        out: Tensor = self.net(x)
        return out


CELEBA_CROP = (35 / 256, 223 / 256, 32 / 256, 220 / 256)
