"""One run in several processes: which one this is, and how shares become a whole again.

With one process, nothing happens.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def world() -> int:
    """Number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number. Only process 0 writes files."""
    return int(os.environ.get("RANK", "0"))


def begin(threads: int) -> None:
    """Set torch's CPU threads (0 leaves them), and meet the other processes."""
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    join()


def join() -> None:
    """Connect to the other processes (gloo on CPUs, nccl on GPUs), once."""
    if world() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def share(count: int) -> list[int]:
    """The positions, of ``count``, that this process works on."""
    return list(range(count))[rank() :: world()]


def gather(part: Tensor, count: int) -> Tensor:
    """Put every process's results [len(share), ...] back in order: [count, ...], on all of them."""
    if world() == 1:
        return part
    import torch

    whole = torch.empty((count, *part.shape[1:]), dtype=part.dtype)
    for index, piece in enumerate(all_gather_objects(part.cpu())):
        whole[index :: world()] = piece
    return whole.to(part.device)


def all_gather_objects(value: T) -> list[T]:
    """The value of every process, by rank; the same list on all of them."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    values = [value] * world()
    dist.all_gather_object(values, value)
    return values
