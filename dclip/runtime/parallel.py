"""Several processes, one run: who am I, and how do shares become a whole again. With one process, nothing happens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def world() -> int:
    """Number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this one is; 0 writes."""
    return int(os.environ.get("RANK", "0"))


def join() -> None:
    """Meet the other processes (gloo on CPUs, nccl on GPUs), once."""
    if world() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def share(count: int) -> list[int]:
    """The positions that are this process's."""
    return list(range(count))[rank() :: world()]


def gather(part: Tensor, count: int) -> Tensor:
    """Put every process's results [len(share), ...] back in order: [count, ...], on all of them."""
    if world() == 1:
        return part
    import torch

    pieces = broadcast_objects(part.cpu())
    whole = torch.empty((count, *part.shape[1:]), dtype=part.dtype)
    for index, piece in enumerate(pieces):
        whole[index :: world()] = piece
    return whole.to(part.device)


def broadcast_objects(value: Any) -> Sequence[Any]:
    """Everyone's value, by rank."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    pieces: list[Any] = [None] * world()
    dist.all_gather_object(pieces, value)
    return pieces
