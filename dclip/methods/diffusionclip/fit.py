"""Running a fine-tuning: Lightning's trainer with checkpoints to resume from, curves, and pictures while it trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from dclip.config import Config
from dclip.data.domains import true_images, truth_of
from dclip.diffusion.schedule import pairs_down
from dclip.errors import DclipError
from dclip.methods.diffusionclip.module import DiffusionClipTuning, Objective
from dclip.metrics.functional import counterfactual_ratio
from dclip.models.lora import Lora
from dclip.models.networks import Networks
from dclip.record.curves import CurveLogger
from dclip.record.pictures import grid_picture
from dclip.record.record import Record
from dclip.runtime.trainer import FitProgress, device_of, make_trainer, shows_progress
from dclip.text.direction import direction_of
from dclip.types import Images

log = logging.getLogger("dclip")


def adapt(
    cfg: Config,
    record: Record,
    networks: Networks,
    images: Mapping[str, Images],
    latents: Mapping[str, Tensor],
) -> Lora | None:
    """Fine-tune ``networks.model`` in place. With ``resume=true`` it goes on from the last checkpoint.

    Returns the low-rank updates (``method.lora.rank``), which are merged into the model; None for full weights.
    """
    if networks.clip is None:
        raise DclipError(
            "loss.clip is 0 and metric.clip is off, so no CLIP guides the edit; set loss.clip above 0"
        )
    wanted = direction_of(cfg, images["train"])
    direction = wanted(networks.clip) if callable(wanted) else wanted

    def objective(part: Images) -> Objective:
        assert networks.clip is not None
        return Objective.prepare(cfg.loss, networks.clip, networks.identity, part, direction)

    seen = images["validation"]
    truth = true_images(seen, truth_of(cfg)) if len(seen) else None

    def show(epoch: int, edited: Tensor) -> dict[str, float]:
        rows = [("source", seen.pixels), (f"epoch {epoch + 1}", edited)]
        record.picture(f"epoch_{epoch + 1:02d}", grid_picture(rows, most=8))
        return (
            {}
            if truth is None
            else {"counterfactual_ratio": counterfactual_ratio(edited.cpu(), seen.pixels, truth)}
        )

    model = networks.model
    lora = Lora(model.unet, cfg.method.lora, cfg.seed) if cfg.method.lora.rank else None
    if lora is None:
        model.unet.requires_grad_(True)
    else:
        lora.attach(model.unet)
    validated = len(images["validation"]) > 0
    down = pairs_down(cfg.sampler.t0, cfg.method.s_train, cfg.sampler.final_step, cfg.sampler.grid)
    tuning = DiffusionClipTuning(
        model, objective(images["train"]), latents["train"], down, cfg.method, cfg.seed,
        (objective(images["validation"]), latents["validation"]) if validated else None, show, lora,
    )  # fmt: skip
    fit(cfg, record, tuning, validated)
    model.unet.requires_grad_(False)
    model.to(device_of(cfg))
    if lora is not None:
        lora.detach()
        lora.round().merge(model.unet)
    return lora


def fit(cfg: Config, record: Record, tuning: DiffusionClipTuning, validated: bool) -> None:
    """Lightning's loop around the tuning module."""
    folder = record.folder / "checkpoints"
    callbacks = checkpointing(folder, validated, cfg.method.save_every)
    if shows_progress(cfg):
        callbacks.append(
            FitProgress("fine-tuning", cfg.method.epochs * tuning.steps_per_epoch * tuning.updates)
        )
    trainer = make_trainer(
        cfg,
        max_epochs=cfg.method.epochs,
        precision=cfg.trainer.precision.value,
        enable_checkpointing=True,
        logger=CurveLogger(record),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
    )
    train: DataLoader[Any] = DataLoader(range(tuning.steps_per_epoch), batch_size=None)  # type: ignore[arg-type]
    validation: Any = DataLoader([0], batch_size=None) if validated else None  # type: ignore[arg-type]
    last = folder / "last.ckpt"
    if last.is_file():
        log.info("resuming from %s", last)
    trainer.fit(
        tuning,
        train,
        validation,
        ckpt_path=str(last) if last.is_file() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not all(bool(torch.isfinite(p).all()) for p in tuning.tuned.parameters()):
        raise DclipError(
            "the weights are not finite any more: the fine-tuning diverged; lower method.lr"
        )


def checkpointing(folder: Path, validated: bool, every: int) -> list[L.Callback]:
    """Save last.ckpt every few epochs, and best.ckpt by validation loss.

    Nothing is saved when a run is interrupted: in the middle of a step its state would not be one that an uninterrupted run
    ever has, and a resumed run could not end with the same weights.
    """
    last = ModelCheckpoint(
        folder,
        "last",
        every_n_epochs=every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(folder, "best", monitor="val_total", enable_version_counter=False)
    return [last, best] if validated else [last]
