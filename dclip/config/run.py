"""Where and how a run computes and records: ``trainer`` and ``logger``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import _positive, _weights, option
from dclip.errors import need


class Precision(StrEnum):
    """Arithmetic of the diffusion model while fine-tuning."""

    fp32 = "32-true"
    bf16 = "bf16-mixed"


class Speed(StrEnum):
    """Arithmetic of the diffusion model where no gradient is needed: inversion, sampling, evaluation."""

    exact = "exact"
    fast = "fast"  # on a GPU in bfloat16: pixels move by less than 0.002 of 1 on average. A processor stays exact: it gains nothing


@option("trainer", "auto")
@dataclass
class Trainer:
    """Device, batch sizes and progress. ``batch`` is for everything that needs no gradient; it never changes a picture."""

    accelerator: str = "auto"
    devices: int = 1
    batch: int | None = (
        None  # images at a time; null: as many as half of the free memory holds, at most 16 on a CPU, 64 on a GPU
    )
    precision: Precision = Precision.fp32
    speed: Speed = Speed.exact
    progress: bool = True
    threads: int = 0  # CPU threads; 0 leaves torch's choice
    cache: bool = True  # keep latents of inverted images, and take those that are kept; false measures what inversion costs

    def __post_init__(self) -> None:
        _positive(
            "trainer", devices=self.devices, **({} if self.batch is None else {"batch": self.batch})
        )
        _weights("trainer", threads=self.threads)
        need(
            self.accelerator in ("auto", "cpu", "gpu", "cuda", "mps"),
            f"trainer.accelerator={self.accelerator} does not exist; choose auto, cpu, gpu, cuda or mps",
        )


@option("trainer", "cpu")
@dataclass
class CpuTrainer(Trainer):
    """The processor, whatever else is there."""

    accelerator: str = "cpu"


@option("trainer", "gpu")
@dataclass
class GpuTrainer(Trainer):
    """One GPU; an error where there is none."""

    accelerator: str = "gpu"


class WandbMode(StrEnum):
    """Where W&B keeps its records."""

    auto = "auto"  # online with a key, offline without
    online = "online"
    offline = "offline"
    disabled = "disabled"


@option("logger", "csv")
@dataclass
class Logger:
    """Files only: ``metrics.json`` and ``curves.csv`` are written by every run."""

    wandb: WandbMode = WandbMode.disabled
    project: str = "dclip"


@option("logger", "wandb")
@dataclass
class WandbLogger(Logger):
    """The same files, and Weights & Biases."""

    wandb: WandbMode = WandbMode.auto
