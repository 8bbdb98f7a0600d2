"""U-Nets that begin alike hold their beginning once, and compute it once for the same input.

Edits whose updates are in the last blocks only (``method.lora.decoder_from``) begin as the original does: mixing M of them
exactly costs one beginning and M ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def stages(net: nn.Module) -> Iterator[str]:
    """Names of the parts of a diffusers U-Net in the order in which they are computed, the output layer left out."""
    yield from ("conv_in", "time_embedding")
    yield from (f"down_blocks.{i}" for i in range(len(net.get_submodule("down_blocks"))))  # type: ignore[arg-type]
    yield "mid_block"
    yield from (f"up_blocks.{i}" for i in range(len(net.get_submodule("up_blocks"))))  # type: ignore[arg-type]


def common_beginning(nets: Sequence[nn.Module]) -> list[str]:
    """The stages before the first in which the weights of the networks, which are of one architecture, differ."""
    found = []
    for name in stages(nets[0]):
        first, *others = (net.get_submodule(name).state_dict() for net in nets)
        if not all(torch.equal(value, other[key]) for other in others for key, value in first.items()):
            break
        found.append(name)
    return found


def share_beginning(nets: Sequence[nn.Module]) -> int:
    """Let the networks have the stages of their common beginning in common; returns how many these are.

    Only for networks that do not change any more: what a shared stage computed is known by its input alone. It keeps its last
    input and output.
    """
    names = common_beginning(nets)
    for name in names:
        stage = nets[0].get_submodule(name)
        stage.forward = Remembered(stage.forward)  # type: ignore[assignment]
        for net in nets[1:]:
            net.set_submodule(name, stage)
    return len(names)


class Remembered:
    """A function that gives its last answer again when it is asked the same. With gradients on it computes anew."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        self.compute = compute
        self._last: tuple[list[Any], Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to these arguments."""
        if torch.is_grad_enabled():
            return self.compute(*args, **kwargs)
        asked = [_stamped(leaf) for leaf in _leaves((args, sorted(kwargs.items())))]
        last = self._last
        if last is not None and len(last[0]) == len(asked) and all(map(_same, last[0], asked)):
            return last[1]
        made = self.compute(*args, **kwargs)
        self._last = asked, made
        return made


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _stamped(leaf: Any) -> Any:
    """A tensor with its count of changes in place, where torch keeps one."""
    return (leaf, None if leaf.is_inference() else leaf._version) if isinstance(leaf, Tensor) else leaf


def _same(a: Any, b: Any) -> bool:
    if not (isinstance(a, tuple) and isinstance(b, tuple)):
        return bool(a == b)
    if a[0] is b[0]:
        return bool(a[1] == b[1])
    alike = a[0].shape == b[0].shape and a[0].dtype == b[0].dtype and a[0].device == b[0].device
    return alike and torch.equal(a[0], b[0])
