"""Every option of dclip: one dataclass an option, one group a noun on the command line. Imports nothing heavy.

A dataclass refuses bad values in ``__post_init__``; what needs several options at once is refused by :func:`check`, before
any network is built. ``@option(group, name)`` stores the class in Hydra's ConfigStore, so that ``sampler=ddpm`` finds it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from dclip.config.dataset import Dataset
from dclip.config.edit import Edit, Mix
from dclip.config.guidance import Guidance
from dclip.config.loss import Loss
from dclip.config.metric import Metrics
from dclip.config.networks import Checkpoint, Clip
from dclip.config.options import STORE
from dclip.config.run import Logger, Trainer
from dclip.config.sampler import Sampler
from dclip.config.task import PlanTask, Task
from dclip.errors import DclipError as DclipError
from dclip.errors import need

# ---------------------------------------------------------------------------------------------------- the whole


@dataclass
class Config:
    """One run."""

    task: Task = MISSING
    dataset: Dataset = MISSING
    checkpoint: Checkpoint = MISSING
    clip: Clip = MISSING
    edit: Edit = MISSING
    method: Any = MISSING  # a MethodOption
    guidance: Guidance = MISSING
    sampler: Sampler = MISSING
    mix: Mix = field(default_factory=Mix)
    loss: Loss = MISSING
    metric: Metrics = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING
    name: str = ""  # of the run's folder; empty: task and edit
    seed: int = 0
    gamma: float = 1.0  # degree of change: 0 the original model, 1 the fine-tuned one
    degrees: list[float] = field(
        default_factory=lambda: [0.0, 0.5, 1.0, 1.5]
    )  # of the strip of degrees; [] for none
    variants: int = 1  # of every image, where sampling is stochastic
    input: str | None = (
        None  # an image or a folder of images: to edit, to translate, or to fine-tune on and edit
    )
    output: str = "outputs"  # where run folders are made
    resume: bool = False  # go on with the newest unfinished run of the same configuration
    offline: bool = False  # never reach out, not even for weights
    plugins: Any = None  # modules of your own, by name, that add options, metrics, solvers ...: a name or a list (docs/extend.md)
    plan: bool = False  # only say what the run would fetch, take and need
    sweep: str = ""  # the study or sweep that a run belongs to
    note: str = ""

    def __post_init__(self) -> None:
        need(
            math.isfinite(self.gamma) and 0 <= self.gamma <= 3,
            f"gamma={self.gamma} is out of range; choose 0 (original) to 3",
        )
        for gamma in self.degrees:
            need(
                math.isfinite(gamma) and 0 <= gamma <= 3,
                f"degrees={self.degrees}: {gamma} is out of range; choose 0 to 3",
            )
        need(
            len(self.degrees) <= 16,
            f"degrees has {len(self.degrees)} entries; a strip holds at most 16",
        )
        need(self.variants >= 1, f"variants={self.variants} must be 1 or more")
        need(self.seed >= 0, f"seed={self.seed} must be 0 or greater")


STORE.store(name="schema", node=Config, provider="dclip")


def plain(config: DictConfig | Config) -> dict[str, Any]:
    """The configuration as plain dicts, lists, numbers and strings."""
    node = config if isinstance(config, DictConfig) else OmegaConf.structured(config)
    result = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    assert isinstance(result, dict)
    return {str(k): v for k, v in result.items()}


def planned(cfg: Config) -> Config:
    """With ``task=plan``, the configuration of the run that is planned; any other as it is."""
    return (
        replace(cfg, task=Task(name=cfg.task.of), plan=True)
        if isinstance(cfg.task, PlanTask)
        else cfg
    )
