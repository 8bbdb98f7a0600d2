"""What networks are trained on, and what follows from it: how they are built, named and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from dclip.config import Net, PretrainTask
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDPM, sample
from dclip.diffusion.timesteps import pairs_down
from dclip.files import atomic_save
from dclip.models.clip import MERGES_FILE, small_tokenizer, write_merges
from dclip.models.registry import package_folder
from dclip.models.saved import model_header
from dclip.models.unet import DiffusionModel, ModelInfo
from dclip.pretrain.contrastive import Tokenizer
from dclip.pretrain.training import Budget, Pretraining
from dclip.record.pictures import sheet_picture
from dclip.types import batches

Scored = tuple[dict[str, float], dict[str, Image]]
"""Scores of a network, and pictures by name."""


@dataclass(frozen=True)
class Subject:
    """What a card says of the pictures: what was trained for, the data, the licence."""

    about: str
    data: str
    licence: str


class Course(ABC):
    """Pictures to train on.

    Attributes:
        name: in the names of experiments.
        model: what its noise predictor is called.
        configs: the architecture of every network that has one of its own.
    """

    name: str
    model: str
    configs: dict[Net, dict[str, Any]]

    @abstractmethod
    def file_of(self, net: Net) -> str:
        """What the weights file is called, without suffix."""

    @abstractmethod
    def build(self, task: PretrainTask, budget: Budget) -> Pretraining:
        """The training of a network."""

    @abstractmethod
    def score(self, net: Net, path: Path, device: torch.device) -> Scored:
        """How good the network in a weights file is on the test split, computed on a device."""

    @abstractmethod
    def subject(self, task: PretrainTask) -> Subject:
        """What the card says of the pictures."""

    @abstractmethod
    def settings(self, task: PretrainTask) -> dict[str, object]:
        """The settings of the pictures that decide the weights; None where one is left alone."""

    def header(self, net: Net) -> dict[str, Any]:
        """What the weights file says about itself."""
        if net is Net.ddpm:
            return model_header(ModelInfo(self.model, self.configs[net]))
        return {"kind": "clip", "config": self.configs[net]}


def tokenizer() -> Tokenizer:
    """The tokenizer of the small CLIPs; its merges are cut from open_clip's on first use."""
    merges = package_folder() / MERGES_FILE
    if not merges.is_file():
        atomic_save(merges, write_merges)
    found: Tokenizer = small_tokenizer(merges)
    return found


def samples_of(model: DiffusionModel) -> Image:
    """64 samples from noise, 16 a row."""
    ids = [f"sample_{i:05d}" for i in range(64)]
    samples = torch.cat([_sampled(model, ids[part]) for part in batches(64, 16)])
    return sheet_picture(samples.cpu(), 16)


def _sampled(model: DiffusionModel, ids: list[str]) -> Tensor:
    """Samples by 100 ancestral steps, the predicted x0 clamped."""
    size = model.image_size
    noise = ImageNoise(ids).like(torch.empty(len(ids), 3, size, size, device=model.device))
    steps = ImageNoise(ids, seed=1)
    return sample(
        model.predict,
        noise,
        pairs_down(999, 100),
        model.schedule,
        solver=DDPM(),
        noise=steps,
        clip_x0=True,
    )
