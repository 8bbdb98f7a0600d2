"""``task=pretrain``: train one embedded network, score it on the test split, write its weights and its model card."""

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

from dclip.build import FitProgress, make_trainer, shows_progress
from dclip.config import Config, DclipError, Net, PretrainTask
from dclip.data import toonfaces
from dclip.data.pools import atomic_save
from dclip.methods.adapt import CurveLogger
from dclip.methods.pretrain import Pretraining, TrainCLIP, TrainDDPM, TrainIdentity, TrainJudge
from dclip.metrics import cards
from dclip.models.checkpoints import locate, model_header, read_weights, save_weights, weights_dir
from dclip.models.clip import TOONFACES_CLIP, TOONFACES_HELDOUT_CLIP, build_clip, small_tokenizer, write_merges
from dclip.models.identity import TOONFACES_IDENTITY, IrSe
from dclip.models.judge import Judge
from dclip.models.unet import TOONFACES_UNET, ModelInfo, build_unet
from dclip.tracking import Record, environment, write_json

log = logging.getLogger("dclip")
FILES = {
    Net.ddpm: "toonfaces",
    Net.clip: "toonfaces_clip",
    Net.heldout: "toonfaces_heldout",
    Net.identity: "toonfaces_identity",
    Net.judge: "toonfaces_judge",
}
VARIANTS = 6  # pictures of one identity


def _clip(config: dict[str, Any], task: PretrainTask, options: dict[str, Any]) -> TrainCLIP:
    merges = weights_dir() / "toonfaces_merges.txt.gz"
    if not merges.is_file():
        atomic_save(merges, write_merges)
    return TrainCLIP(build_clip(config), small_tokenizer(merges), pool=task.pool, robust=task.robust, **options)


def _identity(task: PretrainTask, options: dict[str, Any]) -> TrainIdentity:
    identities = max(2, task.pool // VARIANTS)
    return TrainIdentity(IrSe(TOONFACES_IDENTITY), identities, VARIANTS, TOONFACES_IDENTITY.embedding, **options)


BUILDERS: dict[Net, Callable[[PretrainTask, dict[str, Any]], Pretraining]] = {
    Net.ddpm: lambda task, options: TrainDDPM(build_unet(TOONFACES_UNET), task.pool, task.compile, task.low, **options),
    Net.clip: lambda task, options: _clip(TOONFACES_CLIP, task, options),
    Net.heldout: lambda task, options: _clip(TOONFACES_HELDOUT_CLIP, task, options),
    Net.identity: _identity,
    Net.judge: lambda task, options: TrainJudge(Judge(), task.pool, task.pool // 6, **options),
}


def header_of(net: Net) -> dict[str, Any]:
    """What the weights file says about itself."""
    if net is Net.ddpm:
        return model_header(ModelInfo("toonfaces", TOONFACES_UNET))
    if net in (Net.clip, Net.heldout):
        return {"kind": "clip", "config": TOONFACES_CLIP if net is Net.clip else TOONFACES_HELDOUT_CLIP}
    if net is Net.identity:
        return {"kind": "identity", "config": asdict(TOONFACES_IDENTITY)}
    return {"kind": "judge", "config": {"width": 20}}


def train_network(cfg: Config, record: Record) -> None:
    """Train, score, write; with ``task.publish`` into the package too. Resumes with ``resume=true``."""
    task = cast(PretrainTask, cfg.task)
    torch.manual_seed(cfg.seed)
    module = BUILDERS[task.net](task, {"steps": task.steps, "batch": task.batch, "lr": task.lr, "seed": cfg.seed})
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
        folder, "step", save_last=True, every_n_train_steps=max(1, task.steps // 20), enable_version_counter=False
    )
    callbacks = [saver, FitProgress(f"training {task.net.value}", task.steps)] if shows_progress(cfg) else [saver]
    trainer = make_trainer(
        cfg, max_steps=task.steps, precision=cfg.trainer.precision.value, enable_checkpointing=True,
        gradient_clip_val=1.0, logger=CurveLogger(record), log_every_n_steps=20, callbacks=callbacks,
    )  # fmt: skip
    loader: DataLoader[Any] = DataLoader(range(task.steps), batch_size=None)  # type: ignore[arg-type]
    last = folder / "last.ckpt"
    trainer.fit(module, loader, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not all(bool(torch.isfinite(p).all()) for p in module.net.parameters()):
        raise DclipError("the weights are not finite any more: the training diverged; lower task.lr")


def publish(cfg: Config, record: Record, task: PretrainTask, net: nn.Module, seconds: float) -> None:
    """Write the weights (half precision: they are stored small, and scored as stored) and the card."""
    name = FILES[task.net]
    path = record.folder / f"{name}.safetensors"
    save_weights(path, net, header_of(task.net), torch.float16)
    scores, pictures = cards.SCORES[task.net.value](path)
    for stem, picture in pictures.items():
        record.picture(stem, picture)
    card = cards.write_card(
        name, command_of(cfg, task), scores, seconds, environment(), sum(p.numel() for p in net.parameters()), list(pictures)
    )
    (record.folder / f"{name}.md").write_text(card, "utf-8")
    record.metrics({**scores, **record.seconds})
    if task.publish:
        target = weights_dir()
        atomic_save(target / path.name, lambda p: p.write_bytes(path.read_bytes()))
        (target / f"{name}.md").write_text(card, "utf-8")
        for stem, picture in pictures.items():
            picture.save(target / f"{stem}.png")
        write_json(target / "toonfaces.json", toonfaces.manifest())
        log.info("published %s", target / path.name)


def command_of(cfg: Config, task: PretrainTask) -> str:
    """The command that makes these weights again: all settings that decide them."""
    words = {name: getattr(task, name) for name in ("start", "steps", "batch", "lr", "pool", "low", "robust")}
    told = " ".join(f"task.{name}={value}" for name, value in words.items() if value)
    return f"python run.py experiment=pretrain_toonfaces_{task.net.value} {told} seed={cfg.seed}"
