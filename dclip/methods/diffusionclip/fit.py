"""Running a fine-tuning: Lightning's trainer with checkpoints to resume from, curves, and pictures while it trains."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dclip.data.domains import true_images, truth_of
from dclip.diffusion.sampler import Step, sample
from dclip.diffusion.timesteps import Pair, pairs_down
from dclip.edits.named import epoch_file
from dclip.edits.network import NetworkEdit, save_network
from dclip.edits.saved import edit_header
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.methods.contract import ImageCounts
from dclip.methods.diffusionclip.loss import EditLoss, edit_loss
from dclip.methods.diffusionclip.module import DiffusionClipTuning
from dclip.methods.diffusionclip.settings import LearningOptions, TuningOptions
from dclip.metrics.counterfactual import closer
from dclip.metrics.functional import counterfactual_ratio
from dclip.models.lora import LowRankUpdates
from dclip.models.sizes import size_of
from dclip.models.unet import DiffusionModel
from dclip.record.curves import CurveLogger
from dclip.record.pictures import grid_picture
from dclip.run import Run
from dclip.runtime.progress import shows_progress
from dclip.runtime.speed import speed
from dclip.runtime.trainer import FitProgress, make_trainer
from dclip.types import Images

log = logging.getLogger("dclip")


def adapt(run: Run, options: TuningOptions, starts: Mapping[str, Encoded]) -> NetworkEdit:
    """Fine-tune a copy of the model. With ``resume=true`` it goes on from the last checkpoint.

    Raises:
        DclipError: no CLIP was built, or the weights are not finite at the end.
    """
    tuned = copy.deepcopy(run.model)
    lora = None
    if options.lora.rank:
        lora = LowRankUpdates(tuned.unet, options.lora, run.cfg.seed)
        lora.attach(tuned.unet)
    else:
        tuned.unet.requires_grad_(True)
    learn(run, options, starts, tuned, lora, partial(save_network, tuned=tuned, lora=lora))
    tuned.unet.requires_grad_(False)
    tuned.to(run.device)
    if lora is not None:
        lora.detach()
        lora.round().merge(tuned.unet)
    return NetworkEdit(run.model, tuned, lora)


def learn(
    run: Run,
    options: LearningOptions,
    starts: Mapping[str, Encoded],
    tuned: DiffusionModel,
    change: nn.Module | None,
    write: Callable[[Path, Mapping[str, Any]], None],
) -> None:
    """Train ``change`` (None: all weights of ``tuned``) with the run's loss.

    Args:
        write: writes what was learned so far as an edit's file, with its header.

    Raises:
        DclipError: no CLIP was built, or the weights are not finite at the end.
    """
    train, validation = starts["train"], starts["validation"]
    loss = edit_loss(run, train.sources)
    validated = len(validation) > 0
    known = None
    if validated:
        known = (loss.of(validation.sources), validation.latents)
    sampler = run.cfg.sampler
    pairs = pairs_down(sampler.t0, options.s_train, sampler.final_step, sampler.grid)
    tuning = DiffusionClipTuning(
        tuned,
        loss,
        train.latents,
        pairs,
        options,
        run.cfg.seed,
        known,
        _epoch_pictures(run, validation),
        change,
        losses_of_steps(run.model, loss, train, pairs) if options.paired else (),
    )
    keeping = EpochEdits(run, options, write, small=change is not None)
    start = time.perf_counter()
    fit(run, options, tuning, validated, [keeping])
    if not run.cfg.resume:  # else some of it was learned before
        run.record.speed = _speed(run, options, starts, time.perf_counter() - start)


def _speed(
    run: Run, options: LearningOptions, starts: Mapping[str, Encoded], seconds: float
) -> dict[str, float]:
    """Images a second, and the share of the device that they took."""
    images = len(starts["train"])
    counts = ImageCounts(images, len(starts["validation"]), 0)
    calls = options.cost(run.cfg, counts).calls["fine-tune"]
    size = size_of(run.cfg)
    gflop = None if size is None else size.gflop
    return speed(options.epochs * images, calls, seconds, gflop, run.device)


class EpochEdits(L.Callback):
    """Keeps the edits of epochs, so that ``epoch=N`` can apply them: epochs/epoch_NN.safetensors.

    Args:
        small: whether an edit is little beside the network: then all are kept unless
            ``method.keep_epochs`` says how many.
    """

    def __init__(
        self,
        run: Run,
        options: LearningOptions,
        write: Callable[[Path, Mapping[str, Any]], None],
        small: bool,
    ) -> None:
        self.run, self.write = run, write
        self.most = options.keep_epochs
        if self.most is None:
            self.most = options.epochs if small else 0

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write the edit as it is, and remove the one that is one too many."""
        record, epoch = self.run.record, trainer.current_epoch + 1
        if not record.writes or not self.most:
            return
        header = {**edit_header(self.run), "epoch": epoch}
        self.write(epoch_file(record.folder, epoch), header)
        epoch_file(record.folder, epoch - self.most).unlink(missing_ok=True)


@torch.no_grad()
def losses_of_steps(
    model: DiffusionModel, loss: EditLoss, start: Encoded, pairs: Sequence[Pair]
) -> list[EditLoss]:
    """The loss, once a step: compared with the x0 that the original model predicts there.

    Early predictions are blurred; against the sharp sources, blur would count as a change.
    """
    predicted: list[Tensor] = []

    def note(step: Step) -> None:
        predicted.append(step.x0.clamp(-1, 1).float().cpu())

    latents = start.latents.to(model.device)
    sample(model.predict, latents, pairs, model.schedule, on_step=note)
    return [loss.of(Images(pixels, start.ids)) for pixels in predicted]


def _epoch_pictures(run: Run, validation: Encoded) -> Callable[[int, Tensor], dict[str, float]]:
    """Draws the validation images after every epoch, and says how near they are to the truth."""
    images = validation.sources
    truth = true_images(images, truth_of(run.cfg)) if len(images) else None

    def draw(epoch: int, edited: Tensor) -> dict[str, float]:
        rows = [("source", images.pixels), (f"epoch {epoch + 1}", edited)]
        sheet = grid_picture(rows, most=8)
        run.record.picture(f"epoch_{epoch + 1:02d}", sheet, slider="epoch")
        if truth is None:
            return {}
        pictures = edited.cpu(), images.pixels, truth
        nearer = float(closer(*pictures).nanmean())
        return {"counterfactual_ratio": counterfactual_ratio(*pictures), "closer": nearer}

    return draw


def fit(
    run: Run,
    options: LearningOptions,
    tuning: DiffusionClipTuning,
    validated: bool,
    more: Sequence[L.Callback] = (),
) -> None:
    """Lightning's loop around the tuning module; ``more`` callbacks come before the checkpoints.

    Lightning calls checkpoints last, whatever their place in the list.
    """
    settings = run.cfg.trainer
    folder = run.record.folder / "checkpoints"
    callbacks = [*checkpointing(folder, validated, options.save_every), *more]
    if shows_progress(settings):
        callbacks.append(
            FitProgress("fine-tuning", options.epochs * tuning.steps_per_epoch * tuning.updates)
        )
    trainer = make_trainer(
        settings,
        max_epochs=options.epochs,
        precision=settings.precision.value,
        enable_checkpointing=True,
        logger=CurveLogger(run.record),
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
