"""Weights & Biases: when and how it records."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from dclip.config import Config, WandbMode, plain

log = logging.getLogger("dclip")


def wandb_mode(cfg: Config) -> WandbMode:
    """As told; else as ``WANDB_MODE`` says; else online with a key and offline without."""
    if cfg.logger.wandb is not WandbMode.auto:
        return cfg.logger.wandb
    told = os.environ.get("WANDB_MODE", "")
    if told in set(WandbMode) - {WandbMode.auto}:
        return WandbMode(told)
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _netrc_has_wandb()
    return WandbMode.online if has_key and not cfg.offline else WandbMode.offline


def _start_wandb(cfg: Config, folder: Path) -> Any:
    """A W&B run in its mode. Never a prompt, never a crash."""
    mode = wandb_mode(cfg)
    if mode is WandbMode.disabled:
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=30)
    for attempt in (mode.value, "offline"):
        try:
            return wandb.init(
                project=cfg.logger.project,
                name=folder.name,
                dir=str(folder),
                config=plain(cfg),
                mode=cast(Any, attempt),
                settings=settings,
                reinit="finish_previous",
            )
        except Exception as error:  # whatever W&B's trouble is, the run is worth more
            log.warning("W&B %s did not start (%s)", attempt, " ".join(str(error).split())[:120])
    return None


def _netrc_has_wandb() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError):
        return "api.wandb.ai" in path.read_text("utf-8", "ignore")
    return False
