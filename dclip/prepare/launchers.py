"""Where the jobs of a sweep (``-m``) run: Hydra's launcher plugins, with defaults of ours.

Imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from dclip.config import STORE, Config
from dclip.errors import DclipError


@dataclass(frozen=True)
class Plugin:
    """A launcher that is a package of its own.

    Attributes:
        extra: of dclip, which installs it.
        defaults: what we set otherwise than the package does.
    """

    extra: str
    defaults: dict[str, Any]


PLUGINS = {
    # jobs side by side in worker processes; each holds its own networks, and on a GPU they share
    # its memory
    "joblib": Plugin("joblib", {"n_jobs": 2}),
    # an array with a job for every run; a run that is preempted or out of time is queued again and
    # continues
    "submitit_slurm": Plugin(
        "slurm",
        {
            "gpus_per_node": 1,
            "cpus_per_task": 8,
            "mem_gb": 32,
            "timeout_min": 240,
            "max_num_timeout": 20,
            "array_parallelism": 64,
        },
    ),
    # the same on this machine, all jobs at once
    "submitit_local": Plugin("slurm", {"gpus_per_node": 0, "timeout_min": 1440}),
    # on one machine, or (ray.init.address=auto) on a running cluster, which takes no
    # object_store_memory; remote: of each job
    "ray": Plugin(
        "ray",
        {
            "ray": {
                "init": {
                    "address": None,
                    "num_cpus": None,
                    "object_store_memory": None,
                    "include_dashboard": False,
                },
                "remote": {"num_cpus": 2, "num_gpus": 0},
            }
        },
    ),
}


def installed(name: str) -> bool:
    """Whether a launcher's package is there."""
    Plugins.instance()  # looks for them, once
    return f"{name}.yaml" in STORE.list("hydra/launcher")


def register() -> None:
    """Put our defaults into the options that every installed launcher has stored."""
    for name, plugin in PLUGINS.items():
        if installed(name):
            own = STORE.load(f"hydra/launcher/{name}.yaml").node
            options = OmegaConf.merge(own, plugin.defaults)
            STORE.store(group="hydra/launcher", name=name, node=options, provider="dclip")


def chosen(words: Sequence[str]) -> str | None:
    """The launcher that a command line names. DclipError if its package is missing."""
    for word in words:
        setting, _, name = word.partition("=")
        if setting != "hydra/launcher":
            continue
        if name in PLUGINS and not installed(name):
            raise DclipError(
                f"hydra/launcher={name} is a plugin that is not installed: "
                f"pip install 'dclip[{PLUGINS[name].extra}]'"
            )
        return name
    return None


def check(name: str | None, cfgs: Sequence[Config]) -> None:
    """Refuse what a launcher cannot do, and hand on to its jobs where this code is."""
    if name not in PLUGINS:
        return
    for cfg in cfgs:
        if cfg.trainer.devices > 1:
            raise DclipError(
                f"trainer.devices={cfg.trainer.devices} starts processes of its own, "
                f"which hydra/launcher={name} cannot; "
                "set trainer.devices=1, or leave the launcher out"
            )
    show_path(Path(__file__).resolve().parent.parent.parent)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told


def show_path(folder: Path) -> None:
    """Let processes that this one starts find modules in a folder, before all others."""
    paths = [str(folder)]
    for path in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if path and path not in paths:
            paths.append(path)
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def was_stopped(cfg: Config) -> bool:
    """Whether this job of a sweep was begun before and stopped: preempted, out of time, or killed.

    Then it is resumed.
    """
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0:
        return True
    from dclip.record.identity import config_hash, run_name
    from dclip.record.runs import find_runs

    digest = config_hash(cfg)
    for run in find_runs([Path(cfg.output) / run_name(cfg)]):
        same = (run.digest, run.sweep) == (digest, cfg.sweep)
        if same and run.state in ("stopped", "killed"):
            return True
    return False
