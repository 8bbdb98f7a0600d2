"""The networks of a run, built once and passed on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from dclip.config import Config, Speed, TaskName
from dclip.data.domains import domain_of
from dclip.models import needed
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_model, load_parser
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.models.judge import Judge
from dclip.models.lora import ending
from dclip.models.parser import Parser
from dclip.models.unet import DiffusionModel
from dclip.runtime.trainer import device_of

log = logging.getLogger("dclip")


@dataclass
class Networks:
    """The networks of a run; None for what it does not need."""

    model: DiffusionModel
    clip: ClipModel | None
    heldout: ClipModel | None
    identity: IdentityModel | None
    judge: Judge | None
    parser: Parser | None = None


def build_networks(cfg: Config) -> Networks:
    """Load what this run needs, and only that; the rule is ``dclip.models.needed.networks``."""
    names, device = needed.networks(cfg), device_of(cfg)
    model = load_model(cfg.checkpoint.name, cfg.checkpoint.head_dim, cfg.checkpoint.image_size)
    if cfg.task.name is TaskName.finetune:
        ending(
            model.unet, cfg.method.lora
        )  # refuses a block that is not there, before anything is inverted
    model.fast = cfg.trainer.speed is Speed.fast and device.type != "cpu"
    size = domain_of(cfg.dataset).size
    if size not in (None, model.image_size):  # somebody's own model and input=
        names = replace(names, identity=None, judge=None)
    if cfg.loss.id > 0 and cfg.task.name is TaskName.finetune and names.identity is None:
        log.warning(
            "loss.id=%g has no effect: there is no identity network for these images (checkpoint.domain=faces?)",
            cfg.loss.id,
        )
    networks = Networks(
        model=model,
        clip=load_clip(names.clip, cfg.clip.antialias) if names.clip else None,
        heldout=load_clip(names.heldout) if names.heldout else None,
        identity=load_identity(names.identity) if names.identity else None,
        judge=load_judge(names.judge) if names.judge else None,
        parser=load_parser(names.parser) if names.parser else None,
    )
    for net in vars(networks).values():
        if net is not None:
            net.to(device)
    return networks
