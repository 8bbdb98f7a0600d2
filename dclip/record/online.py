"""Weights & Biases: when and how it records."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dclip.config import Config, WandbMode, option_name, plain
from dclip.files import read_json

if TYPE_CHECKING:
    from PIL.Image import Image
    from wandb import Run

log = logging.getLogger("dclip")

LONGEST_TAG = 64  # characters that W&B takes

Attempt = Literal["online", "offline"]


def wandb_mode(cfg: Config) -> WandbMode:
    """``logger.wandb``; with ``auto``, what ``WANDB_MODE`` says; else online if there is a key.

    With ``offline=true`` it is never online.
    """
    mode = _wanted(cfg.logger.wandb)
    return WandbMode.offline if cfg.offline and mode is WandbMode.online else mode


def _wanted(mode: WandbMode) -> WandbMode:
    """A mode other than ``auto``."""
    if mode is not WandbMode.auto:
        return mode
    variable = os.environ.get("WANDB_MODE", "")
    if variable in set(WandbMode) - {WandbMode.auto}:
        return WandbMode(variable)
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _netrc_has_wandb()
    return WandbMode.online if has_key else WandbMode.offline


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
        entity=cfg.logger.entity,
        project=cfg.logger.project,
        id=run_id(folder),
        resume="allow",
        name=f"{folder.parent.name} {folder.name}",
        group=cfg.sweep or None,
        job_type=option_name("task", cfg.task),
        tags=tags_of(cfg),
        notes=cfg.note or None,
        dir=str(folder),
        config=plain(cfg),
        mode=mode,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=30),
        reinit="finish_previous",
    )


def run_id(folder: Path) -> str:
    """W&B's name of the run in this folder: the same after every resume."""
    kept = read_json(folder / "status.json").get("wandb")
    if isinstance(kept, dict) and kept.get("id"):
        return str(kept["id"])
    for earlier in sorted(folder.glob("wandb/*run-*"), reverse=True):
        match = re.search(r"run-\d{8}_\d{6}-([^-]+)", earlier.name)
        if match is not None:
            return match[1]
    return secrets.token_hex(4)


def tags_of(cfg: Config) -> list[str]:
    """By which a run is found again: edit, method, sampler, checkpoint, data set, and yours."""
    names = [
        cfg.edit.name if cfg.task.named_by_edit else "",
        option_name("method", cfg.method),
        option_name("sampler", cfg.sampler),
        Path(cfg.checkpoint.name).stem,
        option_name("dataset", cfg.dataset),
        cfg.variant,
        *cfg.logger.tags,
    ]
    return list(dict.fromkeys(name[:LONGEST_TAG] for name in names if name))


def card_of(run: Run) -> dict[str, Any]:
    """What a run's status.json says of its W&B run."""
    return {"id": run.id, "mode": "offline" if run.offline else "online", "url": run.url}


def send_picture(run: Run, slider: str, picture: Image, name: str) -> None:
    """Show a picture, among those of its slider."""
    import wandb

    run.log({f"samples/{slider}": wandb.Image(picture, caption=name)})


def send_rows(run: Run, table: Mapping[str, Sequence[float | str]]) -> None:
    """Show columns of equal length as a table."""
    import wandb

    lines = list(zip(*table.values(), strict=True))
    run.log({"rows": wandb.Table(columns=list(table), data=lines)})


def send_files(run: Run, folder: Path) -> None:
    """Give W&B the learned edit, as an artifact, and the report."""
    import wandb

    edit, report = folder / "adapter.safetensors", folder / "report.html"
    if edit.is_file():
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", folder.parent.name), "edit")
        artifact.add_file(str(edit), policy="immutable")
        run.log_artifact(artifact)
    if report.is_file():
        run.log({"report": wandb.Html(report.read_text("utf-8"), inject=False)})


def finish_wandb(run: Run, folder: Path, code: int) -> None:
    """End W&B's run with the exit code, and say where it is or how it is uploaded."""
    url, offline = run.url, run.offline
    with suppress(Exception):
        if code == 0:
            send_files(run, folder)
    with suppress(Exception):
        run.finish(exit_code=code)
    parts = sorted(map(str, folder.glob("wandb/offline-run-*")))
    if parts:
        log.info(
            "W&B recorded this offline; to upload it: %s", shlex.join(["wandb", "sync", *parts])
        )
    elif not offline and url:
        log.info("W&B: %s", url)


def _netrc_has_wandb() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError):
        return "api.wandb.ai" in path.read_text("utf-8", "ignore")
    return False
