"""Where and how a run computes and records: ``trainer`` and ``logger``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dclip.config.options import check_not_negative, check_positive, option
from dclip.errors import choose, need

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


class Precision(StrEnum):
    """Arithmetic of the diffusion model while fine-tuning."""

    fp32 = "32-true"
    bf16 = "bf16-mixed"


class Speed(StrEnum):
    """How the diffusion model computes.

    ``fast`` is bfloat16 where no gradient is needed: pixels move by less than 0.002 of 1 on average.
    A CPU gains from it where it multiplies bfloat16 itself (avx512_bf16, amx), and loses elsewhere.
    ``compiled`` is the same, and on a GPU the network's residual blocks are compiled by torch, with
    and without gradient: the first batch of a size takes a minute longer, all others are faster.
    """

    exact = "exact"
    fast = "fast"
    compiled = "compiled"


@option("trainer", "auto")
@dataclass
class Trainer:
    """Device, batch sizes and progress.

    Attributes:
        batch: images at a time where no gradient is needed; it never changes a picture. null: as
            many as half of the free memory holds, at most 16 on a CPU, 64 on a GPU.
        precision: of trainings.
        speed: of the diffusion model in all that needs no gradient.
        threads: of the CPU; 0 leaves torch's choice.
        cache: keep latents of inverted images, and read those that were kept; false measures what
            inversion costs.
    """

    accelerator: str = "auto"
    devices: int = 1
    batch: int | None = None
    precision: Precision = Precision.fp32
    speed: Speed = Speed.exact
    progress: bool = True
    threads: int = 0
    cache: bool = True

    def __post_init__(self) -> None:
        check_positive("trainer", devices=self.devices)
        if self.batch is not None:
            check_positive("trainer", batch=self.batch)
        check_not_negative("trainer", threads=self.threads)
        need(
            self.accelerator in ACCELERATORS,
            f"trainer.accelerator={self.accelerator} does not exist"
            f"{choose(self.accelerator, ACCELERATORS)}",
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
    """Files only: ``metrics.json`` and ``curves.jsonl`` are written by every run.

    Attributes:
        project, entity: of W&B; null: its default entity.
        tags: of W&B, besides the edit, method, sampler, checkpoint and data set.
    """

    wandb: WandbMode = WandbMode.disabled
    project: str = "dclip"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@option("logger", "wandb")
@dataclass
class WandbLogger(Logger):
    """The same files, and Weights & Biases."""

    wandb: WandbMode = WandbMode.auto
