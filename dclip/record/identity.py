"""The name of a run, and the hash of its configuration."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dclip.config import Config, option_name, plain

# settings that do not change a run's result
NOT_IDENTITY = ("resume", "output", "logger", "note", "plan", "sweep")


@dataclass(frozen=True)
class Removed:
    """A setting that the schema no longer has, with the value that every older run had for it.

    Attributes:
        path: its dotted name.
        value: its default of the time.
        beside: it was there only in options that have this setting too; empty: in all.
    """

    path: str
    value: str | float | bool | list[str] | None
    beside: str = ""


# Hashes are taken as if these were still there, so that runs and studies of older versions are
# recognised. Whoever removes a setting adds it: Removed("method.k", 1, beside="method.epochs")
REMOVED: tuple[Removed, ...] = (
    # once every sampler had the settings of all
    Removed("sampler.eta", 0.0, beside="sampler.t0"),
    Removed("sampler.sweeps", 6, beside="sampler.t0"),
    Removed("sampler.tolerance", 3e-3, beside="sampler.t0"),
    Removed("sampler.damping", 1.0, beside="sampler.t0"),
    Removed("sampler.accelerate", True, beside="sampler.t0"),
    Removed("sampler.variance", "checkpoint", beside="sampler.t0"),
    Removed("sampler.noise_last", False, beside="sampler.t0"),
    # every objective those of all, and every loss a margin
    Removed("method.k", 1, beside="method.s_train"),
    Removed("method.faithful_id", False, beside="method.s_train"),
    Removed("method.drawn_t", False, beside="method.s_train"),
    Removed("loss.shift", 0.0, beside="loss.clip"),
    Removed("loss.margin", 0.3, beside="loss.clip"),
)

# Settings of later versions with the value that changes nothing: hashes are as they were before.
LATER: dict[str, object] = {
    "plugins": None,
    "metric.axioms": 0,
    "metric.region": None,
    "checkpoint.heads": None,
    "checkpoint.label": None,
    "checkpoint.prediction": None,
    "checkpoint.schedule": None,
    "checkpoint.timesteps": None,
    "method.shuffle": True,
    "method.clip": 1.0,
    "method.unit_gradients": True,
    "method.keep_best": True,
    "clip.arch": None,
    "paste_back": False,
    "edit.keep": None,
    "edit.region": None,
    "edit.region_low": 0.3,
    "edit.region_high": 0.5,
    "edit.region_feather": 1.0,
    "edit.region_follow": 0,
    "edit.region_gain": 1.0,
    "edit.region_colors": 0.0,
    "edit.region_palette": 0.0,
    "edit.region_tint": 0.0,
    "edit.region_refine": 0,
    "edit.region_prior": 0.0,
    "edit.region_share": 0.9,
    "task.paint": 0.0,
    "task.partial": 0.0,
    "task.attack_steps": 1,
    "task.size": "small",
    "task.colors": 0.0,
    "task.min_snr": 0.0,
    "edit.regions": None,
    "epoch": None,
    "edit.degree": None,
    "method.keep_epochs": None,
    "loss.keep": 0.0,
    "loss.contrast": 0.0,
    "loss.prior": 0.0,
    "edit.against": None,
    "mix.in_turn": False,
    "loss.outside": 0.0,
    "method.paired": False,
    "method.t_edit_distance": 0.33,
    "method.l1_by_texts": False,
    "sampler.carry": "none",
    "sampler.carry_weight": 1.0,
    "sampler.carry_noises": 1,
}

# Defaults of today that older runs were hashed with another value of: pictures only.
FORMER: dict[str, tuple[object, object]] = {
    "degrees": ([0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 0.5, 1.0, 1.5]),
}

# New name -> old name of settings that were moved, for the same purpose: {"task.mix": "mix"}
MOVED: dict[str, str] = {}


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as its hash sees it: the same for runs of this and of older versions."""
    result = copy.deepcopy(dict(settings))
    for new, old in MOVED.items():
        if has(result, new):
            _set(result, old, _pop(result, new))
    for setting in REMOVED:
        there = not setting.beside or has(result, setting.beside)
        if there and not has(result, setting.path):
            _set(result, setting.path, setting.value)
    for path, value in LATER.items():
        owner, last = _owner(result, path)
        if owner is not None and owner.get(last) == value:
            owner.pop(last, None)
    for path, (today, former) in FORMER.items():
        if has(result, path) and result[path] == today:
            _set(result, path, former)
    return result


def config_hash(cfg: Config) -> str:
    """Eight hex digits of all settings that can change the result."""
    settings = canonical(plain(cfg))
    for name in NOT_IDENTITY:
        settings.pop(name, None)
    settings["trainer"].pop("progress", None)
    settings["trainer"]["cache"], settings["offline"] = True, False
    # contrastive, spherical, ... have the same settings; older versions did not tell them apart
    guidance = option_name("guidance", cfg.guidance)
    if guidance not in ("none", "contrastive"):
        settings["guidance"]["kind"] = guidance
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _owner(settings: dict[str, Any], path: str) -> tuple[dict[str, Any] | None, str]:
    """The dictionary that holds a dotted name, and the name's last part; None if there is none."""
    *groups, last = path.split(".")
    node = settings
    for group in groups:
        child = node.get(group)
        if not isinstance(child, dict):
            return None, last
        node = child
    return node, last


def has(settings: dict[str, Any], path: str) -> bool:
    """Whether settings have one, by its dotted name."""
    owner, last = _owner(settings, path)
    return owner is not None and last in owner


def _set(settings: dict[str, Any], path: str, value: object) -> None:
    *groups, last = path.split(".")
    node = settings
    for group in groups:
        node = node.setdefault(group, {})
    node[last] = value


def _pop(settings: dict[str, Any], path: str) -> Any:
    owner, last = _owner(settings, path)
    assert owner is not None
    return owner.pop(last)


def slug(text: str) -> str:
    """A text as part of a file name."""
    letters = [c if c.isalnum() else "_" for c in text.lower()]
    return "".join(letters).strip("_")[:40] or "run"


def run_name(cfg: Config) -> str:
    """The name of the run's folder: ``name``, or the task and the edit."""
    if cfg.name:
        return slug(cfg.name)
    task = option_name("task", cfg.task)
    if not cfg.task.named_by_edit:
        return slug(task)
    return slug(f"{task}_{cfg.edit.name or slug(cfg.edit.target)}")
