"""What a run takes over from the edits that it applies: their texts and their steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dclip.config import DemoTask, SamplerOption, Task, adapters_of
from dclip.config.options import name_of
from dclip.data.domains import domain_named
from dclip.diffusion.options import sampler_named
from dclip.edits.header import adopted, common_steps, read_edit_header
from dclip.edits.named import edit_of_epoch, edits_of
from dclip.errors import DclipError
from dclip.prepare.paths import CONF

TEXTS = {"edit.source", "edit.target"}


def adopt_edit(node: DictConfig, overrides: Sequence[str]) -> None:
    """``task=edit`` (or ``translate``) uses the texts and steps that its edits were made with.

    What the command line sets (``overrides``) wins. An edit whose texts it changes loses its name,
    which no longer describes it.
    """
    settings = {word.split("=")[0] for word in overrides}
    if settings & TEXTS and "edit.name" not in settings:
        node.edit.name = ""
    if node.edit.examples and not settings & {*TEXTS, "edit.name"}:
        node.edit.name = Path(node.edit.examples).stem
        node.edit.source = "images before"
        node.edit.target = f"images like {node.edit.name}"
    paths = _edits_to_apply(node)
    if not paths:
        return
    if node.epoch is not None:
        paths = [edit_of_epoch(path, node.epoch) for path in paths]
        node.epoch = None  # from here on the files say it
    node.edit.adapter = paths[0]
    if len(paths) > 1:
        node.edit.adapter = paths
    t0 = node.sampler.t0 if "sampler.t0" in settings else None
    headers = [read_edit_header(path, t0)[1] for path in paths]
    if OmegaConf.get_type(node, "task") is DemoTask:
        return  # the page adopts the edits that are chosen on it
    for header in headers:
        if header["kind"] == "foreign edit":
            _name_texts(node, header, settings)
    for key, value in adopted(headers, settings).items():
        if key == "edit.regions" and node.mix.soup:
            continue  # one network has one region
        OmegaConf.update(node, key, value)
    _adopt_sampler(node, common_steps(headers, settings))


def _adopt_sampler(node: DictConfig, settings: dict[str, Any]) -> None:
    """The sampler that edits were made with, and its settings; what else was composed is kept."""
    if "solver" in settings:
        option, composed = sampler_named(settings.pop("solver")), dict(node.sampler)
        node.sampler = OmegaConf.structured(option)
        for key in node.sampler:
            if key in composed:
                node.sampler[key] = composed[key]
        set_eta(node, composed.get("eta", 0.0))
    for key, value in settings.items():
        node.sampler[key] = value


def set_eta(node: DictConfig, eta: float) -> None:
    """Noise on the way down. DclipError where the sampler is not DDIM."""
    if "eta" in node.sampler:
        node.sampler.eta = eta
    elif eta != 0:
        name = name_of("sampler", OmegaConf.get_type(node, "sampler") or SamplerOption)
        raise DclipError(
            f"sampler.eta={eta} adds noise to DDIM, but the sampler is {name}; choose sampler=ddim"
        )


def _edits_to_apply(node: DictConfig) -> list[str]:
    """Files or folders of the edits that a task applies; none for other tasks."""
    task = OmegaConf.get_type(node, "task")
    if not isinstance(task, type) or not issubclass(task, Task) or not task.applies:
        return []
    edit: Any = OmegaConf.to_container(node.edit)
    return edits_of(adapters_of(edit["adapter"]), str(node.output), str(node.checkpoint.name))


def _name_texts(node: DictConfig, header: dict[str, Any], settings: set[str]) -> None:
    """The texts of an edit that somebody else published, by its name.

    They are those of conf/edit, or the words of the name. Scores by CLIP are left out where the
    texts are only guessed, or the CLIP has never seen photographs.
    """
    name = str(header["edit"]["name"])
    file = _edit_file(name)
    if file is None:
        header["edit"] = {"name": name, "source": "photo", "target": name.replace("_", " ")}
    else:
        header["edit"] = OmegaConf.load(file).edit
    guessed = file is None and not settings & {"edit", *TEXTS}
    if "metric.clip" not in settings and (guessed or domain_named(node.clip.name).drawn):
        node.metric.clip = False


def _edit_file(name: str) -> Path | None:
    """The file of conf/edit for the published name of an edit."""
    short = re.sub(r"^((human|imagenet|church|bedroom)_)?(with_)?", "", name)
    # human_zombie before zombie, whose words are for ToonFaces
    for candidate in (f"human_{short}", name, short):
        file = CONF / "edit" / f"{candidate.replace('without_', 'no_')}.yaml"
        if file.is_file():
            return file
    return None
