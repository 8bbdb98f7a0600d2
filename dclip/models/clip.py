"""CLIP with its own preprocessing and tokenizer, differentiable down to the pixels."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The small CLIPs of ToonFaces. 1,536 of OpenAI's byte-pair merges still encode any text.
MERGES = 1536
CONTEXT = 32
_TEXT = {"context_length": CONTEXT, "vocab_size": 512 + MERGES + 2, "width": 128, "heads": 4, "layers": 3}
TOONFACES_CLIP: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 2, 1], "width": 24, "image_size": 64, "head_width": 64},
    "text_cfg": _TEXT,
}
TOONFACES_HELDOUT_CLIP: dict[str, Any] = {  # another architecture (timm's DLA-46-C), so that it has other blind spots
    "embed_dim": 128,
    "vision_cfg": {"timm_model_name": "dla46_c", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
    "text_cfg": _TEXT,
}


class ClipModel(nn.Module):
    """An open_clip model, frozen, with the mean, std, size and tokenizer that belong to its weights.

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
        """Images [N,3,H,W] in [-1, 1] -> CLIP's input: shorter side to ``size`` (bicubic), centre crop, normalised."""
        x = (images.float() + 1) / 2
        h, w = x.shape[-2:]
        if min(h, w) != self.size:
            scale = self.size / min(h, w)
            new = (max(self.size, round(h * scale)), max(self.size, round(w * scale)))
            x = F.interpolate(x, new, mode="bicubic", antialias=self.antialias, align_corners=False)
        top, left = (x.shape[-2] - self.size) // 2, (x.shape[-1] - self.size) // 2
        x = x[..., top : top + self.size, left : left + self.size]
        return (x - self.mean) / self.std

    def image_features(self, images: Tensor) -> Tensor:
        """Unit features [N, D] of images [N,3,H,W] in [-1, 1]; gradients reach the pixels."""
        features: Tensor = self.clip.encode_image(self.preprocess(images))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features [N, D] of texts."""
        tokens = self.tokenizer(list(texts)).to(self.mean.device)
        return F.normalize(self.clip.encode_text(tokens).float(), dim=-1)

    @property
    def logit_scale(self) -> float:
        """The trained inverse temperature (about 100 for published CLIPs)."""
        return float(self.clip.logit_scale.exp())


def small_tokenizer(merges: Path) -> Any:
    """The tokenizer of the ToonFaces CLIPs: the first ``MERGES`` of the merge list that open_clip ships."""
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
    clip: nn.Module = CLIP(config["embed_dim"], vision, text)
    return clip
