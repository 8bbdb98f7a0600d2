"""The networks of a run, built once and passed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from dclip.config import Config, Speed
from dclip.data.domains import domain_of
from dclip.models.checkpoints import load_clip, load_hinted, load_identity, load_judge, load_parser
from dclip.models.clip import ClipModel
from dclip.models.compiled import check_compiler
from dclip.models.hints import hints_of
from dclip.models.identity import IdentityModel
from dclip.models.judge import Judge
from dclip.models.needed import NetworkNames
from dclip.models.parser import Parser
from dclip.models.unet import DiffusionModel
from dclip.runtime.device import device_of


@dataclass
class Networks:
    """The networks of a run; None for what it does not need."""

    model: DiffusionModel
    clip: ClipModel | None
    heldout: ClipModel | None
    identity: IdentityModel | None
    judge: Judge | None
    parser: Parser | None = None
    guides: tuple[ClipModel, ...] = ()  # that guide samples together, where there are several

    def built(self) -> Iterator[nn.Module]:
        """Every network that is there."""
        several = (self.model, self.clip, self.heldout, self.identity, self.judge, self.parser)
        for network in (*several, *self.guides):
            if network is not None:
                yield network


def speed_up(model: DiffusionModel, speed: Speed) -> None:
    """Let a model compute as ``trainer.speed`` says, where it is now."""
    model.fast = speed is not Speed.exact
    if speed is Speed.compiled and model.device.type != "cpu":
        check_compiler("trainer.speed=compiled")
        model.compile_blocks()


def build_networks(cfg: Config, names: NetworkNames) -> Networks:
    """Load the networks of these names; ``dclip.prepare.networks`` says which a run needs."""
    device = device_of(cfg.trainer)
    model = load_hinted(cfg.checkpoint.name, hints_of(cfg.checkpoint))
    model.check_schedule(cfg.sampler.grid)
    size = domain_of(cfg.dataset).size
    if size not in (None, model.image_size):  # somebody's own model and input=
        names = replace(names, identity=None, judge=None)
    networks = Networks(
        model=model,
        clip=load_clip(names.clip, cfg.clip.antialias, cfg.clip.arch) if names.clip else None,
        heldout=load_clip(names.heldout) if names.heldout else None,
        identity=load_identity(names.identity) if names.identity else None,
        judge=load_judge(names.judge) if names.judge else None,
        parser=load_parser(names.parser) if names.parser else None,
        guides=tuple(load_clip(name, cfg.clip.antialias) for name in names.guides),
    )
    for network in networks.built():
        network.to(device)
    speed_up(model, cfg.trainer.speed)
    return networks
