"""Which networks a run needs, by name. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Config, Guided, ParserName, Start, TaskName, planned
from dclip.data.domains import networks_of
from dclip.methods.latent.options import LatentOpt
from dclip.models import registry


@dataclass(frozen=True)
class Networks:
    """Names (or paths) of the networks of a run; None for what it does not need."""

    model: str | None = None
    clip: str | None = None
    heldout: str | None = None
    identity: str | None = None
    judge: str | None = None
    parser: str | None = None
    guides: tuple[str, ...] = ()  # CLIPs that guide samples together


# ---------------------------------------------------------------------------------------------------- the rule


def domain_of(cfg: Config) -> str | None:
    """The domain of the images: as set, else as the registry knows of the checkpoint, else the data set's; None: unknown."""
    entry = registry.entry_of(cfg.checkpoint.name)
    if cfg.checkpoint.domain is not None:
        return cfg.checkpoint.domain.value
    if entry is not None and entry.domain is not None:
        return entry.domain
    return cfg.dataset.shows or None


def networks(cfg: Config) -> Networks:
    """Which networks a run needs, and only those: no identity network where neither loss nor metric asks for it."""
    cfg = planned(cfg)
    task, metric, domain = cfg.task.name, cfg.metric, domain_of(cfg)
    if task is TaskName.pretrain:
        return Networks()
    tuning = task is TaskName.finetune
    editing = (
        tuning
        or task in (TaskName.edit, TaskName.demo)
        or (task is TaskName.translate and bool(cfg.edit.adapters))
    )
    measuring = editing or task in (TaskName.reconstruct, TaskName.translate)
    if task is TaskName.sample:
        return _sampling(cfg, domain)
    judge = networks_of(domain).judge
    compares = measuring and (metric.identity or (tuning and cfg.loss.id > 0))
    return Networks(
        model=cfg.checkpoint.name,
        clip=_clip(cfg.clip.name)
        if editing and (metric.clip or (tuning and cfg.loss.clip + cfg.loss.shift > 0))
        else None,
        heldout=cfg.clip.heldout if editing and metric.clip else None,
        identity=_identity(domain) if compares else None,
        judge=judge if measuring and (metric.judge or metric.kid) else None,
        parser=_parser(metric.parser, domain) if measuring else None,
    )


def _sampling(cfg: Config, domain: str | None) -> Networks:
    """The networks of ``task=sample``: a CLIP only for prompts, and what measures an edit only where there are images."""
    guided, optimised = isinstance(cfg.guidance, Guided), isinstance(cfg.method, LatentOpt)
    pulled = guided or optimised
    edits = getattr(cfg.task, "start", Start.noise) is Start.images
    asked = pulled or cfg.guidance.targets is not None
    measured = cfg.metric.clip and asked
    clips = tuple(cfg.guidance.clips) if isinstance(cfg.guidance, Guided) else ()
    return Networks(
        model=cfg.checkpoint.name,
        clip=_clip(cfg.clip.name)
        if (optimised or measured or guided) and not (clips and not edits)
        else None,
        heldout=cfg.clip.heldout if measured else None,
        identity=_identity(domain)
        if (edits and cfg.metric.identity) or (optimised and cfg.method.id > 0)
        else None,
        judge=networks_of(domain).judge
        if (asked or edits) and (cfg.metric.judge or cfg.metric.kid)
        else None,
        parser=_parser(cfg.metric.parser, domain) if edits else None,
        guides=tuple(_clip(name) for name in clips),
    )


def _identity(domain: str | None) -> str | None:
    return networks_of(domain).identity


def _clip(name: str) -> str:
    return networks_of(name).clip or name


def _parser(told: ParserName, domain: str | None) -> str | None:
    if told is ParserName.auto:
        return networks_of(domain).parser
    return None if told is ParserName.none else told.value
