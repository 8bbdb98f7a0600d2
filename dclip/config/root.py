"""One run's configuration: every group, and the settings that belong to none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from dclip.config.dataset import Dataset
from dclip.config.edit import Edit, Mix
from dclip.config.guidance import Guidance
from dclip.config.loss import Loss
from dclip.config.method import MethodOption
from dclip.config.metric import Metrics
from dclip.config.networks import Checkpoint, Clip
from dclip.config.options import OPTIONS, STORE, Kind, check_given, name_of
from dclip.config.run import Logger, Trainer
from dclip.config.sampler import SamplerOption
from dclip.config.task import PlanTask, Task
from dclip.config.values import Odd, as_dict
from dclip.errors import need

MOST_SEED = 2**32 - 1  # times ten million and more, it is still a seed that torch takes


@dataclass
class Config:
    """One run."""

    task: Task = MISSING
    dataset: Dataset = MISSING
    checkpoint: Checkpoint = MISSING
    clip: Clip = MISSING
    edit: Edit = MISSING
    method: MethodOption = MISSING
    guidance: Guidance = MISSING
    sampler: SamplerOption = MISSING
    mix: Mix = field(default_factory=Mix)
    loss: Loss = MISSING
    metric: Metrics = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING
    name: str = ""  # of the run's folder; empty: task and edit
    # which epoch's edit is applied, of the runs of edit.adapter; 1 is the first, null: the last
    epoch: int | None = None
    seed: int = 0
    # degree of change: 0 the original model, 1 the fine-tuned one, -1 as far to the other side
    gamma: float = 1.0
    # of the strip of degrees; [] for none
    degrees: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0])
    variants: int = 1  # of every image, where sampling is stochastic
    # an image or a folder of images: to edit, to translate, or to fine-tune on and edit
    input: str | None = None
    # put what an edit changed back into the pictures of ``input``, in their own size
    paste_back: bool = False
    output: str = "outputs"  # where run folders are made
    resume: bool = False  # go on with the newest unfinished run of the same configuration
    offline: bool = False  # never reach out, not even for weights
    # modules of your own, by name, that add options, metrics, ...: a name or a list (docs/extend.md)
    plugins: Any = None
    plan: bool = False  # only say what the run would fetch, take and need
    sweep: str = ""  # the study or sweep that a run belongs to
    note: str = ""
    # how a preset or experiment departs from what its edit's name means (edit.adapter=NAME)
    variant: str = ""
    command: list[str] = field(default_factory=list)  # the words that were typed; not to be set

    def __post_init__(self) -> None:
        check_given("", output=self.output, input=self.input)
        most = 3 * max(1, len(self.edit.adapters))  # mixed edits share gamma
        need(
            math.isfinite(self.gamma) and -most <= self.gamma <= most,
            f"gamma={self.gamma} is out of range; choose {-most} to {most}: 0 is the original, 1 "
            "the whole edit, -1 its opposite",
        )
        for gamma in self.degrees:
            need(
                math.isfinite(gamma) and -most <= gamma <= most,
                f"degrees={self.degrees}: {gamma} is out of range; choose {-most} to {most}",
            )
        need(
            len(self.degrees) <= 16,
            f"degrees has {len(self.degrees)} entries; a strip holds at most 16",
        )
        need(self.epoch is None or self.epoch >= 1, f"epoch={self.epoch} must be 1 or more")
        need(self.variants >= 1, f"variants={self.variants} must be 1 or more")
        need(0 <= self.seed <= MOST_SEED, f"seed={self.seed} must be 0 to {MOST_SEED}")


STORE.store(name="schema", node=Config, provider="dclip")

ORIGIN = ("command", "variant")  # how the settings came to be; a run's status.json keeps them


def plain(config: DictConfig | Config) -> dict[str, Any]:
    """The settings as plain dicts, lists, numbers and strings: what a run's folder keeps.

    Where an option's class is its kind, its name is kept among its settings (``kind_key``).
    """
    container = _container(config)
    settings = {str(key): value for key, value in container.items() if key not in ORIGIN}
    for group in OPTIONS:
        option = _option(config, group)
        if isinstance(option, type) and issubclass(option, Kind) and option.kind_key:
            settings[group] = {option.kind_key: name_of(group, option), **settings[group]}
    return settings


def _container(config: DictConfig | Config) -> dict[Any, Any]:
    if isinstance(config, Config):
        try:
            return as_dict(config)
        except Odd:
            config = OmegaConf.structured(config)
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return container


def _option(config: DictConfig | Config, group: str) -> type | None:
    """The class of the option that was chosen of a group."""
    if isinstance(config, Config):
        return type(getattr(config, group))
    return OmegaConf.get_type(config, group)


def planned(cfg: Config) -> Config:
    """With ``task=plan``, the configuration of the run that is planned; any other as it is."""
    if not isinstance(cfg.task, PlanTask):
        return cfg
    task = OPTIONS["task"][cfg.task.of]()
    assert isinstance(task, Task)
    return replace(cfg, task=task, plan=True)
