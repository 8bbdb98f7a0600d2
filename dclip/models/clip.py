"""CLIP with its own preprocessing and tokenizer, differentiable down to the pixels."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.errors import DclipError, one_line
from dclip.models.foreign import read_foreign

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


@runtime_checkable
class CountsTokens(Protocol):
    """A tokenizer that says how long a text is before it cuts it off."""

    context_length: int

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without its start and its end."""
        ...


class ClipModel(nn.Module):
    """A frozen open_clip model with the mean, std, size and tokenizer that belong to its weights.

    Args:
        clip: an ``open_clip.CLIP``.
        tokenizer: texts -> int64 [N, context_length].
        mean, std: of the pixels in [0, 1], per channel.
        size: height and width of its input, in pixels.
        antialias: whether down-scaling is anti-aliased (published DiffusionCLIP: it was not).
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
    ) -> None:
        super().__init__()
        self.clip: Any = clip
        self.tokenizer, self.size, self.antialias, self.name = tokenizer, size, antialias, name
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] in [-1, 1] -> CLIP's input.

        The shorter side is scaled to ``size`` (bicubic), the centre cropped, the values normalised.
        As in OpenAI's preprocessing (torchvision's Resize and CenterCrop), the longer side is
        truncated to whole pixels, and the crop's offset is rounded, halves to even.
        """
        x = (images.float() + 1) / 2
        h, w = x.shape[-2:]
        if min(h, w) != self.size:
            new = self._scaled(h, w), self._scaled(w, h)
            x = F.interpolate(x, new, mode="bicubic", antialias=self.antialias, align_corners=False)
        top, left = self._offset(x.shape[-2]), self._offset(x.shape[-1])
        x = x[..., top : top + self.size, left : left + self.size]
        return (x - self.mean) / self.std

    def _scaled(self, side: int, other: int) -> int:
        """A side in pixels once the shorter of the two has ``size``."""
        return int(self.size * side / min(side, other))

    def _offset(self, side: int) -> int:
        """Where the middle square begins."""
        return round((side - self.size) / 2)

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
    """An open_clip CLIP from its configuration (random weights)."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    clip: nn.Module = CLIP(
        config["embed_dim"], vision, text, quick_gelu=config.get("quick_gelu", False)
    )
    return clip


def published_config(arch: str) -> dict[str, Any]:
    """open_clip's configuration of a published network, activation included.

    OpenAI's networks were trained with QuickGELU; their names end in ``-quickgelu``. The plain
    names load the same weights without a word, and compute something else.
    """
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        some = ", ".join(open_clip.list_models()[:5])
        raise DclipError(f"open_clip has no network {arch!r}; it has {some}, ...")
    return dict(config)


def read_open_clip(
    file: Path,
    config: dict[str, Any],
    name: str,
    antialias: bool,
    preprocess: Mapping[str, Any] | None = None,
) -> ClipModel:
    """A CLIP from the weights that open_clip publishes, with mean, std and size of its own."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.tokenizer import SimpleTokenizer

    state = read_foreign(file)
    clip = build_clip(config)
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        raise DclipError(
            f"{file} is not the CLIP {name}: {one_line(error)}; give the published file"
        ) from error
    own = preprocess or {}
    model = ClipModel(
        clip.eval().requires_grad_(False),
        SimpleTokenizer(context_length=config["text_cfg"]["context_length"]),
        own.get("mean", OPENAI_DATASET_MEAN),
        own.get("std", OPENAI_DATASET_STD),
        config["vision_cfg"]["image_size"],
        antialias,
        name,
    )
    return model.eval()


_FOLDER_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read_clip_folder(folder: Path, antialias: bool) -> ClipModel:
    """A CLIP in a folder as open_clip writes it for the Hugging Face hub.

    The weights lie beside their ``open_clip_config.json``.
    """
    try:
        described = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
        config = described["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DclipError(
            f"{folder} has no usable open_clip_config.json ({type(error).__name__}); "
            "give a folder of open_clip"
        ) from error
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            preprocess = described.get("preprocess_cfg")
            return read_open_clip(folder / name, config, folder.name, antialias, preprocess)
    raise DclipError(
        f"{folder} holds no {_FOLDER_FILES[0]}; put the weights beside their open_clip_config.json"
    )
