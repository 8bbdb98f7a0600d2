"""A fine-tuned edit as one file: the weights, and in its header what they mean and which model they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dclip.config import Config, DclipError, FinalStep, Sampler, Solver, plain
from dclip.config import Lora as LoraOptions
from dclip.headers import read_edit_header
from dclip.models.checkpoints import model_header, read_weights, save_weights
from dclip.models.lora import Lora
from dclip.models.unet import DiffusionModel


@dataclass(frozen=True)
class SavedEdit:
    """An edit on disk. ``header`` holds texts, steps, base checkpoint and training time."""

    path: Path
    header: dict[str, Any]

    @property
    def sampler(self) -> Sampler:
        """The solver and steps that the edit was made with."""
        known = self.header["sampler"]
        return Sampler(**{**known, "solver": Solver(known.get("solver", "ddim")), "final_step": FinalStep(known["final_step"])})

    def check_base(self, model: DiffusionModel) -> None:
        """DclipError if the edit was made for another base."""
        if self.header["base_sha256"] != model.digest:
            raise DclipError(
                f"edit.adapter={self.path} was fine-tuned from {self.header['base']!r} (sha256 {self.header['base_sha256'][:12]}), "
                f"not from this checkpoint ({model.info.name!r}, {model.digest[:12]}); choose its own checkpoint="
            )

    def put_on(self, model: DiffusionModel) -> None:
        """Change the model's weights to the edit's. DclipError if it was made for another base."""
        self.check_base(model)
        if self.is_lora:
            self.lora(model).merge(model.unet)
        else:
            model.unet.load_state_dict(read_weights(self.path))

    @torch.no_grad()
    def add_to(self, merged: DiffusionModel, base: DiffusionModel, weight: float) -> None:
        """Add ``weight`` times the edit's change of ``base`` to the weights of ``merged``."""
        if self.is_lora:
            return self.lora(base).merge(merged.unet, weight)
        start, weights = base.unet.state_dict(), merged.unet.state_dict()
        for name, value in read_weights(self.path).items():
            weights[name] += weight * (value.to(weights[name].device) - start[name])
        return None

    @property
    def is_lora(self) -> bool:
        """Whether the file holds low-rank updates instead of the network's weights."""
        return self.header.get("kind_of_weights") == "lora"

    def lora(self, model: DiffusionModel) -> Lora:
        """The file's low-rank updates, for the layers of ``model``."""
        return Lora.from_state(model.unet, LoraOptions(**self.header["lora"]), read_weights(self.path))


def save_edit(
    path: Path,
    cfg: Config,
    model: DiffusionModel,
    seconds: float,
    lora: Lora | None = None,
    scores: Mapping[str, float | str] | None = None,
) -> None:
    """Write the fine-tuned weights, or only their low-rank updates (rounded), with everything needed to apply them again."""
    settings = plain(cfg)
    header = {
        "kind": "edit",
        "base": model.info.name,
        "base_sha256": model.digest,
        "model": {k: v for k, v in model_header(model.info).items() if k != "kind"},
        **{key: settings[key] for key in ("edit", "sampler", "method", "loss", "clip", "seed")},
        "kind_of_weights": "full" if lora is None else "lora",
        **({} if lora is None else {"lora": asdict(lora.options)}),
        "seconds_adapt": seconds,
        "scores": dict(scores or {}),
    }
    if lora is None:
        save_weights(path, model.unet, header)
    else:
        save_weights(path, lora, header, torch.float16)


def read_edit(name: str) -> SavedEdit:
    """An edit's file, or the one in a run's folder. DclipError if there is none."""
    return SavedEdit(*read_edit_header(name))
