"""From the composed settings to a configuration that can be run.

What no single option can see is refused here; what is a method's own, the method refuses.
"""

from __future__ import annotations

import logging
from enum import Enum
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from dclip.config import (
    Carry,
    Config,
    DemoTask,
    Encode,
    Guided,
    Mix,
    PretrainTask,
    SampleTask,
    TranslateTask,
    option_name,
    planned,
)
from dclip.config.edit import REGIONS, Edit
from dclip.config.task import EditTask, ReconstructTask
from dclip.data.domains import domain_of, truth_of
from dclip.data.folders import check_masks, check_pictures, check_region
from dclip.data.missing import check_data
from dclip.data.pictures import decode
from dclip.edits import weights
from dclip.edits.header import check_base_name, read_edit_header
from dclip.edits.named import FILE
from dclip.errors import DclipError, need, one_line
from dclip.methods.contract import method_named, method_of
from dclip.prepare.needs import check_networks
from dclip.prepare.quoting import expanded

log = logging.getLogger("dclip")


def to_config(node: DictConfig) -> Config:
    """The live, typed configuration. DclipError with one line for a missing or impossible value."""
    try:
        OmegaConf.resolve(node)
        _expand_paths(node)
        missing = sorted(OmegaConf.missing_keys(node))
        if missing:
            raise DclipError(f"missing: {', '.join(missing)}; give a value, e.g. {missing[0]}=...")
        config = OmegaConf.to_object(node)
    except InterpolationResolutionError as error:
        raise DclipError(
            f"{error.full_key}: {one_line(error)}; ${{NAME}} stands for the value of a setting"
        ) from error
    except OmegaConfBaseException as error:
        raise DclipError(" ".join(str(error).split())) from error
    assert isinstance(config, Config)
    check(config)
    return config


def _expand_paths(node: DictConfig) -> None:
    """``~/`` in a file of settings is the user's own folder, as on the command line."""
    for key in node:
        if OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig):
            _expand_paths(value)
        elif isinstance(value, str) and not isinstance(value, Enum) and value != expanded(value):
            node[key] = expanded(value)


def check(cfg: Config) -> None:
    """Refuse, before anything is built, what no single option can see."""
    cfg = planned(cfg)
    check_networks(cfg)
    if isinstance(cfg.task, PretrainTask):
        _check_pretraining(cfg, cfg.task)
    if cfg.task.learns:
        _check_learning(cfg)
        _check_contrast(cfg)
        _check_keep(cfg)
    _check_edits(cfg)
    _check_examples(cfg)
    _check_images(cfg)
    _check_true_region(cfg)
    _check_carry(cfg)
    if isinstance(cfg.task, SampleTask):
        method_of(cfg).check(cfg)
    else:
        guidance = option_name("guidance", cfg.guidance)
        need(
            not isinstance(cfg.guidance, Guided),
            f"guidance={guidance} is for task=sample; the other tasks do not guide",
        )
    _check_input(cfg)
    _check_masks(cfg)
    check_data(cfg)


def _task(cfg: Config) -> str:
    return option_name("task", cfg.task)


def _check_learning(cfg: Config) -> None:
    method = method_of(cfg)
    name = option_name("method", cfg.method)
    need(
        method.learns,
        f"task=finetune needs method=diffusionclip; with method={name} there is nothing to tune",
    )
    method.check(cfg)


def _check_pretraining(cfg: Config, task: PretrainTask) -> None:
    """Refuse networks that cannot be trained on the data set."""
    name = option_name("dataset", cfg.dataset)
    need(
        cfg.dataset.trains,
        f"task=pretrain trains on dataset=toonfaces or dataset=cifar10, not on dataset={name}",
    )
    cfg.dataset.check_training(task)
    need(
        cfg.trainer.devices == 1,
        f"trainer.devices={cfg.trainer.devices} would train the same network on every device; "
        "task=pretrain takes one",
    )


def _check_edits(cfg: Config) -> None:
    """Solvers, mixtures and variants, and what only some tasks have."""
    task = cfg.task
    need(
        cfg.epoch is None or isinstance(task, DemoTask),
        f"epoch={cfg.epoch} is for the edits of edit.adapter, which are applied by task=edit, "
        f"translate or demo, not by task={_task(cfg)} without any",
    )
    sampler = option_name("sampler", cfg.sampler)
    need(
        not cfg.sampler.two_states or isinstance(task, ReconstructTask | EditTask),
        f"sampler={sampler} is for task=reconstruct or edit, not task={_task(cfg)}: its latents "
        "hold two states; choose sampler=fixed_point",
    )
    if isinstance(task, DemoTask):
        devices = cfg.trainer.devices
        need(
            devices == 1,
            f"trainer.devices={devices} is too many for a page; set trainer.devices=1",
        )
        need(
            -1 <= cfg.gamma <= 2,
            f"gamma={cfg.gamma} is out of range for task=demo; choose -1 (the opposite) to 2, "
            "0 is the original",
        )
    elif task.applies:
        _check_applied(cfg)
    else:
        need(cfg.mix == Mix(), f"mix is for task=edit, not task={_task(cfg)}")
        need(
            cfg.variants == 1,
            f"variants={cfg.variants} is for task=edit, not task={_task(cfg)}",
        )


def _check_applied(cfg: Config) -> None:
    """Refuse edits that are not there, and mixtures that cannot be."""
    edits, count = cfg.edit.adapters, max(len(cfg.edit.adapters), 1)
    need(
        bool(edits) or isinstance(cfg.task, TranslateTask),
        "task=edit needs edit.adapter: a fine-tuning run's folder or its adapter.safetensors "
        "(outputs/latest after a run), or a list of several",
    )
    for name in edits:
        need(
            Path(name).exists(),
            f"edit.adapter={name} does not exist; give a run folder or safetensors file",
        )
        header = read_edit_header(name, cfg.sampler.t0)[1]
        check_base_name(name, header, cfg.checkpoint.name)
    if not cfg.mix.in_turn:
        _tell_twice(cfg.edit)
    weights.weights_of(cfg.mix.weights, count, cfg.sampler.t0)
    if cfg.mix.soup:
        need(
            cfg.edit.regions is None,
            "edit.regions is for edits that are mixed; mix.soup=true makes them one network, whose "
            "change has one region: set edit.region, or mix.soup=false",
        )
        weights.constant_weights(cfg.mix, count)
        _check_soup(cfg)
    if cfg.mix.in_turn:
        weights.constant_weights(cfg.mix, count)
        need(
            cfg.edit.region != "truth" or count < 2,
            "edit.region=truth knows where all edits act together, not where each of them does; "
            "with mix.in_turn=true choose edit.region=auto",
        )
    need(
        cfg.variants == 1 or edits_randomly(cfg),
        f"variants={cfg.variants} would be the same picture: nothing is random; "
        "set sampler.eta=1, sampler=ddpm, sampler.encode=stochastic or sampler.carry=noise_maps",
    )


def _tell_twice(edit: Edit) -> None:
    """An edit mixed with itself is itself, unless each acts in a region of its own."""
    regions = edit.regions or [None] * len(edit.adapters)
    seen = []
    for name, region in zip(edit.adapters, regions, strict=True):
        path = Path(name).resolve()
        one = (path / FILE if path.is_dir() else path, region)
        if one in seen:
            _tell(f"edit.adapter names {name} twice: mixed with itself, an edit stays as it is")
        seen.append(one)


@cache
def _tell(line: str) -> None:
    """Warn once, however often a run is checked."""
    log.warning(line)


def _check_soup(cfg: Config) -> None:
    """Only changes of weights can be added up."""
    for name in cfg.edit.adapters:
        method = str(read_edit_header(name, cfg.sampler.t0)[1].get("method_name", "diffusionclip"))
        need(
            method_named(method).merges,
            f"mix.soup=true merges weights, and edit.adapter={name} (method={method}) changes none; "
            "choose mix.soup=false",
        )


def is_random(cfg: Config) -> bool:
    """Whether ``seed`` can change what a run finds."""
    makes = cfg.task.random and method_of(cfg).is_random(cfg)
    return makes or cfg.dataset.random or edits_randomly(cfg)


def edits_randomly(cfg: Config) -> bool:
    """Whether two variants of an image differ."""
    if isinstance(cfg.task, TranslateTask) and cfg.task.rounds > 0:
        return True
    sampler = cfg.sampler
    return sampler.encode is Encode.stochastic or sampler.is_random or not sampler.carry.inverts


def _check_images(cfg: Config) -> None:
    """Images of a kind that the model has never seen are for translation."""
    unseen = cfg.dataset.unseen
    need(
        not unseen or isinstance(cfg.task, TranslateTask),
        f"{unseen} is for task=translate, not task={_task(cfg)}",
    )


def _check_true_region(cfg: Config) -> None:
    """The true pictures are those of ToonFaces' own faces, for the edits that it can draw."""
    truth = truth_of(cfg)
    known = truth is not None and truth.pictured and cfg.input is None
    need(
        cfg.edit.region != "truth" or known,
        "edit.region=truth needs the true edited pictures, which only ToonFaces knows, for its own "
        "faces and edits except sketch and pixel art; choose edit.region=auto",
    )


def _check_carry(cfg: Config) -> None:
    """Only an edit has a source's branch beside it."""
    carry = cfg.sampler.carry
    need(
        carry is Carry.none or cfg.task.learns or cfg.task.applies,
        f"sampler.carry={carry} carries a source beside an edit, for task=finetune, edit, translate "
        f"or demo, not task={_task(cfg)}; choose sampler.carry=none",
    )


def _check_masks(cfg: Config) -> None:
    """What says where an edit may act must be grey pictures."""
    if cfg.edit.region not in (None, *REGIONS):
        mask, size = Path(str(cfg.edit.region)), domain_of(cfg.dataset).size
        check_masks(mask, "edit.region")
        shape = (size, size) if size else None
        if cfg.input is not None and Path(cfg.input).is_file():
            shape = decode(Path(cfg.input), cfg.input).size
        check_region(mask, shape, "edit.region")
    region = cfg.metric.region
    if region is None:
        return
    need(
        Path(region).exists(),
        f"metric.region={region} does not exist; give a picture, or a folder of pictures",
    )
    check_masks(Path(region), "metric.region")


def _check_input(cfg: Config) -> None:
    """``input`` must exist, and the task must take it."""
    task = cfg.task
    _check_paste(cfg)
    if cfg.input is None:
        return
    starts = isinstance(task, SampleTask) and task.from_images
    need(
        starts or task.takes_input,
        f"input={cfg.input} is for task=edit, finetune, translate or demo, or task=sample "
        f"task.start=images, not task={_task(cfg)}",
    )
    devices = cfg.trainer.devices
    need(
        not task.learns or devices == 1,
        f"trainer.devices={devices} is too many for fine-tuning on input={cfg.input}; "
        "set trainer.devices=1",
    )
    need(
        Path(cfg.input).exists(),
        f"input={cfg.input} does not exist; give an image or a folder of images",
    )
    check_pictures(Path(cfg.input), "input")


def _check_contrast(cfg: Config) -> None:
    """What competes must be texts, and of use."""
    contrast = cfg.loss.uses("contrast")
    need(
        not contrast or cfg.edit.examples is None,
        "loss.contrast compares texts, and edit.examples are pictures; set loss.contrast=0 and "
        "loss.clip=1",
    )
    need(
        contrast or cfg.edit.against is None,
        "edit.against has no effect with loss.contrast=0; set loss=directional_shift and "
        "loss.contrast=1, or leave it out",
    )


def _check_keep(cfg: Config) -> None:
    """What must stay in words must be of use."""
    need(
        cfg.loss.uses("keep") or cfg.edit.keep is None,
        "edit.keep has no effect with loss.keep=0; set loss=directional_shift and loss.keep=5, or "
        "leave it out",
    )


def _check_examples(cfg: Config) -> None:
    """The images that stand for a text must be images."""
    for key, path in (
        ("examples", cfg.edit.examples),
        ("source_examples", cfg.edit.source_examples),
    ):
        if path is not None:
            check_pictures(Path(path), f"edit.{key}")


def _check_paste(cfg: Config) -> None:
    """Changes are put back into pictures that one gives, and that are not turned or redrawn."""
    if not cfg.paste_back:
        return
    need(
        cfg.input is not None and not cfg.task.foreign,
        "paste_back=true puts changes back into the pictures of input=, with task=edit or finetune",
    )
    need(
        not cfg.dataset.align,
        "paste_back=true cannot put changes back into pictures that were turned; "
        "set dataset.align=false",
    )
