"""Which networks a run needs, and only those. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import replace

from dclip.config import (
    Config,
    Guided,
    PretrainTask,
    ReconstructTask,
    SampleTask,
    TranslateTask,
    planned,
)
from dclip.edits.header import read_edit_header
from dclip.methods.contract import method_named, method_of
from dclip.models.needed import NetworkNames, clip_of, parser_of, shown_domain


def networks(cfg: Config) -> NetworkNames:
    """Names of the networks of a run: those of its method, and those that measure."""
    cfg = planned(cfg)
    if isinstance(cfg.task, PretrainTask):
        return NetworkNames()
    domain = shown_domain(cfg)
    roles = _sampling_roles(cfg) if isinstance(cfg.task, SampleTask) else _editing_roles(cfg)
    return NetworkNames(
        model=cfg.checkpoint.name,
        clip=clip_of(cfg.clip.name) if "clip" in roles else None,
        heldout=cfg.clip.heldout if "heldout" in roles else None,
        identity=domain.networks.identity if "identity" in roles else None,
        judge=domain.networks.judge if "judge" in roles else None,
        parser=parser_of(cfg.metric.parser, domain) if "parser" in roles else None,
        guides=tuple(clip_of(name) for name in guiding_clips(cfg)),
    )


def guiding_clips(cfg: Config) -> list[str]:
    """Several CLIPs that guide together; none where the one of ``clip.name`` does."""
    guided = isinstance(cfg.task, SampleTask) and isinstance(cfg.guidance, Guided)
    return list(cfg.guidance.clips) if guided and isinstance(cfg.guidance, Guided) else []


def edits_images(cfg: Config) -> bool:
    """Whether a run's result is an edit of images, and measured as one."""
    task = cfg.task
    if isinstance(task, TranslateTask):
        return bool(cfg.edit.adapters)
    return task.learns or task.applies


def _editing_roles(cfg: Config) -> set[str]:
    """Networks of runs that start from images and end with images."""
    metric = cfg.metric
    roles: set[str] = set()
    edits = edits_images(cfg)
    if cfg.task.learns:
        roles |= method_of(cfg).needs(cfg)
    if cfg.task.applies:
        roles |= _applied_roles(cfg)
    if edits and metric.clip:
        roles |= {"clip", "heldout"}
    if edits and cfg.edit.asks_clip:
        roles.add("clip")
    if edits or isinstance(cfg.task, ReconstructTask | TranslateTask):
        roles |= _measuring_roles(cfg)
    return roles


def _applied_roles(cfg: Config) -> set[str]:
    """Networks of edits whose files hold no weights: they are made when they are applied.

    Whether they look at identities, the loss that they were made with says.
    """
    roles: set[str] = set()
    for name in cfg.edit.adapters:
        header = read_edit_header(name, cfg.sampler.t0)[1]
        if header.get("kind_of_weights") == "none":
            loss = replace(cfg.loss, id=header["loss"]["id"])
            method = method_named(str(header["method_name"]))
            roles |= method.needs(replace(cfg, loss=loss))
    return roles


def _sampling_roles(cfg: Config) -> set[str]:
    """Networks of ``task=sample``: a CLIP only for prompts, the rest of an edit's only for images."""
    task = cfg.task
    from_images = isinstance(task, SampleTask) and task.from_images
    roles = set(method_of(cfg).needs(cfg))
    follows = bool(roles & {"clip", "guides"}) or cfg.guidance.targets is not None
    if cfg.metric.clip and follows:
        roles |= {"clip", "heldout"}
    if guiding_clips(cfg):  # they score, too
        roles.discard("clip")
        if from_images:
            roles.add("clip")
    if from_images:
        roles |= _measuring_roles(cfg)
    elif follows and (cfg.metric.judge or cfg.metric.kid):
        roles.add("judge")
    return roles


def _measuring_roles(cfg: Config) -> set[str]:
    """Networks that compare images with images."""
    roles = {"parser"}
    if cfg.metric.identity:
        roles.add("identity")
    if cfg.metric.judge or cfg.metric.kid:
        roles.add("judge")
    return roles
