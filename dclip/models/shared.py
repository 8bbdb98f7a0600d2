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
        if not all(
            torch.equal(value, other[key]) for other in others for key, value in first.items()
        ):
            break
        found.append(name)
    return found


def share(nets: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Let the networks have these stages, a common beginning, in common.

    Only for networks that do not change any more: what a shared stage computed is known by its input alone. It keeps its last
    input and output.
    """
    for name in names:
        stage = nets[0].get_submodule(name)
        stage.forward = Remembered(stage.forward)  # type: ignore[assignment]
        for net in nets[1:]:
            net.set_submodule(name, stage)


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


def _version(x: Tensor) -> int | None:
    """How often a tensor was changed in place, where torch counts it."""
    return None if x.is_inference() else x._version


def _stamped(leaf: Any) -> Any:
    return (leaf, _version(leaf)) if isinstance(leaf, Tensor) else leaf


def _same(old: Any, new: Any) -> bool:
    if not (isinstance(old, tuple) and isinstance(new, tuple)):
        return bool(old == new)
    (a, version), (b, _) = old, new
    if _version(a) != version:  # it is not any more what was asked then
        return False
    return a is b or (
        a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    )
