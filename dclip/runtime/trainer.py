"""From options to live objects: networks are built once here and passed on."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from tqdm import tqdm

from dclip.config import Config
from dclip.files import atomic_save
from dclip.runtime import parallel

log = logging.getLogger("dclip")


logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


logging.getLogger("lightning.fabric").setLevel(logging.WARNING)


_NOISE = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*ckpt_path=.*",
    ".*in eval mode at the start of training.*",
    ".*will save all extracted features in buffer.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*mid-epoch.*",
    ".*no `val_dataloader`.*",
)


for message in _NOISE:
    warnings.filterwarnings("ignore", message=message)


def device_of(cfg: Config) -> torch.device:
    """The device that ``trainer.accelerator`` names."""
    name = cfg.trainer.accelerator
    if name in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", parallel.rank() % torch.cuda.device_count())
    if name in ("mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class FitProgress(L.Callback):
    """One bar for a whole training: what, how far, how long, and the loss."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.bar: Any = None

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Open the bar where training starts or goes on."""
        self.bar = progress_bar(self.what, self.total, trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Move it."""
        self.bar.set_postfix(
            {
                k.removeprefix("loss_"): f"{float(v):.3f}"
                for k, v in trainer.progress_bar_metrics.items()
            },
            refresh=False,
        )
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, *_: Any) -> None:
        """Close it."""
        self.bar.close()


def progress_bar(what: str, total: int, initial: int = 0, shown: bool = True) -> Any:
    """A tqdm bar; where nobody watches (a log file), it prints a line now and then."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=what,
        disable=not shown,
        mininterval=0.1 if watched else 10,
        ncols=100,
        file=sys.stderr,
    )


def shows_progress(cfg: Config) -> bool:
    """Whether this process draws bars."""
    return cfg.trainer.progress and parallel.rank() == 0


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there; Lightning's own are copied into place, and a full disk leaves half of one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write beside ``path``, then rename."""
        atomic_save(Path(path), lambda temporary: torch.save(checkpoint, temporary))


def make_trainer(cfg: Config, **options: Any) -> L.Trainer:
    """A Lightning trainer for the run's device. On SLURM who submitted the job puts it into the queue again, not Lightning."""
    device = device_of(cfg)
    on_slurm = parallel.world() == 1 and SLURMEnvironment.detect()
    slurm = [SLURMEnvironment(auto_requeue=False)] if on_slurm else []
    settings: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": parallel.world() if parallel.world() > 1 else 1,
        "strategy": "ddp" if parallel.world() > 1 else "auto",
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
        "inference_mode": True,
        "plugins": [WholeCheckpoints(), *slurm],
    }
    return L.Trainer(**{**settings, **options})
