"""From the composed settings to a configuration that can be run: what no single option can see is refused here."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config import (
    Config,
    Encode,
    Guided,
    Mix,
    PretrainTask,
    Solver,
    Start,
    TaskName,
    TranslateTask,
    option_name,
    planned,
)
from dclip.data.missing import check_data
from dclip.edits import weights
from dclip.errors import DclipError, need
from dclip.methods.diffusionclip.options import DiffusionClip
from dclip.methods.latent.options import LatentOpt
from dclip.prepare.needs import check_networks
from dclip.text.prompts import attributes_of, resolve, same_text


def to_config(node: DictConfig) -> Config:
    """The live, typed configuration. DclipError with one line for a missing or impossible value."""
    try:
        OmegaConf.resolve(node)
        missing = OmegaConf.missing_keys(node)
        need(
            not missing,
            f"missing: {', '.join(sorted(missing))}; give a value, e.g. {sorted(missing or {'x'})[0]}=...",
        )
        config = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise DclipError(" ".join(str(error).split())) from error
    assert isinstance(config, Config)
    check(config)
    return config


def check(cfg: Config) -> None:
    """Refuse, before anything is built, what no single option can see."""
    cfg = planned(cfg)
    check_networks(cfg)
    task = cfg.task.name
    if isinstance(cfg.task, PretrainTask):
        _check_pretraining(cfg, cfg.task)
    if task is TaskName.finetune:
        _check_finetuning(cfg)
    need(
        cfg.sampler.solver is not Solver.belm or task in (TaskName.reconstruct, TaskName.edit),
        f"sampler=belm is for task=reconstruct or edit, not task={task.value}: its latents hold two states; "
        "choose sampler=fixed_point",
    )
    if task in (TaskName.edit, TaskName.translate):
        _check_applied(cfg)
    elif task is TaskName.demo:
        need(
            cfg.trainer.devices == 1,
            f"trainer.devices={cfg.trainer.devices} is too many for a page; set trainer.devices=1",
        )
        need(
            cfg.gamma <= 2,
            f"gamma={cfg.gamma} is out of range for task=demo; choose 0 (original) to 2",
        )
    else:
        need(cfg.mix == Mix(), f"mix is for task=edit, not task={task.value}")
        need(cfg.variants == 1, f"variants={cfg.variants} is for task=edit, not task={task.value}")
    need(
        not cfg.dataset.unseen or task is TaskName.translate,
        f"{cfg.dataset.unseen} is for task=translate, not task={task.value}",
    )
    _check_sampling(cfg)
    if cfg.input is not None:
        starts = task is TaskName.sample and cfg.task.start is Start.images  # type: ignore[attr-defined]
        need(
            starts or task in (TaskName.finetune, TaskName.edit, TaskName.translate, TaskName.demo),
            f"input={cfg.input} is for task=edit, finetune, translate or demo, or task=sample task.start=images, "
            f"not task={task.value}",
        )
        need(
            task is not TaskName.finetune or cfg.trainer.devices == 1,
            f"trainer.devices={cfg.trainer.devices} is too many for fine-tuning on input={cfg.input}; set trainer.devices=1",
        )
        need(
            Path(cfg.input).exists(),
            f"input={cfg.input} does not exist; give an image or a folder of images",
        )
    check_data(cfg)


def _check_pretraining(cfg: Config, task: PretrainTask) -> None:
    """Refuse networks that cannot be trained on the data set."""
    name = option_name("dataset", cfg.dataset)
    need(
        cfg.dataset.trains,
        f"task=pretrain trains on dataset=toonfaces or dataset=cifar10, not on dataset={name}",
    )
    cfg.dataset.check_training(task)


def _check_finetuning(cfg: Config) -> None:
    """Steps, objective and batches of a fine-tuning."""
    need(
        isinstance(cfg.method, DiffusionClip),
        "task=finetune needs method=diffusionclip; with method=none there is nothing to tune",
    )
    need(
        cfg.method.s_train <= cfg.sampler.t0 + 1,
        f"method.s_train={cfg.method.s_train} is impossible with sampler.t0={cfg.sampler.t0}",
    )
    need(cfg.method.s_train >= 2, f"method.s_train={cfg.method.s_train} must be 2 or more")
    need(
        not cfg.method.faithful_id or cfg.loss.clip + cfg.loss.l1 + cfg.loss.shift > 0,
        "method.faithful_id=true leaves nothing with a gradient where loss.clip, loss.shift and loss.l1 are 0",
    )
    last = cfg.dataset.train % cfg.method.batch if cfg.input is None else 0
    need(
        cfg.method.batch % cfg.trainer.devices == 0 and last % cfg.trainer.devices == 0,
        f"trainer.devices={cfg.trainer.devices} cannot share batches of {cfg.method.batch} and a last one of {last} evenly; "
        "choose method.batch and dataset.train as multiples",
    )
    need(
        cfg.edit.adapter is None,
        "edit.adapter is for task=edit; a fine-tuning starts from the checkpoint",
    )


def _check_applied(cfg: Config) -> None:
    """Refuse edits that are not there, and mixtures that cannot be."""
    edits = cfg.edit.adapters
    random = isinstance(cfg.task, TranslateTask) and cfg.task.rounds > 0
    need(
        bool(edits) or cfg.task.name is TaskName.translate,
        "task=edit needs edit.adapter: a fine-tuning run's folder or its adapter.safetensors (outputs/latest after a run), "
        "or a list of several",
    )
    for name in edits:
        need(
            Path(name).exists(),
            f"edit.adapter={name} does not exist; give a run folder or safetensors file",
        )
    weights.weights_of(cfg.mix.weights, max(len(edits), 1), cfg.sampler.t0)
    sampler = cfg.sampler
    need(
        cfg.variants == 1
        or random
        or sampler.eta > 0
        or sampler.solver is Solver.ddpm
        or sampler.encode is Encode.stochastic,
        f"variants={cfg.variants} would be the same picture: nothing is random; set sampler.eta=1, sampler=ddpm or "
        "sampler.encode=stochastic",
    )
    if cfg.mix.soup:
        weights.constant_weights(cfg.mix.weights, max(len(edits), 1))


def _check_sampling(cfg: Config) -> None:
    """Guidance, latent optimisation and their prompts."""
    guided = isinstance(cfg.guidance, Guided)
    if cfg.task.name is not TaskName.sample:
        need(
            not guided,
            f"guidance={option_name('guidance', cfg.guidance)} is for task=sample; the other tasks do not guide",
        )
        return
    prompts, method = resolve(cfg), cfg.method
    attributes_of(prompts)
    kinds = {
        option_name("guidance", cfg.guidance),
        *([method.objective.value] if isinstance(method, LatentOpt) else []),
    }
    directed = any("directional" in kind for kind in kinds)
    for prompt in prompts:
        need(
            bool(prompt.distractors) or not any("contrastive" in kind for kind in kinds),
            f"{prompt.text[:60]!r} has no distractors: it names no attribute of ToonFaces; give "
            "guidance.distractors='[a text,another]' or cifar10 or source, or choose another guidance",
        )
        need(
            not directed or not same_text(prompt.text, cfg.edit.source),
            f"edit.source={cfg.edit.source} is also a target, and there is no direction from a text to itself; change edit.source",
        )
        need(
            "contrastive_directional" not in kinds
            or not all(same_text(text, cfg.edit.source) for text in prompt.distractors),
            f"{prompt.text[:60]!r} has no distractors but edit.source={cfg.edit.source}, and there is no direction from a text to "
            "itself; give others: guidance.distractors='[a text,another]'",
        )
    if isinstance(method, LatentOpt):
        fits = 2 <= method.s_opt <= cfg.sampler.t0 + 1
        need(
            fits,
            f"method.s_opt={method.s_opt} is impossible with sampler.t0={cfg.sampler.t0}; choose 2 to {cfg.sampler.t0 + 1}",
        )
