"""Hydra's errors in one line, with the choices where a name was wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config import OPTIONS
from dclip.errors import nearest, one_line
from dclip.prepare.composing import composed
from dclip.prepare.kinds import explain_kind
from dclip.prepare.values import explain_value

# Choices that are gone: a pattern of the whole setting, and what to type instead.
GONE = {
    r"experiment=objective_onestep_lora": "type experiment=toonfaces_red_hair "
    "'preset=[onestep_invert,lora]'",
    r"experiment=objective_(\w+)": r"type experiment=toonfaces_red_hair preset=\1",
    r"preset=fixed": "leave it out, its settings are the defaults",
}


def choices(group: str) -> list[str]:
    """The options of a group, as YAML files or as registered classes."""
    loader = GlobalHydra.instance().config_loader()
    names = loader.get_group_options(group, ObjectType.CONFIG)
    return [name for name in names if name != "base"]


def groups() -> list[str]:
    """The groups at the top of the configuration."""
    names = GlobalHydra.instance().config_loader().list_groups("")
    return [name for name in names if name != "hydra"]


def explain(error: Exception, words: Sequence[str] = ()) -> str:
    """Hydra's message in one line; ``words`` are those that it was given."""
    text = one_line(error, None)
    option = re.search(r"Could not (?:find|load) '([^']+)/([^'/]*)'", text)
    if option is not None and not option[2]:
        return nothing_chosen(option[1])
    if option is not None:
        return _explain_option(option[1], option[2])
    setting = re.search(r"Could not override '([^']+)'", text)
    if setting is None:  # in a file of conf
        setting = re.search(r"Key '[^']+' not in '\w+' full_key: (\S+)", text)
    if setting is not None:
        file = re.match(r"In '([^']+)/([^'/]+)'", text)
        typed = any(word.startswith(setting[1]) for word in words)
        if file is not None and not typed:
            chosen = _chosen(setting[1].split(".")[0], words)
            if chosen:
                owner, _, wrong = setting[1].rpartition(".")
                return (
                    f"{file[1]}={file[2]} sets {setting[1]}{_owned_by(owner, wrong) or ';'} "
                    f"{chosen} does not have it; leave {chosen} out, or choose another {file[1]}="
                )
        return _explain_setting(setting[1], words)
    cause = one_line(error.__cause__ or "", None)
    value = re.search(r"Error merging override (\S+)", text)
    if value is not None and cause:
        word = _word(value[1], words)
        return explain_value(word, cause, _default(word.partition("=")[0]))
    several = re.search(r"Ambiguous value for argument '(\S+?)=(\S+)'", text)
    if several is not None:
        return (
            f"{several[1]}={several[2]}: a comma separates the values of a sweep, which -m starts; "
            f"a list is {several[1]}=[{several[2]}]"
        )
    bare = re.search(r"Error parsing override '(.*)' missing EQUAL", text)
    if bare is not None:
        groups = [group for group in OPTIONS if bare[1] in OPTIONS[group]]
        if groups:
            return f"{bare[1]} is no setting; did you mean {groups[0]}={bare[1]}?"
        return f"{bare[1]} is no setting; write NAME=VALUE, with spaces in it as NAME='A VALUE'"
    return text.split(" See https")[0]


def nothing_chosen(group: str) -> str:
    """A group without an option."""
    return f"{group}: nothing is not a choice; choose from {', '.join(choices(group))}"


def _chosen(group: str, words: Sequence[str]) -> str:
    """The word that chooses an option of the group; empty where none does."""
    return next((word for word in reversed(words) if word.startswith(f"{group}=")), "")


def _word(start: str, words: Sequence[str]) -> str:
    """The word that begins so: Hydra's message does not say where it ends."""
    for word in words:
        if word.startswith(start):
            return word
    return start


def _default(setting: str) -> object:
    """What a setting is where nobody sets it; None where that cannot be told."""
    return OmegaConf.select(_composed(setting, ()), setting, throw_on_missing=False)


def _explain_option(group: str, name: str) -> str:
    """There is no such option: which are there?"""
    for pattern, advice in GONE.items():
        match = re.fullmatch(pattern, f"{group}={name}")
        if match is not None:
            return f"{group}={name} is gone: {match.expand(advice)}"
    options = choices(group)
    hint = _did_you_mean(name, options)
    return f"{group}={name} does not exist{hint} Choose from: {', '.join(options)}"


def _explain_setting(key: str, words: Sequence[str]) -> str:
    """There is no such setting: what is there instead?"""
    kind = explain_kind(key, words)
    if kind is not None:
        return kind
    owner, keys = _deepest(_composed(key, words), key)
    if owner and not keys:
        return f"there is no setting {key}; this {owner} has no settings"
    prefix, place = f"{owner}.", f"Below {owner}"
    if not owner:
        prefix, place = "", "At the top"
        keys += [group for group in groups() if group not in keys]
    wrong = key.removeprefix(prefix).split(".")[0]
    hint = _owned_by(owner, wrong) or _did_you_mean(wrong, keys, prefix)
    return f"there is no setting {key}{hint} {place} there are: {', '.join(sorted(keys))}"


def _composed(key: str, words: Sequence[str]) -> DictConfig:
    """The configuration with the options that ``words`` choose, as far as it can be composed."""
    hydras = [word for word in words if word.startswith("hydra/")]
    chosen = [word for word in words if word.split("=")[0] in groups()]
    own = [word for word in chosen if word.split("=")[0] == key.split(".")[0]]
    for some in (chosen, own):
        try:
            return _with_hydras(hydras, some)
        except (HydraException, OmegaConfBaseException, ValueError):
            continue  # what cannot be composed may be the very error to explain
    return _with_hydras(hydras, ())


def _with_hydras(hydras: Sequence[str], words: Sequence[str]) -> DictConfig:
    """What ``words`` compose; with ``hydra`` where words for Hydra itself are given too."""
    if not hydras:
        return composed(words)
    return compose("config", overrides=[*hydras, *words], return_hydra_config=True)


def _owned_by(group: str, key: str) -> str | None:
    """Another option of the group that has the setting."""
    for name, option in OPTIONS.get(group, {}).items():
        if is_dataclass(option) and key in (field.name for field in fields(option)):
            return f"; {group}={name} has it."
    return None


def _deepest(node: DictConfig, path: str) -> tuple[str, list[str]]:
    """The deepest existing part of a dotted path, and the keys below it."""
    parts: list[str] = []
    for part in path.split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            break
        parts.append(part)
        node = node[part]
    keys: list[str] = []
    if OmegaConf.is_dict(node):
        keys = [str(key) for key in node]
    return ".".join(parts), keys


def _did_you_mean(name: str, names: Sequence[str], prefix: str = "") -> str:
    close = nearest(name, names)
    if close:
        return f"; did you mean {prefix}{close}?"
    return "."
