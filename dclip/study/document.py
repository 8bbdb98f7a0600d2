"""Study files (``conf/study/NAME.yaml``), and what stands beside them on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dclip.errors import DclipError, choose, nearest, need, one_line
from dclip.prepare.paths import CONF
from dclip.prepare.quoting import expanded

Settings = tuple[str, ...]  # as typed on a command line: name=value

# of every job, unless the study says otherwise; they change no result
QUIET = ("logger=csv", "trainer.progress=false")

# what the entries of a study's file are; of those in FILLED there is at least one
LISTS = dict.fromkeys(("seeds", "grids", "claims"), (list,))
MAPPINGS = dict.fromkeys(("axes", "average", "key", "first", "ours", "baseline", "space"), (dict,))
EITHER = {"columns": (list, dict), "base": (list, str), "adapter": (list, str)}
KINDS: dict[str, tuple[type, ...]] = {**LISTS, **MAPPINGS, **EITHER}
WORDS: dict[type, str] = {list: "a list", dict: "a mapping", str: "a text"}
FILLED = ("seeds", "grids", "columns", "space")


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


def read_document(name: str) -> tuple[Path, dict[str, Any]]:
    """A study's file and its content. DclipError where there is none, or it is no mapping."""
    path = CONF / "study" / f"{name}.yaml"
    if name.endswith(".yaml"):
        path = Path(name)
    if not path.is_file():
        need(
            not Path(name).is_file(),
            f"study={name} is no YAML file; the name of a study's file ends in .yaml",
        )
        close = nearest(name, studies())
        hint = f"; did you mean {close}?" if close else "."
        raise DclipError(
            f"study={name} does not exist{hint} Choose from {', '.join(studies())}, "
            "or give a file of your own"
        )
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        raise DclipError(f"{path} cannot be read as YAML: {one_line(error)}") from error
    _check_kind(path.name, plain or None, (dict,))
    assert isinstance(plain, dict)
    return path, {str(key): value for key, value in plain.items()}


def check_keys(keys: Any, known: set[str], where: str, kind: str) -> None:
    """DclipError for keys that a study file (or a part of it) cannot have, or for their entries."""
    _check_kind(where, keys, (dict,))
    unknown = sorted(set(map(str, keys)) - known)
    need(
        not unknown,
        f"{where} has {', '.join(unknown)}, which no {kind} has"
        f"{choose(next(iter(unknown), ''), sorted(known))}",
    )
    for key, entry in keys.items():
        if key in KINDS:
            _check_kind(f"{where}: {key}", entry or None if key in FILLED else entry, KINDS[key])


def check_document(content: Mapping[str, Any], known: set[str], where: str, kind: str) -> None:
    """DclipError for a whole file's keys, or where it has no title or columns."""
    check_keys(content, known, where, kind)
    for key in ("title", "columns"):
        need(key in content, f"{where} has no {key}; see conf/study for examples")


def _check_kind(where: str, entry: Any, kinds: tuple[type, ...]) -> None:
    """DclipError for a part of a study's file that is no list, mapping or text, as it must be."""
    found = "empty" if entry is None else WORDS.get(type(entry), str(entry))
    wanted = " or ".join(WORDS[kind] for kind in kinds)
    need(isinstance(entry, kinds), f"{where} is {found}, not {wanted}; see conf/study for examples")


def columns_of(entry: Any) -> dict[str, str]:
    """A table's columns and their sources, from a list of sources or from a mapping."""
    if isinstance(entry, dict):
        return {str(name): str(source) for name, source in entry.items()}
    return {str(source): str(source) for source in entry}


def settings_of(entry: Any) -> Settings:
    """Settings from a file: one, or a list."""
    if isinstance(entry, str):
        return (entry,)
    need(isinstance(entry, list), f"{entry}: give settings as name=value, or a list of them")
    return tuple(map(str, entry))


def merged(*groups: Sequence[str]) -> Settings:
    """Several groups of settings as one; of settings of one name the last counts."""
    last: dict[str, str] = {}
    for group in groups:
        for setting in group:
            last[setting.split("=")[0]] = setting
    return tuple(last.values())


# -------------------------------------------------------------------------- the command line


def flag(name: str, args: Mapping[str, str]) -> bool:
    """An argument that is true or false; false where it is not given."""
    value = args.get(name, "false").lower()
    if value not in ("true", "false"):
        raise DclipError(f"{name}={args[name]} must be true or false")
    return value == "true"


def number(name: str, value: str, least: int) -> int:
    """An argument that is a whole number. DclipError where it is none, or below ``least``."""
    if not value.strip().isdecimal() or int(value) < least:
        raise DclipError(f"{name}={value} must be a whole number of {least} or more")
    return int(value)


def split_args(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The arguments of the study itself, and the settings that are added to all of its jobs."""
    names = (
        "study", "dry_run", "collect", "output", "workers", "seeds", "trials", "rows", "fail_fast",
    )  # fmt: skip
    args: dict[str, str] = {}
    settings = []
    for word in words:
        name, sign, value = word.partition("=")
        if name in names and sign:
            if name == "study" and name in args:
                raise DclipError(f"study={args[name]} {word}: run one study after the other")
            args[name] = expanded(value)
            continue
        if not sign or word.startswith(("+", "~", "-")):
            raise DclipError(
                f"{word}: with study= only settings can be given, as name=value; "
                "a study is a sweep by itself"
            )
        settings.append(word)
    return args, settings
