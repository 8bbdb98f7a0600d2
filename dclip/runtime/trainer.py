"""Lightning's trainer. Its import takes seconds, so only modules that train import this one."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dclip.config import Trainer
from dclip.files import atomic_save
from dclip.runtime import parallel
from dclip.runtime.device import device_of
from dclip.runtime.progress import progress_bar
from dclip.runtime.quiet import quiet

log = logging.getLogger("dclip")

# ------------------------------------------------------------------------------------- progress


class FitProgress(L.Callback):
    """One bar for a whole training: steps done, time left, and the losses."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.bar = progress_bar(what, total, shown=False)
        self.read = 0.0

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Show the bar, at the step where training starts or resumes."""
        self.bar = progress_bar(self.what, self.total, trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Advance to the trainer's step; twice a second, show its losses."""
        self.bar.update(trainer.global_step - self.bar.n)
        if time.monotonic() - self.read < 0.5:  # reading a loss waits for the device
            return
        self.read = time.monotonic()
        losses = {}
        for name, value in trainer.progress_bar_metrics.items():
            losses[name.removeprefix("loss_")] = f"{float(value):.3f}"
        self.bar.set_postfix(losses, refresh=False)

    def on_train_end(self, *_: Any) -> None:
        """Leave the finished bar on the screen."""
        self.bar.close()


class EpochLog(L.Callback):
    """The losses of every epoch as a line of run.log; the console has the bar."""

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Log what the epoch, and its validation, measured last."""
        losses = []
        for name, value in trainer.callback_metrics.items():
            losses.append(f"{name} {float(value):.4g}")
        epoch = trainer.current_epoch + 1
        log.debug("epoch %d of %s: %s", epoch, trainer.max_epochs, ", ".join(losses))


# -------------------------------------------------------------------------------------- trainer


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there; Lightning's own leave half of one on a full disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write beside ``path``, then rename."""
        atomic_save(Path(path), lambda temporary: torch.save(checkpoint, temporary))


class QuietTrainer(L.Trainer):
    """Lightning's trainer without hints that mean nothing for our runs."""

    def fit(self, *args: Any, **options: Any) -> None:
        """As Lightning's."""
        with quiet():
            super().fit(*args, **options)


def make_trainer(trainer: Trainer, **options: Any) -> L.Trainer:
    """A trainer for the run's device.

    On SLURM, Lightning does not requeue jobs: that is up to whoever submitted them.
    """
    device = device_of(trainer)
    processes = parallel.world()
    plugins: list[Any] = [WholeCheckpoints()]
    if processes == 1 and SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    settings: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": processes,
        "strategy": "ddp" if processes > 1 else "auto",
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
        "plugins": plugins,
    }
    callbacks = [EpochLog(), *options.pop("callbacks", [])]
    with quiet():
        return QuietTrainer(callbacks=callbacks, **{**settings, **options})
