"""Edits that are networks: a tuned copy of the model, as full weights or as low-rank updates."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dclip.config import Lora
from dclip.edits.edit import DenoiserEdit, Edit
from dclip.edits.saved import SavedEdit, foreign_weights
from dclip.models.lora import LowRankUpdates
from dclip.models.saved import read_weights, save_weights
from dclip.models.shared import common_beginning, share
from dclip.models.unet import DiffusionModel


class NetworkEdit(DenoiserEdit):
    """A tuned copy of the model. ``lora`` holds the change where it is low-rank (and merged into the copy)."""

    def __init__(
        self,
        original: DiffusionModel,
        tuned: DiffusionModel,
        lora: LowRankUpdates | None = None,
        reached: float = 1.0,
    ) -> None:
        tuned.eval().requires_grad_(False)
        super().__init__(original, tuned.predict, (tuned,), reached)
        self.network, self.lora = tuned, lora

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write the whole weights, or only their low-rank updates, rounded."""
        save_network(path, header, self.network, self.lora)

    @classmethod
    def load(cls, saved: SavedEdit, model: DiffusionModel) -> NetworkEdit:
        """The edit of a file on a copy of its base ``model``."""
        tuned = copy.deepcopy(model)
        if saved.header.get("kind_of_weights") == "lora":
            options = Lora(**saved.header["lora"])
            lora = LowRankUpdates.from_state(model.unet, options, read_weights(saved.path))
            lora.merge(tuned.unet)
            return cls(model, tuned, lora)
        weights = (
            foreign_weights(saved.path, model) if saved.is_foreign else read_weights(saved.path)
        )
        tuned.unet.load_state_dict(weights)
        return cls(model, tuned)

    @torch.no_grad()
    def add_to(self, merged: DiffusionModel, weight: float) -> None:
        """Add ``weight`` times this edit's change of the weights to those of ``merged``."""
        if self.lora is not None:
            self.lora.merge(merged.unet, weight)
            return
        start = self.original.unet.state_dict()
        weights = merged.unet.state_dict()
        for name, value in self.network.unet.state_dict().items():
            weights[name] += weight * (value - start[name])


def save_network(
    path: Path, header: Mapping[str, Any], tuned: DiffusionModel, lora: LowRankUpdates | None
) -> None:
    """Write the weights of a tuned network, or its low-rank updates in 16 bits, as an edit's file."""
    if lora is None:
        save_weights(path, tuned.unet, {**header, "kind_of_weights": "full"})
        return
    own = {"kind_of_weights": "lora", "lora": asdict(lora.options)}
    save_weights(path, lora, {**header, **own}, torch.float16)


def soup(
    model: DiffusionModel, edits: Sequence[Edit], weights: Sequence[float], reached: float
) -> NetworkEdit:
    """One network with the weighted sum of the edits' changes of the weights, full or low-rank."""
    merged = copy.deepcopy(model).eval().requires_grad_(False)
    for edit, weight in zip(edits, weights, strict=True):
        edit.add_to(merged, weight)
    return NetworkEdit(model, merged, reached=reached)


def share_beginning(model: DiffusionModel, edits: Sequence[Edit]) -> DiffusionModel:
    """Let network edits that begin as the model does compute that part once.

    Returns the original to use beside them: ``model``, or a copy of it that takes part.
    """
    networks = [edit for edit in edits if isinstance(edit, NetworkEdit)]
    alike = common_beginning([model.unet, *(edit.network.unet for edit in networks)])
    if not networks or not alike:
        return model
    original = copy.deepcopy(model)  # the caller's may change one day
    share([original.unet, *(edit.network.unet for edit in networks)], alike)
    for edit in networks:
        edit.original = original
    return original
