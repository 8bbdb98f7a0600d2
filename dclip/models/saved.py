"""Our own weights: safetensors whose header says what they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dclip.files import atomic_save
from dclip.models.unet import ModelInfo


def save_weights(
    path: Path, net: nn.Module, header: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a network's weights with its header, whole or not at all."""
    from safetensors.torch import save_file

    def pack(value: Tensor) -> Tensor:
        return (
            value.detach()
            .cpu()
            .to(dtype if value.is_floating_point() else value.dtype)
            .contiguous()
        )

    state = {key: pack(value) for key, value in net.state_dict().items()}
    atomic_save(
        path,
        lambda p: save_file(state, str(p), metadata={"dclip": json.dumps(header, sort_keys=True)}),
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floating-point ones as float32."""
    from safetensors.torch import load_file

    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(path)).items()}


@lru_cache(maxsize=32)
def _digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


def model_header(info: ModelInfo) -> dict[str, Any]:
    """The header of a diffusion model's file."""
    return {"kind": "ddpm", **asdict(info)}
