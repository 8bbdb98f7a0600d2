"""Our own weights: safetensors whose header says what they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dclip.files import atomic_save
from dclip.models.header import KEY
from dclip.models.unet import ModelInfo


def save_weights(
    path: Path, net: nn.Module, header: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a network's weights with its header, whole or not at all.

    ``dtype`` is that of the floating-point tensors; the others stay as they are.
    """
    state = {}
    for key, value in net.state_dict().items():
        packed = value.detach().cpu()
        if packed.is_floating_point():
            packed = packed.to(dtype)
        state[key] = packed.contiguous()
    metadata = {KEY: json.dumps(header, sort_keys=True)}
    atomic_save(path, lambda temporary: save_file(state, str(temporary), metadata=metadata))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floating-point ones as float32."""
    return as_float32(load_file(str(path)))


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict as float32, the others as they are."""
    converted = {}
    for key, value in state.items():
        converted[key] = value.float() if value.is_floating_point() else value
    return converted


@lru_cache(maxsize=32)
def _digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


def model_header(info: ModelInfo) -> dict[str, Any]:
    """The header of a diffusion model's file.

    What all models of earlier versions had is left out: files, and the hashes by which edits know
    their model, are as they were.
    """
    header = {"kind": "ddpm", **asdict(info)}
    if info.schedule.kind == "linear":
        del header["schedule"]["kind"]
    if info.prediction == "epsilon":
        del header["prediction"]
    return header
