"""``task=pretrain``: train one network, score it on the test split, write its weights and card."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL.Image import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dclip.config import Config, Net, PretrainTask
from dclip.data.cifar10 import Cifar10
from dclip.data.toonfaces import drawing
from dclip.errors import DclipError, one_line
from dclip.files import atomic_save, write_json, write_text
from dclip.models.checkpoints import locate
from dclip.models.registry import package_folder
from dclip.models.saved import read_weights, save_weights
from dclip.pretrain.cards import write_card
from dclip.pretrain.cifar10 import Cifar10Course
from dclip.pretrain.course import Course
from dclip.pretrain.toonfaces import ToonFacesCourse
from dclip.pretrain.training import Budget, Pretraining
from dclip.record.curves import CurveLogger
from dclip.record.machine import environment
from dclip.record.record import Record
from dclip.runtime.device import device_of
from dclip.runtime.progress import shows_progress
from dclip.runtime.trainer import FitProgress, make_trainer
from dclip.runtime.typed import typed

log = logging.getLogger("dclip")

OWN_SETTINGS = {
    Net.ddpm: ("noisy", "low", "min_snr"),
    Net.clip: ("robust", "attack_steps", "paint", "partial"),
    Net.heldout: ("robust", "attack_steps", "paint", "partial"),
    Net.judge: ("paint", "partial"),
}
"""Settings of one kind of network only."""


def train_network(cfg: Config, task: PretrainTask, record: Record) -> None:
    """Train, score, write; with ``task.publish`` into the package too. ``resume=true`` resumes."""
    course = course_of(cfg, task)
    torch.manual_seed(cfg.seed)
    module = course.build(task, Budget(task.steps, task.batch, task.lr, cfg.seed))
    if task.start is not None:
        try:
            module.net.load_state_dict(read_weights(locate(task.start)))
        except RuntimeError as error:
            raise DclipError(
                f"task.start={task.start} is not of the size that is trained: {one_line(error)}"
            ) from error
    module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with record.timing("adapt"):
        fit(cfg, record, task, module)
    write_network(cfg, record, task, course, module.result(), module.seconds)


def course_of(cfg: Config, task: PretrainTask) -> Course:
    """What is trained on."""
    if isinstance(cfg.dataset, Cifar10):
        return Cifar10Course(cfg, cfg.dataset, task.size)
    return ToonFacesCourse()


# ------------------------------------------------------------------------------------ training


class Steps(Dataset[int]):
    """The numbers of the steps: a training makes its own batches of them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> int:
        return step


def fit(cfg: Config, record: Record, task: PretrainTask, module: Pretraining) -> None:
    """Lightning's loop, with a checkpoint twenty times on the way."""
    folder = record.folder / "checkpoints"
    saver = ModelCheckpoint(
        folder,
        "step",
        save_last=True,
        every_n_train_steps=max(1, task.steps // 20),
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [saver]
    if shows_progress(cfg.trainer):
        callbacks.append(FitProgress(f"training {task.net.value}", task.steps))
    trainer = make_trainer(
        cfg.trainer,
        max_steps=task.steps,
        precision=cfg.trainer.precision.value,
        enable_checkpointing=True,
        gradient_clip_val=1.0,
        logger=CurveLogger(record),
        log_every_n_steps=20,
        callbacks=callbacks,
    )
    loader = DataLoader(Steps(task.steps), batch_size=None)
    last = folder / "last.ckpt"
    resumed = str(last) if last.is_file() else None
    trainer.fit(module, loader, ckpt_path=resumed, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not all(bool(torch.isfinite(p).all()) for p in module.net.parameters()):
        raise DclipError("the training diverged: its weights are not finite; lower task.lr")


# ------------------------------------------------------------------------------------- results


def write_network(
    cfg: Config, record: Record, task: PretrainTask, course: Course, net: nn.Module, seconds: float
) -> None:
    """Write the weights in half precision, score them as they are stored, write the card."""
    name = course.file_of(task.net)
    path = record.folder / f"{name}.safetensors"
    save_weights(path, net, course.header(task.net), torch.float16)
    scores, pictures = course.score(task.net, path, device_of(cfg.trainer))
    for stem, picture in pictures.items():
        record.picture(stem, picture)
    card = write_card(
        name,
        command_of(cfg, task, course),
        scores,
        seconds,
        environment(),
        sum(p.numel() for p in net.parameters()),
        list(pictures),
        course.subject(task),
    )
    write_text(record.folder / f"{name}.md", card)
    record.metrics({**scores, **record.seconds})
    if task.publish:
        publish(record, name, card, pictures)


def publish(record: Record, name: str, card: str, pictures: Mapping[str, Image]) -> None:
    """Put the weights, the card and its pictures into the package."""
    target, weights = package_folder(), record.folder / f"{name}.safetensors"
    atomic_save(target / weights.name, lambda path: path.write_bytes(weights.read_bytes()))
    write_text(target / f"{name}.md", card)
    for stem, picture in pictures.items():
        atomic_save(target / f"{stem}.png", picture.save)
    write_json(target / "toonfaces.json", drawing.manifest())
    log.info("published %s", target / weights.name)


def command_of(cfg: Config, task: PretrainTask, course: Course) -> str:
    """The command that makes these weights again: all settings that decide them."""
    settings: dict[str, object] = {
        "task.start": task.start,
        "task.steps": task.steps,
        "task.batch": task.batch,
        "task.lr": task.lr,
        **course.settings(task),
    }
    for name in OWN_SETTINGS.get(task.net, ()):
        settings[f"task.{name}"] = getattr(task, name)
    words = [f"experiment=pretrain_{course.name}_{task.net.value}"]
    for name, value in settings.items():
        if value is not None:
            words.append(f"{name}={value}")
    return typed([*words, f"seed={cfg.seed}"])
