"""The name of a run, and the hash of its configuration."""

from __future__ import annotations

import hashlib
import json

from dclip.config import Config, plain

NOT_IDENTITY = (
    "resume",
    "output",
    "logger",
    "note",
    "plan",
    "sweep",
)  # settings that do not change a run's result


def config_hash(cfg: Config) -> str:
    """Eight hex digits of all settings that can change the result."""
    settings = {k: v for k, v in plain(cfg).items() if k not in NOT_IDENTITY}
    if settings.get("plugins") is None:  # as it was before there were any
        settings.pop("plugins", None)
    settings["trainer"] = {k: v for k, v in settings["trainer"].items() if k != "progress"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def slug(text: str) -> str:
    """A text as part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")[:40] or "run"


def run_name(cfg: Config) -> str:
    """The folder's name: what was asked for, from the texts themselves."""
    if cfg.name:
        return slug(cfg.name)
    subject = cfg.edit.name or slug(cfg.edit.target)
    return slug(
        f"{cfg.task.name.value}_{subject}"
        if cfg.task.name.value in ("finetune", "edit", "translate")
        else cfg.task.name.value
    )
