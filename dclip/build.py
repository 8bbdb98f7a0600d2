"""From options to live objects: networks are built once here and passed on."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from tqdm import tqdm

from dclip import parallel
from dclip.config import Config, Ddpm, Guided, LatentOpt, Loss, Start, TaskName, ToonFaces, Variance
from dclip.diffusion.sampler import DDIM, DDPM, Solver
from dclip.metrics.suite import Scorers
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_model
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.models.judge import Judge
from dclip.models.unet import DiffusionModel

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


@dataclass
class Networks:
    """The networks of a run; None for what it does not need."""

    model: DiffusionModel
    clip: ClipModel | None
    heldout: ClipModel | None
    identity: IdentityModel | None
    judge: Judge | None

    def scorers(self) -> Scorers:
        """Those that measure."""
        return Scorers(self.clip, self.heldout, self.identity, self.judge)


def device_of(cfg: Config) -> torch.device:
    """The device that ``trainer.accelerator`` names."""
    name = cfg.trainer.accelerator
    if name in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", parallel.rank() % torch.cuda.device_count())
    if name in ("mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def build_networks(cfg: Config) -> Networks:
    """Load what this run needs, and only that: no identity network where neither loss nor metric asks for it."""
    toon = isinstance(cfg.dataset, ToonFaces)
    device = device_of(cfg)
    tuning = cfg.task.name is TaskName.finetune
    loss = cfg.loss if tuning else Loss(clip=1, l1=0, id=0)
    editing = cfg.task.name in (TaskName.finetune, TaskName.edit)
    sampling = cfg.task.name is TaskName.sample
    asked = sampling and (_pulled(cfg) or cfg.guidance.targets is not None)
    need_clip = (editing and (cfg.metric.clip or (tuning and loss.clip > 0))) or (asked and (cfg.metric.clip or _pulled(cfg)))
    from_noise = sampling and cfg.task.start is Start.noise
    pulled_id = sampling and isinstance(cfg.method, LatentOpt) and cfg.method.id > 0
    need_identity = toon and ((cfg.metric.identity and not from_noise) or loss.id > 0 or pulled_id)
    networks = Networks(
        model=load_model(cfg.checkpoint.name, cfg.checkpoint.head_dim, cfg.checkpoint.image_size),
        clip=load_clip(cfg.clip.name, cfg.clip.antialias) if need_clip else None,
        heldout=load_clip(cfg.clip.heldout) if (editing or asked) and cfg.metric.clip and cfg.clip.heldout else None,
        identity=load_identity() if need_identity else None,
        judge=load_judge() if toon and (cfg.metric.judge or cfg.metric.kid) else None,
    )
    for net in (networks.model, networks.clip, networks.heldout, networks.identity, networks.judge):
        if net is not None:
            net.to(device)
    return networks


def _pulled(cfg: Config) -> bool:
    """Whether a CLIP pulls at the samples."""
    return isinstance(cfg.guidance, Guided) or isinstance(cfg.method, LatentOpt)


def solver_of(cfg: Config, model: DiffusionModel) -> Solver:
    """The sampler's step rule."""
    if isinstance(cfg.sampler, Ddpm):
        told = cfg.sampler.variance
        return DDPM(model.info.variance if told is Variance.checkpoint else told.value, cfg.sampler.noise_last)
    return DDIM(cfg.sampler.eta)


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
            {k.removeprefix("loss_"): f"{float(v):.3f}" for k, v in trainer.progress_bar_metrics.items()}, refresh=False
        )
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, *_: Any) -> None:
        """Close it."""
        self.bar.close()


def progress_bar(what: str, total: int, initial: int = 0, shown: bool = True) -> Any:
    """A tqdm bar; where nobody watches (a log file), it prints a line now and then."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total, initial=initial, desc=what, disable=not shown, mininterval=0.1 if watched else 10, ncols=100, file=sys.stderr
    )


def shows_progress(cfg: Config) -> bool:
    """Whether this process draws bars."""
    return cfg.trainer.progress and parallel.rank() == 0


def make_trainer(cfg: Config, **options: Any) -> L.Trainer:
    """A Lightning trainer for the run's device."""
    device = device_of(cfg)
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
    }
    return L.Trainer(**{**settings, **options})
