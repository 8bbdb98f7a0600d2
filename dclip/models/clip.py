"""CLIP with its own preprocessing and tokenizer, differentiable down to the pixels."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.errors import DclipError, one_line
from dclip.runtime.imports import lightly

# The small CLIPs of ToonFaces. 1,536 of OpenAI's byte-pair merges still encode any text.
MERGES = 1536
MERGES_FILE = "toonfaces_merges.txt.gz"  # in the package's folder of weights
CONTEXT = 32

_TEXT = {
    "context_length": CONTEXT,
    "vocab_size": 512 + MERGES + 2,
    "width": 128,
    "heads": 4,
    "layers": 3,
}

TOONFACES_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 2, 1], "width": 24, "image_size": 64, "head_width": 64},
    "text_cfg": _TEXT,
}

# Another architecture (timm's DLA-46-C), so that it has other blind spots.
TOONFACES_HELDOUT_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "dla46_c",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": _TEXT,
}

# Of 32x32 pictures, seen at twice their size: the first layers go down to a quarter.
CIFAR10_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 32, "image_size": 64, "head_width": 64},
    "text_cfg": _TEXT,
}

CIFAR10_HELDOUT_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "resnet10t",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": _TEXT,
}


# 7.7 M parameters; pictures are seen at three times their size.
CIFAR10_LARGE_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [2, 2, 2, 2], "width": 32, "image_size": 96, "head_width": 64},
    "text_cfg": _TEXT,
}

# 4.8 M parameters, timm's RegNetY-400MF; at four times their size.
CIFAR10_LARGE_HELDOUT_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "regnety_004",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 128,
    },
    "text_cfg": _TEXT,
}


@runtime_checkable
class CountsTokens(Protocol):
    """A tokenizer that says how long a text is before it cuts it off."""

    context_length: int

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without its start and its end."""
        ...


@dataclass(frozen=True)
class Resize:
    """How images of other sizes and shapes become a CLIP's input.

    Attributes:
        mode: ``shortest`` crops the middle square, ``squash`` scales each side by itself,
            ``longest`` keeps all and fills the edges.
        interpolation: ``bicubic`` or ``bilinear``.
        fill: value of the edges, 0 to 255.
    """

    mode: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0


SHORTEST = Resize()


class ClipModel(nn.Module):
    """A frozen open_clip model with the mean, std, size and tokenizer that belong to its weights.

    Args:
        clip: an ``open_clip.CLIP``.
        tokenizer: texts -> int64 [N, context_length].
        mean, std: of the pixels in [0, 1], per channel.
        size: height and width of its input, in pixels.
        antialias: whether down-scaling is anti-aliased (published DiffusionCLIP: it was not).
        resize: how other sizes become its input.
    """

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        size: int = 64,
        antialias: bool = True,
        name: str = "clip",
        resize: Resize = SHORTEST,
    ) -> None:
        super().__init__()
        self.clip: Any = clip
        self.resize = resize
        self.tokenizer, self.size, self.antialias, self.name = tokenizer, size, antialias, name
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] in [-1, 1] -> CLIP's input.

        The shorter side is scaled to ``size`` (bicubic), the centre cropped, the values normalised;
        a network of another ``resize`` scales all of the image, out of shape or with edges.
        As in OpenAI's preprocessing (torchvision's Resize and CenterCrop), the longer side is
        truncated to whole pixels, and the crop's offset is rounded, halves to even.
        """
        x = (images.float() + 1) / 2
        if self.resize.mode != "shortest":
            return (self._whole(x) - self.mean) / self.std
        h, w = x.shape[-2:]
        if min(h, w) != self.size:
            new = self._scaled(h, w), self._scaled(w, h)
            x = self._interpolated(x, new)
        top, left = self._offset(x.shape[-2]), self._offset(x.shape[-1])
        x = x[..., top : top + self.size, left : left + self.size]
        return (x - self.mean) / self.std

    def _scaled(self, side: int, other: int) -> int:
        """A side in pixels once the shorter of the two has ``size``."""
        return int(self.size * side / min(side, other))

    def _offset(self, side: int) -> int:
        """Where the middle square begins."""
        return round((side - self.size) / 2)

    def _interpolated(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        mode = self.resize.interpolation
        return F.interpolate(x, size, mode=mode, antialias=self.antialias, align_corners=False)

    def _whole(self, x: Tensor) -> Tensor:
        """All of the images [N,3,H,W] as [N,3,size,size]: squashed, or with edges."""
        h, w = x.shape[-2:]
        new = (self.size, self.size)
        if self.resize.mode == "longest":
            new = (round(self.size * h / max(h, w)), round(self.size * w / max(h, w)))
        if new != (h, w):
            x = self._interpolated(x, new)
        above, left = (self.size - new[0]) // 2, (self.size - new[1]) // 2
        below, right = self.size - new[0] - above, self.size - new[1] - left
        return F.pad(x, (left, right, above, below), value=self.resize.fill / 255)

    def image_features(self, images: Tensor) -> Tensor:
        """Unit features [N, D] of images [N,3,H,W] in [-1, 1]; gradients reach the pixels."""
        features: Tensor = self.clip.encode_image(self.preprocess(images))
        return F.normalize(features.float(), dim=-1)

    def check_lengths(self, texts: Sequence[str], what: str = "a text") -> None:
        """DclipError for a text longer than the context, which would be cut off without a word.

        ``what`` is the setting that holds them.
        """
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, CountsTokens):
            return
        for text in texts:
            used = len(tokenizer.encode(text)) + 2  # start and end of text
            if used > tokenizer.context_length:
                raise DclipError(
                    f"{what} is too long for the CLIP {self.name!r}: {used} tokens, it reads "
                    f"{tokenizer.context_length} ({text[:60]!r}...); shorten it"
                )

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features [N, D] of texts. DclipError for one that is longer than the context."""
        self.check_lengths(texts)
        tokens = self.tokenizer(list(texts)).to(self.mean.device)
        return F.normalize(self.clip.encode_text(tokens).float(), dim=-1)

    @property
    def logit_scale(self) -> float:
        """The trained inverse temperature (about 100 for published CLIPs)."""
        return float(self.clip.logit_scale.exp())


def small_tokenizer(merges: Path) -> Any:
    """The tokenizer of the ToonFaces CLIPs: the first ``MERGES`` of open_clip's merge list."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT)


def write_merges(path: Path, merges: int = MERGES) -> None:
    """Cut open_clip's merge list (MIT, OpenAI) to its first ``merges`` lines."""
    from open_clip.tokenizer import default_bpe

    with gzip.open(default_bpe()) as stream:
        lines = stream.read().decode("utf-8").split("\n")[: 1 + merges]
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8"), mtime=0))


def build_clip(config: dict[str, Any]) -> nn.Module:
    """An open_clip CLIP from its configuration (random weights), SigLIP's own text tower included.

    Raises:
        DclipError: for CoCa, for text towers of transformers, and for settings that open_clip does
            not know.
    """
    with lightly():
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if text.get("hf_model_name") is not None:
        raise DclipError(
            f"this CLIP reads texts with {text['hf_model_name']} of transformers, which dclip does "
            "not load; give a CLIP with a text tower of open_clip"
        )
    if "multimodal_cfg" in config:
        raise DclipError("this is a CoCa, which also writes captions; give a plain CLIP")
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # all weights come from the file
    more = {}
    for key in ("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"):
        if key in config:
            more[key] = config[key]
    kind = CLIP
    if config.get("custom_text"):
        kind = CustomTextCLIP
    try:
        clip: nn.Module = kind(
            config["embed_dim"],
            CLIPVisionCfg(**vision),
            CLIPTextCfg(**text),
            quick_gelu=config.get("quick_gelu", False),
            **more,
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise DclipError(f"open_clip cannot build this CLIP ({one_line(error)})") from error
    return clip
