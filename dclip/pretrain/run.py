"""``task=pretrain``: train one network, score it on the test split, write its weights and its model card."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from dclip.config import Config, Net, PretrainTask
from dclip.data.cifar10 import Cifar10, classes
from dclip.data.load import load_images
from dclip.data.toonfaces import drawing, faces
from dclip.data.toonfaces.domain import LOOKS
from dclip.data.toonfaces.many import pictures_of
from dclip.errors import DclipError
from dclip.files import atomic_save, write_json
from dclip.models.checkpoints import locate
from dclip.models.clip import (
    CIFAR10_CLIP,
    CIFAR10_HELDOUT_CLIP,
    MERGES_FILE,
    TOONFACES_CLIP,
    TOONFACES_HELDOUT_CLIP,
    build_clip,
    small_tokenizer,
    write_merges,
)
from dclip.models.identity import TOONFACES_IDENTITY, IrSe
from dclip.models.judge import Judge
from dclip.models.registry import package_folder
from dclip.models.saved import model_header, read_weights, save_weights
from dclip.models.unet import CIFAR10_UNET, TOONFACES_UNET, ModelInfo, build_unet
from dclip.pretrain import cards
from dclip.pretrain.training import (
    Pretraining,
    TrainClassCLIP,
    TrainCLIP,
    TrainDDPM,
    TrainIdentity,
    TrainJudge,
)
from dclip.record.curves import CurveLogger
from dclip.record.machine import environment
from dclip.record.record import Record
from dclip.runtime.trainer import FitProgress, make_trainer, shows_progress
from dclip.types import to_uint8

log = logging.getLogger("dclip")


FILES = {  # of the package's own networks
    Net.ddpm: "toonfaces",
    Net.clip: "toonfaces_clip",
    Net.heldout: "toonfaces_heldout",
    Net.identity: "toonfaces_identity",
    Net.judge: "toonfaces_judge",
}


VARIANTS = 6  # pictures of one identity


DECIDED_BY = {
    Net.ddpm: ("noisy", "low"),
    Net.clip: ("robust",),
    Net.heldout: ("robust",),
}  # settings of one kind of network only


def name_of(cfg: Config) -> str:
    """What the weights file is called, without suffix."""
    task = cast(PretrainTask, cfg.task)
    return f"cifar10_{task.net.value}" if isinstance(cfg.dataset, Cifar10) else FILES[task.net]


def _tokenizer() -> Any:
    merges = package_folder() / MERGES_FILE
    if not merges.is_file():
        atomic_save(merges, write_merges)
    return small_tokenizer(merges)


def _ddpm(task: PretrainTask, options: dict[str, Any]) -> TrainDDPM:
    pool = torch.from_numpy(
        pictures_of([faces.sample_face("train", i, "in") for i in range(task.pool)])
    )
    return TrainDDPM(
        build_unet(TOONFACES_UNET), pool, task.compile, task.noisy, task.low, **options
    )


def _clip(config: dict[str, Any], task: PretrainTask, options: dict[str, Any]) -> TrainCLIP:
    return TrainCLIP(
        build_clip(config), _tokenizer(), pool=task.pool, robust=task.robust, **options
    )


def _identity(task: PretrainTask, options: dict[str, Any]) -> TrainIdentity:
    identities = max(2, task.pool // VARIANTS)
    return TrainIdentity(
        IrSe(TOONFACES_IDENTITY), identities, VARIANTS, TOONFACES_IDENTITY.embedding, **options
    )


BUILDERS: dict[Net, Callable[[PretrainTask, dict[str, Any]], Pretraining]] = {
    Net.ddpm: _ddpm,
    Net.clip: lambda task, options: _clip(TOONFACES_CLIP, task, options),
    Net.heldout: lambda task, options: _clip(TOONFACES_HELDOUT_CLIP, task, options),
    Net.identity: _identity,
    Net.judge: lambda task, options: TrainJudge(Judge(LOOKS), task.pool, task.pool // 6, **options),
}


def on_cifar10(cfg: Config, options: dict[str, Any]) -> Pretraining:
    """A training on CIFAR-10's training pictures."""
    task, config = (
        cast(PretrainTask, cfg.task),
        CONFIGS["cifar10"][cast(PretrainTask, cfg.task).net],
    )
    images = load_images(cfg, "train", CIFAR10_UNET["sample_size"])
    pool = to_uint8(images.pixels).permute(0, 2, 3, 1).contiguous()
    if task.net is Net.ddpm:
        return TrainDDPM(
            build_unet(config), pool, task.compile, task.noisy, task.low, flips=True, **options
        )
    truth, size = torch.tensor(classes(images.ids)), config["vision_cfg"]["image_size"]
    return TrainClassCLIP(
        build_clip(config), _tokenizer(), pool, truth, size, task.robust, **options
    )


CONFIGS = {
    "toonfaces": {
        Net.ddpm: TOONFACES_UNET,
        Net.clip: TOONFACES_CLIP,
        Net.heldout: TOONFACES_HELDOUT_CLIP,
    },
    "cifar10": {Net.ddpm: CIFAR10_UNET, Net.clip: CIFAR10_CLIP, Net.heldout: CIFAR10_HELDOUT_CLIP},
}


def header_of(net: Net, pictures: str = "toonfaces") -> dict[str, Any]:
    """What the weights file says about itself."""
    if net is Net.ddpm:
        return model_header(
            ModelInfo(
                "toonfaces" if pictures == "toonfaces" else f"{pictures}_ddpm",
                CONFIGS[pictures][net],
            )
        )
    if net in (Net.clip, Net.heldout):
        return {"kind": "clip", "config": CONFIGS[pictures][net]}
    if net is Net.identity:
        return {"kind": "identity", "config": asdict(TOONFACES_IDENTITY)}
    return {"kind": "judge", "config": {"width": 20}}


def train_network(cfg: Config, record: Record) -> None:
    """Train, score, write; with ``task.publish`` into the package too. Resumes with ``resume=true``."""
    task = cast(PretrainTask, cfg.task)
    torch.manual_seed(cfg.seed)
    options = {"steps": task.steps, "batch": task.batch, "lr": task.lr, "seed": cfg.seed}
    module = (
        on_cifar10(cfg, options)
        if isinstance(cfg.dataset, Cifar10)
        else BUILDERS[task.net](task, options)
    )
    if task.start is not None:
        module.net.load_state_dict(read_weights(locate(task.start)))
    module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = time.perf_counter()
    with record.timing("adapt"):
        fit(cfg, record, task, module)
    seconds = time.perf_counter() - start
    publish(cfg, record, task, module.result(), seconds)


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
    callbacks = (
        [saver, FitProgress(f"training {task.net.value}", task.steps)]
        if shows_progress(cfg.trainer)
        else [saver]
    )
    trainer = make_trainer(
        cfg.trainer, max_steps=task.steps, precision=cfg.trainer.precision.value, enable_checkpointing=True,
        gradient_clip_val=1.0, logger=CurveLogger(record), log_every_n_steps=20, callbacks=callbacks,
    )  # fmt: skip
    loader: DataLoader[Any] = DataLoader(range(task.steps), batch_size=None)  # type: ignore[arg-type]
    last = folder / "last.ckpt"
    trainer.fit(module, loader, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not all(bool(torch.isfinite(p).all()) for p in module.net.parameters()):
        raise DclipError(
            "the weights are not finite any more: the training diverged; lower task.lr"
        )


def publish(
    cfg: Config, record: Record, task: PretrainTask, net: nn.Module, seconds: float
) -> None:
    """Write the weights (half precision: they are stored small, and scored as stored) and the card."""
    name, photographs = name_of(cfg), isinstance(cfg.dataset, Cifar10)
    path = record.folder / f"{name}.safetensors"
    save_weights(
        path, net, header_of(task.net, "cifar10" if photographs else "toonfaces"), torch.float16
    )
    if photographs:
        tested = load_images(cfg, "test", CIFAR10_UNET["sample_size"])
        scores, pictures = cards.CIFAR10_SCORES[task.net.value](path, tested)
    else:
        scores, pictures = cards.SCORES[task.net.value](path)
    for stem, picture in pictures.items():
        record.picture(stem, picture)
    card = cards.write_card(
        name, command_of(cfg, task), scores, seconds, environment(), sum(p.numel() for p in net.parameters()), list(pictures),
        cards.on_cifar10(cfg.dataset, task.steps * task.batch) if isinstance(cfg.dataset, Cifar10) else cards.ON_TOONFACES,
    )  # fmt: skip
    (record.folder / f"{name}.md").write_text(card, "utf-8")
    record.metrics({**scores, **record.seconds})
    if task.publish:
        target = package_folder()
        atomic_save(target / path.name, lambda p: p.write_bytes(path.read_bytes()))
        (target / f"{name}.md").write_text(card, "utf-8")
        for stem, picture in pictures.items():
            picture.save(target / f"{stem}.png")
        write_json(target / "toonfaces.json", drawing.manifest())
        log.info("published %s", target / path.name)


def command_of(cfg: Config, task: PretrainTask) -> str:
    """The command that makes these weights again: all settings that decide them."""
    names = ("start", "steps", "batch", "lr", "pool", *DECIDED_BY.get(task.net, ()))
    words = {f"task.{name}": getattr(task, name) for name in names}
    pictures = "toonfaces"
    if isinstance(cfg.dataset, Cifar10):
        pictures = "cifar10"
        words |= {
            "task.pool": None,
            "dataset.train": cfg.dataset.train,
            "dataset.category": cfg.dataset.category,
        }
    told = " ".join(f"{name}={value}" for name, value in words.items() if value is not None)
    return f"python run.py experiment=pretrain_{pictures}_{task.net.value} {told} seed={cfg.seed}"
