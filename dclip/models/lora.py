"""Low-rank updates of a network's layers (Hu et al. 2022): W + scale * up @ down, with scale = alpha / rank.

The network keeps its modules and keys: while attached, hooks add the update's output to each layer's; merged, the update is
part of the weights and costs nothing.

====================  ===================================  ==================================
layer                 ``down``                             ``up``
====================  ===================================  ==================================
Linear [o, i]         [r, i]                               [o, r]
Conv2d [o, i, k, k]   [r, i, k, k], stride of the layer    [o, r, 1, 1]
====================  ===================================  ==================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.config import Lora
from dclip.errors import DclipError


class LayerUpdate(nn.Module):
    """The update of one layer: zero until it is trained. A rank that is more than the layer's own is cut to it."""

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        out, *into = layer.weight.shape
        rank = min(rank, out, layer.weight[0].numel())
        down = (
            torch.empty(rank, *into).uniform_(-1, 1, generator=generator)
            / layer.weight[0].numel() ** 0.5
        )
        self.down = nn.Parameter(down.to(layer.weight.device))
        self.up = nn.Parameter(
            torch.zeros(out, rank, *[1] * (len(into) - 1), device=layer.weight.device)
        )
        self.scale = scale

    def forward(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the update adds to the layer's output for its input x."""
        if isinstance(layer, nn.Conv2d):
            low = F.conv2d(x, self.down, None, layer.stride, layer.padding, layer.dilation)
            return self.scale * F.conv2d(low, self.up)
        return self.scale * F.linear(F.linear(x, self.down), self.up)

    def delta(self) -> Tensor:
        """The same as a change of the layer's weight."""
        return self.scale * (self.up.flatten(1) @ self.down.flatten(1)).reshape(
            len(self.up), *self.down.shape[1:]
        )


def ending(net: nn.Module, options: Lora) -> tuple[str, ...]:
    """Beginnings of the names of the layers that ``decoder_from`` leaves. DclipError where the decoder has no such block."""
    if options.decoder_from is None:
        return ("",)
    blocks = len(net.get_submodule("up_blocks"))  # type: ignore[arg-type]
    if options.decoder_from >= blocks:
        raise DclipError(
            f"method.lora.decoder_from={options.decoder_from} is none of this network's decoder blocks; choose 0 to {blocks - 1}"
        )
    return ("conv_out", *(f"up_blocks.{i}." for i in range(options.decoder_from, blocks)))


def target_layers(net: nn.Module, options: Lora) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """The layers that get an update: attention's projections, convolutions, projections of the time embedding.

    DclipError for ``decoder_from`` beyond the network's last block.
    """
    end = ending(net, options)
    for name, layer in net.named_modules():
        if not name.startswith(end):
            continue
        if isinstance(layer, nn.Conv2d):
            wanted = options.conv and layer.groups == 1
        elif isinstance(layer, nn.Linear):
            wanted = options.attention if ".attentions." in name else options.time
        else:
            continue
        if wanted:
            yield name, layer


class LowRankUpdates(nn.Module):
    """Low-rank updates for a network. Its parameters are all that is trained, saved and shared.

    Args:
        net: the network; its weights are not touched before :meth:`merge`.
        options: rank, alpha, and which layers.
        seed: of the random ``down`` (``up`` starts at zero, so that the network starts as it was).
    """

    def __init__(self, net: nn.Module, options: Lora, seed: int = 0) -> None:
        super().__init__()
        scale = (options.alpha or options.rank) / options.rank
        generator = torch.Generator().manual_seed(seed)
        layers = {
            name: LayerUpdate(layer, options.rank, scale, generator)
            for name, layer in target_layers(net, options)
        }
        self.options, self.names = options, list(layers)
        self.updates = nn.ModuleDict({_key(name): update for name, update in layers.items()})
        self._hooks: list[Any] = []

    @classmethod
    def from_state(
        cls, net: nn.Module, options: Lora, state: Mapping[str, Tensor]
    ) -> LowRankUpdates:
        """Updates that were saved. RuntimeError if they belong to other layers."""
        lora = cls(net, options)
        lora.load_state_dict(state)
        return lora

    def _pairs(self, net: nn.Module) -> Iterator[tuple[nn.Module, LayerUpdate]]:
        for name in self.names:
            update = self.updates[_key(name)]
            assert isinstance(update, LayerUpdate)
            yield net.get_submodule(name), update

    def attach(self, net: nn.Module) -> None:
        """Let every layer of ``net`` add its update's output, with gradients to the updates only."""
        net.requires_grad_(False)
        for layer, update in self._pairs(net):
            hook = layer.register_forward_hook(
                lambda layer, args, out, update=update: out + update(layer, args[0])
            )
            self._hooks.append(hook)

    def detach(self) -> None:
        """Take the hooks away: ``net`` is as it was."""
        while self._hooks:
            self._hooks.pop().remove()

    @torch.no_grad()
    def round(self) -> LowRankUpdates:
        """Round the updates to what their float16 file holds, so that they are the same after saving."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half().float())
        return self

    @torch.no_grad()
    def merge(self, net: nn.Module, weight: float = 1.0) -> None:
        """Add ``weight`` times the updates to the weights of ``net``; several merged after each other stack."""
        for layer, update in self._pairs(net):
            target: Any = layer.weight
            target += weight * update.delta().to(target.device)


def _key(name: str) -> str:
    """Names of modules must not hold dots."""
    return name.replace(".", "/")
