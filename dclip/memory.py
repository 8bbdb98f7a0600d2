"""How much memory a gradient costs, counted exactly and on any device: what autograd keeps for the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


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
    known = {w.untyped_storage().data_ptr() for w in weights}
    saved = Saved()

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            saved.storages[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield saved
