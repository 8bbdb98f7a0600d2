"""From words to a composed configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config import OPTIONS, Config, Dataset, DemoTask, Task, adapters_of
from dclip.data.domains import domain_named, networks_of
from dclip.errors import DclipError
from dclip.prepare import plugins
from dclip.prepare.checks import to_config

HERE = Path(__file__).resolve().parent.parent
# beside the package in a checkout, inside it in a wheel
CONF = next(
    (p for p in (HERE / "conf", HERE.parent / "conf") if (p / "config.yaml").is_file()),
    HERE / "conf",
)


def _pictures(dataset: str, checkpoint: str) -> str:
    """What an edit's words are about, by two choices: the checkpoint's own domain, or photographs.

    ``conf/config.yaml`` looks for the edit in ``conf/edit`` and then in the folder of this name there.
    """
    option = OPTIONS["dataset"].get(dataset)
    drawn = option is not None and issubclass(option, Dataset) and option.drawn
    if drawn and networks_of(checkpoint).model is not None:
        return checkpoint
    return "photographs"


OmegaConf.register_new_resolver("pictures", _pictures, replace=True)


def _choices(group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    loader = GlobalHydra.instance().config_loader()
    return [name for name in loader.get_group_options(group, ObjectType.CONFIG) if name != "base"]


def _groups() -> list[str]:
    return [
        group
        for group in GlobalHydra.instance().config_loader().list_groups("")
        if group != "hydra"
    ]


def _known_keys(node: DictConfig, path: str) -> tuple[str, list[str]]:
    """The deepest existing part of a dotted path, and the keys below it."""
    owner, current = "", node
    for part in path.split("."):
        if not OmegaConf.is_dict(current) or part not in current:
            break
        owner, current = f"{owner}.{part}".lstrip("."), current[part]
    return owner, [str(k) for k in current] if OmegaConf.is_dict(current) else []


# Choices that are gone: a pattern of the whole setting, and what to type instead.
GONE = {
    r"experiment=objective_onestep_lora": "type experiment=toonfaces_red_hair "
    "'preset=[onestep_invert,lora]'",
    r"experiment=objective_(\w+)": r"type experiment=toonfaces_red_hair preset=\1",
    r"preset=fixed": "leave it out, its settings are the defaults",
}


def _instead(setting: str) -> str | None:
    """What to type instead of a choice that is gone; None for one that never was."""
    for pattern, advice in GONE.items():
        match = re.fullmatch(pattern, setting)
        if match:
            return match.expand(advice)
    return None


def _explain(error: Exception, words: Sequence[str] = ()) -> str:
    """Hydra's message in one line, with the choices where a name was wrong."""
    text = " ".join(str(error).split())
    cause = " ".join(str(error.__cause__ or "").split())
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if missing:
        group, name = missing[1], missing[2]
        advice = _instead(f"{group}={name}")
        if advice:
            return f"{group}={name} is gone: {advice}"
        options = _choices(group)
        close = difflib.get_close_matches(name, options, 1)
        hint = f"; did you mean {close[0]}?" if close else "."
        return f"{group}={name} does not exist{hint} Choose from: {', '.join(options)}"
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        return _explain_key(wrong[1], words)
    if "Error merging override" in text and cause:
        setting = text.split("Error merging override ")[1].split()[0]
        return f"{setting}: {cause.split(' full_key')[0]}"
    return text.split(" See https")[0]


def _explain_key(key: str, words: Sequence[str]) -> str:
    """There is no such setting: what is there instead?"""
    groups = [word for word in words if word.startswith("hydra/")]
    owner, keys = _known_keys(
        compose("config", overrides=groups, return_hydra_config=bool(groups)), key
    )
    rest = key[len(owner) :].lstrip(".").split(".")[0]
    if not owner:
        keys += [group for group in _groups() if group not in keys]
    if owner and not keys:
        return f"there is no setting {key}; this {owner} has no settings"
    close = difflib.get_close_matches(rest, keys, 1)
    hint = f"; did you mean {f'{owner}.{close[0]}'.lstrip('.')}?" if close else "."
    place = f"Below {owner}" if owner else "At the top"
    return f"there is no setting {key}{hint} {place} there are: {', '.join(sorted(keys))}"


def adopt_edit(node: DictConfig, overrides: Sequence[str]) -> None:
    """``task=edit`` (or ``translate``) uses the texts and steps that the edit was made with, unless told otherwise.

    An edit whose text was changed on the command line is not the one of that name any more.
    """
    told = {word.split("=")[0] for word in overrides}
    if told & {"edit.source", "edit.target"} and "edit.name" not in told:
        node.edit.name = ""
    if node.edit.examples and not told & {"edit.source", "edit.target", "edit.name"}:
        node.edit.name = Path(node.edit.examples).stem
        node.edit.source, node.edit.target = "images before", f"images like {node.edit.name}"
    names = adapters_of(OmegaConf.to_container(node.edit)["adapter"])  # type: ignore[index,call-overload]
    task = OmegaConf.get_type(node, "task")
    if not (isinstance(task, type) and issubclass(task, Task) and task.applies and names):
        return
    from dclip.edits.header import adopted, find_edit, read_edit_header

    paths = [find_edit(name, str(node.output)) for name in names]
    node.edit.adapter = paths if len(paths) > 1 else paths[0]
    headers = [
        read_edit_header(path, node.sampler.t0 if "sampler.t0" in told else None)[1]
        for path in paths
    ]
    if task is DemoTask:  # adopts those of the edits that are chosen on the page
        return
    for header in headers:
        if header["kind"] == "foreign edit":
            _name_texts(node, header, told)
    for key, value in adopted(headers, told).items():
        OmegaConf.update(node, key, value)


def _name_texts(node: DictConfig, header: dict[str, Any], told: set[str]) -> None:
    """The texts of an edit that somebody else published, by its name: those of conf/edit, or the words of the name.

    Scores by CLIP are left out where the texts are only guessed, or the CLIP has never seen photographs.
    """
    words = str(header["edit"]["name"])
    short = re.sub(r"^((human|imagenet|church|bedroom)_)?(with_)?", "", words)
    # human_zombie before zombie, whose words are for ToonFaces
    names = [name.replace("without_", "no_") for name in (f"human_{short}", words, short)]
    files = [CONF / "edit" / f"{name}.yaml" for name in names]
    file = next((file for file in files if file.is_file()), None)
    guessed = {"name": words, "source": "photo", "target": words.replace("_", " ")}
    header["edit"] = OmegaConf.load(file).edit if file else guessed
    sure = file is not None or bool(told & {"edit", "edit.source", "edit.target"})
    if "metric.clip" not in told and (not sure or domain_named(node.clip.name).drawn):
        node.metric.clip = False


SEARCHPATH = "hydra.searchpath="  # folders with configurations of one's own


def _is_hydras(word: str) -> bool:
    return word.lstrip("+~").startswith("hydra")


def check_overrides(overrides: Sequence[str]) -> Config:
    """Compose and check one job. DclipError in one line for whatever is wrong with it."""
    for word in overrides:
        if word.startswith(("+", "~")) and not _is_hydras(word):
            raise DclipError(
                f"{word}: adding (+) or deleting (~) settings is not supported, they would be ignored; use a setting that exists"
            )
    try:
        plugins.load(plugins.named(overrides))
        node = compose(
            "config",
            overrides=[w for w in overrides if not _is_hydras(w) or w.startswith(SEARCHPATH)],
        )
        plugins.load(plugins.names_of(node.plugins))
        adopt_edit(node, overrides)
        return to_config(node)
    except (HydraException, OmegaConfBaseException) as error:
        raise DclipError(_explain(error)) from error
    except ValueError as error:  # Hydra's own, for a group without an option (task=null) or a setting without a name
        empty = next((w.split("=")[0] for w in overrides if w.split("=")[-1] in ("null", "")), None)
        if empty in _groups():
            raise DclipError(
                f"{empty}: nothing is not a choice; choose from {', '.join(_choices(str(empty)))}"
            ) from error
        raise DclipError(
            f"{' '.join(overrides)}: {' '.join(str(error).split())}; settings read name=value"
        ) from error


def configured(words: Sequence[str]) -> Config:
    """The checked configuration of one job."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return check_overrides(words)
