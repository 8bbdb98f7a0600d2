"""A fine-tuned edit as one file: the weights, and in its header what they mean and which model they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

from dclip.config import Config, Sampler, plain
from dclip.config import Lora as LoraOptions
from dclip.edits.header import read_edit_header
from dclip.errors import DclipError
from dclip.models.header import read_header
from dclip.models.lora import Lora
from dclip.models.saved import model_header, read_weights, save_weights
from dclip.models.unet import DiffusionModel


@dataclass(frozen=True)
class SavedEdit:
    """An edit on disk. ``header`` holds texts, steps, base checkpoint and training time; of a foreign one, only steps."""

    path: Path
    header: dict[str, Any]

    @property
    def sampler(self) -> Sampler:
        """The solver and steps that the edit was made with."""
        made: Any = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(Sampler), self.header["sampler"])
        )
        return cast(Sampler, made)

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else published the file."""
        return bool(self.header["kind"] == "foreign edit")

    def check_base(self, model: DiffusionModel) -> None:
        """DclipError if the edit was made for another base. Of a foreign one only the architecture is known, when it is read."""
        if self.is_foreign:
            return
        if self.header["base_sha256"] != model.digest:
            raise DclipError(
                f"edit.adapter={self.path} was fine-tuned from {self.header['base']!r} (sha256 {self.header['base_sha256'][:12]}), "
                f"not from this checkpoint ({model.info.name!r}, {model.digest[:12]}); choose its own checkpoint="
            )

    def weights(self, model: DiffusionModel) -> dict[str, Tensor]:
        """Full weights, for the network of ``model``."""
        return _foreign_weights(self.path, model) if self.is_foreign else read_weights(self.path)

    def put_on(self, model: DiffusionModel) -> None:
        """Change the model's weights to the edit's. DclipError if it was made for another base."""
        self.check_base(model)
        if self.is_lora:
            self.lora(model).merge(model.unet)
        else:
            model.unet.load_state_dict(self.weights(model))

    @torch.no_grad()
    def add_to(self, merged: DiffusionModel, base: DiffusionModel, weight: float) -> None:
        """Add ``weight`` times the edit's change of ``base`` to the weights of ``merged``."""
        if self.is_lora:
            return self.lora(base).merge(merged.unet, weight)
        start, weights = base.unet.state_dict(), merged.unet.state_dict()
        for name, value in self.weights(base).items():
            weights[name] += weight * (value.to(weights[name].device) - start[name])
        return None

    @property
    def is_lora(self) -> bool:
        """Whether the file holds low-rank updates instead of the network's weights."""
        return self.header.get("kind_of_weights") == "lora"

    def lora(self, model: DiffusionModel) -> Lora:
        """The file's low-rank updates, for the layers of ``model``."""
        return Lora.from_state(
            model.unet, LoraOptions(**self.header["lora"]), read_weights(self.path)
        )


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


def _foreign_weights(path: Path, model: DiffusionModel) -> dict[str, Tensor]:
    """A published fine-tuned checkpoint as weights of the base's network: what keys do not tell is as in the base."""
    from dclip.models.convert import converted

    known = model.info.unet
    try:
        tuned = converted(
            path, head_dim=known.get("attention_head_dim") or 64, image_size=model.image_size
        )
    except DclipError as error:
        raise DclipError(f"edit.adapter={path}: {error}") from error
    found, plain_base = read_header(tuned)["unet"], json.loads(json.dumps(known))
    differs = [key for key in ("block_out_channels", "layers_per_block", "down_block_types", "out_channels")
               if found.get(key) != plain_base.get(key)]  # fmt: skip
    weights = read_weights(tuned)
    shapes = {key: value.shape for key, value in model.unet.state_dict().items()}
    if differs or shapes != {key: value.shape for key, value in weights.items()}:
        raise DclipError(
            f"edit.adapter={path} is of another architecture than checkpoint {model.info.name!r}"
            f"{f' ({differs[0]}: {found.get(differs[0])})' if differs else ''}; choose the checkpoint= that it was fine-tuned from"
        )
    return weights


def read_edit(name: str, t0: int | None = None) -> SavedEdit:
    """An edit's file, or the one in a run's folder. DclipError if there is none."""
    return SavedEdit(*read_edit_header(name, t0))
