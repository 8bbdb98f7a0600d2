"""Memory: what autograd keeps for the way back, counted exactly and on any device, and how many images fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import psutil
import torch
from torch import Tensor, nn

from dclip.models.sizes import MOST_IMAGES, WORKING, size_named
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet
from dclip.runtime.imports import lightly


@dataclass
class Saved:
    """Storages that autograd holds, each counted once; ``total`` is in bytes."""

    storages: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(self.storages.values())


@contextmanager
def saved_for_backward(weights: Iterable[Tensor] = ()) -> Iterator[Saved]:
    """Count what graphs that are built inside keep for backward, without the ``weights``, which are there anyway.

    The counts hold for graphs that stay alive: what a checkpoint recomputes later is not in them.
    """
    known = {
        w.untyped_storage()._cdata for w in weights
    }  # data_ptr() is 0 for all on the meta device
    saved = Saved()

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in known:
            saved.storages[storage._cdata] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield saved


def kept_mb(net: nn.Module) -> float:
    """MB that autograd keeps of one image's pass through a U-Net that is on the meta device."""
    size, channels = int(net.config.sample_size), int(net.config.in_channels)  # type: ignore[union-attr,arg-type]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        lightly(),  # where there are no numbers, torch asks the compiler to stay out
        saved_for_backward(net.parameters()) as saved,
    ):
        x = torch.zeros(1, channels, size, size, device="meta")
        _alive = net(x, torch.zeros(1, dtype=torch.int64, device="meta"), return_dict=False)
        return saved.total / 1e6


def kept_mb_of(info: ModelInfo) -> float:
    """MB that autograd keeps of one image's pass through a model of this shape."""
    return _kept_mb(json.dumps(info.unet))


@cache
def _kept_mb(unet: str) -> float:
    with torch.inference_mode(False), torch.device("meta"):
        net = build_unet(json.loads(unet))
    return kept_mb(net)


def free_mb(device: torch.device) -> float:
    """What is free now: on a GPU, with what torch holds and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + unused) / 1e6
    return float(psutil.virtual_memory().available) / 1e6


def _image_mb(model: DiffusionModel) -> float:
    """``kept_mb_of`` a model, known in advance for the registry's own networks."""
    known = size_named(model.info.name)
    if known is not None and known.parameters == sum(p.numel() for p in model.unet.parameters()):
        return known.kept_mb
    return kept_mb_of(model.info)


def fitting_batch(model: DiffusionModel, device: torch.device, gradient: bool = False) -> int:
    """Images at a time for which half of the free memory is enough, at least 1 and at most ``MOST_IMAGES``.

    ``gradient``: whether a call keeps what a backward pass needs.
    """
    image = _image_mb(model) * (1 if gradient else WORKING)
    most = MOST_IMAGES["cpu" if device.type == "cpu" else "gpu"]
    return max(1, min(most, int(free_mb(device) / 2 / image)))
