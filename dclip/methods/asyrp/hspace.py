"""A change of h, the middle of the network, and the edit that it makes.

=======  ===========  ==========================================================================
symbol   code         meaning
=======  ===========  ==========================================================================
h        ``h``        output of the U-Net's middle block
dh       ``change``   what is learned: added to h
P        x0 of h+dh   the edited network's predicted clean image
D        ``eps``      the original network's noise: it points back to x_t
=======  ===========  ==========================================================================
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.diffusion.sampler import EpsFn, Prediction
from dclip.edits.edit import DenoiserEdit
from dclip.models.saved import save_weights
from dclip.models.unet import DiffusionModel


class HChange(nn.Module):
    """dh of h [N,C,H,W] and the embedded timestep [N,E]: [N,C,H,W] (Kwon et al. 2023, Fig. 3).

    Conv1x1 (SiLU (GroupNorm (Conv1x1(h) + Linear(t)))). Its last layer starts at zero, and so does
    the edit.
    """

    def __init__(self, channels: int, embedding: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Conv2d(channels, channels, 1)
            self.time = nn.Linear(embedding, channels)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """What is added to h."""
        mixed = self.enter(h) + self.time(F.silu(embedding))[:, :, None, None]
        changed: Tensor = self.leave(F.silu(self.norm(mixed)))
        return changed


def _groups(channels: int) -> int:
    """At most 32 groups, of 4 channels or more: alone in its group, a channel forgets the time."""
    for count in (32, 16, 8, 4, 2):
        if channels % count == 0 and channels // count >= 4:
            return count
    return 1


class ChangedBlock(nn.Module):
    """The network's own middle block, and dh added to what it gives."""

    def __init__(self, block: nn.Module, change: nn.Module) -> None:
        super().__init__()
        self.block, self.change = block, change

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """h + dh."""
        out: Tensor = self.block(h, embedding)
        shift: Tensor = self.change(out, embedding)
        return out + shift


class AsymmetricModel(DiffusionModel):
    """A model whose predicted x0 sees h + dh, and whose eps does not (Kwon et al. 2023, Eq. 6).

    It shares all weights with the original, and does not change it.

    Args:
        original: the model.
        change: dh.
        t_edit: below this timestep the original's step is made, as it is.
    """

    def __init__(self, original: DiffusionModel, change: nn.Module, t_edit: int = 0) -> None:
        super().__init__(_with_change(original.unet, change), original.info, original.digest)
        self.original, self.change, self.t_edit = original, change, t_edit
        self.fast, self.compiled = original.fast, original.compiled

    def predict(self, x: Tensor, t: Tensor) -> Prediction:
        """eps of the original, and the noise from which the edited x0 is predicted."""
        with torch.no_grad():
            plain = self.original.predict(x, t)
        if int(t[0]) < self.t_edit:
            return replace(plain, x0_eps=plain.eps)
        return replace(plain, x0_eps=super().predict(x, t).eps)


def _with_change(unet: nn.Module, change: nn.Module) -> nn.Module:
    """The same network, module for module, but for its middle block."""
    changed = copy.copy(unet)
    changed._modules = dict(unet._modules)
    changed.add_module("mid_block", ChangedBlock(unet.get_submodule("mid_block"), change))
    return changed


def change_for(model: DiffusionModel, seed: int = 0) -> HChange:
    """A change that does nothing yet, in the shape of the model's h."""
    channels = int(model.info.unet["block_out_channels"][-1])
    last = model.unet.get_submodule("time_embedding.linear_2")
    assert isinstance(last, nn.Linear)
    embedding = last.out_features
    return HChange(channels, embedding, seed).to(model.device)


class HSpaceEdit(DenoiserEdit):
    """A learned dh, applied by asymmetric steps."""

    change: nn.Module

    def __init__(self, original: DiffusionModel, change: HChange, t_edit: int) -> None:
        change.eval().requires_grad_(False)
        self.change, self.t_edit = change, t_edit
        self.measured = {"t_edit": t_edit} if t_edit else {}
        self.model = AsymmetricModel(original, change, t_edit)
        super().__init__(original, self.model.predict, (self.model,))

    def denoiser(self, gamma: float) -> EpsFn:
        """eps of the original, and x0 on the way from the original's to the edit's."""
        if gamma == self.reached:
            return self.tuned

        def eps_fn(x: Tensor, t: Tensor) -> Prediction:
            whole = self.tuned(x, t)
            x0_eps = whole.eps + gamma * (whole.noise_of_x0 - whole.eps)
            return replace(whole, x0_eps=x0_eps)

        return eps_fn

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "an edit of method=asyrp"

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write dh."""
        save_change(path, header, self.change, self.t_edit)


def save_change(path: Path, header: Mapping[str, Any], change: nn.Module, t_edit: int) -> None:
    """Write dh as an edit's file."""
    own = {"kind_of_weights": "h-space", "t_edit": t_edit}
    save_weights(path, change, {**header, **own})
