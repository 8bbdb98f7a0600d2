"""The networks whose features LPIPS, KID and FID compare, from the weights registry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dclip.errors import DclipError
from dclip.metrics.functional import unit
from dclip.models import registry
from dclip.models.clip import ClipModel
from dclip.models.fetch import check_files
from dclip.models.foreign import read_foreign
from dclip.models.judge import Judge
from dclip.runtime.imports import lightly
from dclip.types import batches, to_uint8

INCEPTION = "inception"

TRUNKS: dict[str, tuple[Literal["alex", "squeeze"], str]] = {
    "alex": ("alex", "lpips_alexnet"),
    "squeeze": ("squeeze", "lpips_squeezenet"),
}
"""LPIPS' trunks: what torchmetrics calls them, and what the registry does."""


def apply(
    net: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor, size: int = 64
) -> Tensor:
    """A network's function of all images in batches, on its device; the result on the CPU."""
    device = next(net.parameters()).device
    found = []
    with torch.no_grad():
        for part in batches(len(images), size):
            found.append(function(images[part].to(device)).cpu())
    return torch.cat(found)


def missing(name: str) -> str | None:
    """Why a network cannot be used: its weights are not on disk. Nothing is fetched here."""
    entry = registry.find(name)
    if entry is None or registry.located(entry) is not None:
        return None
    return f"its weights are not on disk; run dclip weights fetch {name}"


@dataclass(frozen=True)
class Extractor:
    """A network and its features [N, D] of images in [-1, 1]; ``label`` names it in results."""

    net: nn.Module
    features: Callable[[Tensor], Tensor]
    label: str

    def __call__(self, images: Tensor, batch: int = 64) -> Tensor:
        """Features of all images, on the CPU."""
        return apply(self.net, self.features, images, batch)


class _Inception(nn.Module):
    """torch-fidelity's Inception with its 2,048 pooled features, for images in [-1, 1].

    Pictures are brought to 299 pixels as TensorFlow did it for FID, or with ``antialias``.
    """

    def __init__(self, weights: Path, antialias: bool) -> None:
        super().__init__()
        with lightly():
            from torchmetrics.image.fid import NoTrainInceptionV3

        self.net = NoTrainInceptionV3(
            "inception-v3-compat", ["2048"], str(weights), antialias=antialias
        )

    def forward(self, images: Tensor) -> Tensor:
        """[N,3,H,W] -> [N,2048]; takes 8-bit pixels, as FID and KID are defined."""
        features: Tensor = self.net(to_uint8(images))
        return features


def judge_features(judge: Judge) -> Extractor:
    """The 128 hidden features of ToonFaces' judge, of pictures as a file would hold them."""
    return Extractor(judge, lambda images: judge.features(unit(images) * 2 - 1), "judge")


def clip_features(clip: ClipModel) -> Extractor:
    """A CLIP's features, scaled so that KID's kernel is (1 + cosine)^3."""

    def features(images: Tensor) -> Tensor:
        unscaled: Tensor = clip.image_features(images)
        return unscaled * math.sqrt(unscaled.shape[-1])

    return Extractor(clip, features, f"held-out CLIP {clip.name}")


def inception_features(antialias: bool = False) -> Extractor | str:
    """Inception's features, as KID and FID are defined; or why there are none.

    ``antialias``: with torchmetrics' way to 299 pixels in place of torch-fidelity's.
    """
    weights = _checked(INCEPTION, "Inception weights are")
    if isinstance(weights, str):
        return weights
    try:
        read_foreign(weights)  # torch-fidelity would run whatever code is in the file
    except DclipError as error:
        return str(error)
    net = _Inception(weights, antialias)
    label = "inception-v3-compat"
    if antialias:
        label += ", anti-aliased"
    return Extractor(net, net, label)


def _checked(name: str, what: str) -> Path | str:
    """The published file of an entry; or why it cannot be used. Nothing is fetched here."""
    entry = registry.get(name)
    path = registry.located(entry)
    if path is None:
        return f"its {what} not on disk; run dclip weights fetch {name}"
    try:
        check_files(entry)
    except DclipError as error:
        return str(error)
    return path


def lpips_network(trunk: str) -> nn.Module | str:
    """LPIPS 0.1: pictures [N,3,H,W] in [-1, 1], twice -> distances [N,1,1,1]; or why there is none.

    Its heads are torchmetrics'.
    """
    net_type, entry = TRUNKS[trunk]
    weights = _checked(entry, f"{trunk} trunk is")
    if isinstance(weights, str):
        return weights
    with lightly():
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type).net
