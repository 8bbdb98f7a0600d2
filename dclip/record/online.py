"""Weights & Biases: when and how it records."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dclip.config import Config, WandbMode, plain

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger("dclip")

Attempt = Literal["online", "offline"]


def wandb_mode(cfg: Config) -> WandbMode:
    """``logger.wandb``; with ``auto``, what ``WANDB_MODE`` says; else online if there is a key."""
    if cfg.logger.wandb is not WandbMode.auto:
        return cfg.logger.wandb
    variable = os.environ.get("WANDB_MODE", "")
    if variable in set(WandbMode) - {WandbMode.auto}:
        return WandbMode(variable)
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _netrc_has_wandb()
    return WandbMode.online if has_key and not cfg.offline else WandbMode.offline


def start_wandb(cfg: Config, folder: Path) -> Run | None:
    """A W&B run in its mode; None where W&B is off or does not start. Never a prompt or a crash."""
    mode = wandb_mode(cfg)
    if mode is WandbMode.disabled:
        return None
    attempts: list[Attempt] = ["offline"]
    if mode is WandbMode.online:
        attempts.insert(0, "online")
    for attempt in attempts:
        try:
            return _start(cfg, folder, attempt)
        except Exception as error:  # whatever W&B's trouble is, the run is worth more
            log.warning("W&B %s did not start (%s)", attempt, " ".join(str(error).split())[:120])
    return None


def _start(cfg: Config, folder: Path, mode: Attempt) -> Run:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb.init(
        project=cfg.logger.project,
        name=folder.name,
        dir=str(folder),
        config=plain(cfg),
        mode=mode,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=30),
        reinit="finish_previous",
    )


def _netrc_has_wandb() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError):
        return "api.wandb.ai" in path.read_text("utf-8", "ignore")
    return False
