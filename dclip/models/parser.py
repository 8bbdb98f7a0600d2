"""Which part of the image is each pixel? Two published segmenters, for SC on photographs.

``bisenet``: face parsing (Yu et al. 2018, BiSeNet, as trained on CelebAMask-HQ by
zllrunning/face-parsing.PyTorch): 19 parts. ``ade20k``: scenes (Zhou et al. 2017, the CSAIL baseline
ResNet50dilated + PPM_deepsup): 150 classes. Names of layers are those of the published state dicts;
``width`` (64 as published) scales every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.errors import DclipError, one_line
from dclip.models.foreign import read_foreign
from dclip.models.saved import as_float32

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


FACE_PARTS = 19
SCENE_CLASSES = 150
POOLS = (1, 2, 3, 6)  # cells a side of the pyramid


def _conv3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)


def _project(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where a block changes width or resolution."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


# ------------------------------------------------------------ BiSeNet


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = _project(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H/stride,W/stride]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu(y + x)


def _pair(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class ResNet18(nn.Module):
    """The trunk; returns its features at 1/8, 1/16 and 1/32 of the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.layer1 = _pair(width, width, 1)
        self.layer2 = _pair(width, 2 * width, 2)
        self.layer3 = _pair(2 * width, 4 * width, 2)
        self.layer4 = _pair(4 * width, 8 * width, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N,3,H,W] -> three feature maps."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        half: Tensor = self.layer2(self.layer1(x))
        quarter: Tensor = self.layer3(half)
        return half, quarter, self.layer4(quarter)


class ConvBnRelu(nn.Module):
    """A convolution, its norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The same height and width."""
        return F.relu(self.bn(self.conv(x)))


class Refinement(nn.Module):
    """Attention refinement: features, gated per channel by their own mean."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H,W]."""
        y: Tensor = self.conv(x)
        gates: Tensor = self.bn_atten(self.conv_atten(y.mean((2, 3), keepdim=True))).sigmoid()
        return y * gates


class ContextPath(nn.Module):
    """Coarse features, refined and brought up to 1/8; returns (fine trunk features, context)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnet = ResNet18(width)
        out = 2 * width
        self.arm16, self.arm32 = Refinement(4 * width, out), Refinement(8 * width, out)
        self.conv_head32, self.conv_head16 = ConvBnRelu(out, out), ConvBnRelu(out, out)
        self.conv_avg = ConvBnRelu(8 * width, out, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] -> two maps [N,2*width,H/8,W/8]."""
        fine, middle, coarse = self.resnet(x)
        whole = self.conv_avg(coarse.mean((2, 3), keepdim=True))
        up = self.conv_head32(F.interpolate(self.arm32(coarse) + whole, middle.shape[2:]))
        return fine, self.conv_head16(F.interpolate(self.arm16(middle) + up, fine.shape[2:]))


class Fusion(nn.Module):
    """Feature fusion: both paths together, re-weighted per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = ConvBnRelu(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        """Two maps [N,C/2,H,W] -> [N,C,H,W]."""
        y = self.convblk(torch.cat([fine, context], 1))
        gates = self.conv2(F.relu(self.conv1(y.mean((2, 3), keepdim=True)))).sigmoid()
        out: Tensor = y * gates + y
        return out


class Head(nn.Module):
    """Features to class scores."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,classes,H,W]."""
        out: Tensor = self.conv_out(self.conv(x))
        return out


class BiSeNet(nn.Module):
    """Face parsing: normalised images [N,3,H,W] -> scores [N,19,H/8,W/8].

    The published file also holds two heads that only training used (``conv_out16``,
    ``conv_out32``).
    """

    def __init__(self, width: int = 64, classes: int = FACE_PARTS) -> None:
        super().__init__()
        self.cp, self.ffm = ContextPath(width), Fusion(4 * width)
        self.conv_out = Head(4 * width, 4 * width, classes)
        self.conv_out16 = Head(2 * width, width, classes)
        self.conv_out32 = Head(2 * width, width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores at an eighth of the input."""
        out: Tensor = self.conv_out(self.ffm(*self.cp(x)))
        return out


# ------------------------------------------------------------ ADE20K


class Bottleneck(nn.Module):
    """1x1, 3x3 (stride or dilation), 1x1 to four times the width, with a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3(width, width, stride, dilation), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = _project(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,4*width,H/stride,W/stride]."""
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu(y + x)


def _stage(
    inputs: int, width: int, count: int, stride: int = 1, first: int = 1, rest: int = 1
) -> nn.Sequential:
    """Bottlenecks of one width; ``first`` and ``rest`` are their dilations."""
    stage = nn.Sequential(Bottleneck(inputs, width, stride, first))
    for _ in range(count - 1):
        stage.append(Bottleneck(4 * width, width, 1, rest))
    return stage


class DilatedResNet50(nn.Module):
    """ResNet-50 with a stem of three 3x3 convolutions.

    Its last two stages dilate instead of striding, so that the output is at 1/8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(3, width, 2), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3(width, width), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv3(width, 2 * width), nn.BatchNorm2d(2 * width)
        self.layer1 = _stage(2 * width, width, 3)
        self.layer2 = _stage(4 * width, 2 * width, 4, stride=2)
        self.layer3 = _stage(8 * width, 4 * width, 6, first=1, rest=2)
        self.layer4 = _stage(16 * width, 8 * width, 3, first=2, rest=4)

    def forward(self, x: Tensor) -> Tensor:
        """[N,3,H,W] -> [N,32*width,H/8,W/8]."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out


def _conv_bn_relu(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class PyramidDecoder(nn.Module):
    """Pyramid pooling (Zhao et al. 2017); the layers called ``deepsup`` only training used."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        inputs, hidden = 32 * width, 8 * width
        self.ppm = nn.ModuleList()
        for size in POOLS:
            pool = nn.AdaptiveAvgPool2d(size)
            self.ppm.append(nn.Sequential(pool, *_conv_bn_relu(inputs, hidden, 1)))
        self.conv_last = nn.Sequential(
            *_conv_bn_relu(inputs + len(POOLS) * hidden, hidden, 3),
            nn.Dropout2d(0.1),
            nn.Conv2d(hidden, classes, 1),
        )
        self.cbr_deepsup = nn.Sequential(*_conv_bn_relu(inputs // 2, inputs // 4, 3))
        self.conv_last_deepsup = nn.Conv2d(inputs // 4, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> scores [N,classes,H,W]."""
        levels = [x]
        for pool in self.ppm:
            pooled = F.interpolate(pool(x), x.shape[2:], mode="bilinear", align_corners=False)
            levels.append(pooled)
        out: Tensor = self.conv_last(torch.cat(levels, 1))
        return out


class SceneSegmenter(nn.Module):
    """ADE20K: normalised images [N,3,H,W] -> scores [N,150,H/8,W/8]."""

    def __init__(self, width: int = 64, classes: int = SCENE_CLASSES) -> None:
        super().__init__()
        self.encoder, self.decoder = DilatedResNet50(width), PyramidDecoder(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores at an eighth of the input."""
        out: Tensor = self.decoder(self.encoder(x))
        return out


# ------------------------------------------------------------ one class for both


class Parser(nn.Module):
    """A frozen segmenter with its own input size and normalisation.

    Args:
        net: normalised images -> scores at lower resolution.
        size: height and width of its input; images are resized to it (bilinear, anti-aliased).
        align_corners: how the published code enlarges the scores.
    """

    def __init__(
        self, net: nn.Module, name: str, size: int = 512, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.net, self.name, self.size, self.align_corners = net, name, size, align_corners
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def part_map(self, images: Tensor) -> Tensor:
        """Most likely part int64 [N,H,W] of every pixel of images [N,3,H,W] in [-1, 1]."""
        x = (images.float().clamp(-1, 1) + 1) / 2
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        scores = self.net((x - self.mean) / self.std)
        return F.interpolate(
            scores, images.shape[-2:], mode="bilinear", align_corners=self.align_corners
        ).argmax(1)


_HEAD = "conv_out.conv_out.weight"
_MARKS = {
    "bisenet": "cp.resnet.conv1.weight",
    "encoder": "conv1.weight",
    "decoder": "conv_last.4.weight",
}


def read_parser(path: Path) -> Parser:
    """A segmenter from its published file, or from the folder with encoder and decoder.

    DclipError for anything else.
    """
    if path.is_dir():
        return _read_scenes(path)
    return _read_faces(path)


def _read_faces(path: Path) -> Parser:
    state = _state(path, "bisenet", "face-parsing BiSeNet")
    width, classes = len(state[_MARKS["bisenet"]]), FACE_PARTS
    if _HEAD in state:
        classes = len(state[_HEAD])
    with torch.device("meta"):
        net = BiSeNet(width, classes)
    _load(net, state, path)
    return Parser(net, "bisenet", align_corners=True).eval().requires_grad_(False)


def _read_scenes(path: Path) -> Parser:
    state: dict[str, Tensor] = {}
    for part in ("encoder", "decoder"):
        files = sorted(path.glob(f"{part}*.pth"))
        if not files:
            raise DclipError(
                f"{path} holds no {part}*.pth; "
                "give the folder with the published encoder and decoder"
            )
        for key, value in _state(files[0], part, f"ADE20K {part}").items():
            state[f"{part}.{key}"] = value
    width = len(state["encoder.conv1.weight"])
    classes = len(state["decoder.conv_last.4.weight"])
    with torch.device("meta"):
        net = SceneSegmenter(width, classes)
    _load(net, state, path)
    return Parser(net, "ade20k").eval().requires_grad_(False)


def _state(file: Path, part: str, what: str) -> Mapping[str, Tensor]:
    state = read_foreign(file)
    if _MARKS[part] not in state:
        raise DclipError(
            f"{file} is not the {what}: it has no {_MARKS[part]}; give the published file"
        )
    return as_float32(state)


def _load(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a network that was built without memory."""
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise DclipError(
            f"{path} does not fit the published network: {one_line(error)}; give the published file"
        ) from error
