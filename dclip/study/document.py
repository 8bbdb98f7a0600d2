"""Study files (``conf/study/NAME.yaml``), and what stands beside them on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dclip.errors import DclipError, nearest
from dclip.prepare.paths import CONF
from dclip.prepare.quoting import expanded

Settings = tuple[str, ...]  # as typed on a command line: name=value

# of every job, unless the study says otherwise; they change no result
QUIET = ("logger=csv", "trainer.progress=false")


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


def read_document(name: str) -> tuple[Path, dict[str, Any]]:
    """A study's file and its content. DclipError where there is none, or no title or columns."""
    path = CONF / "study" / f"{name}.yaml"
    if name.endswith(".yaml"):
        path = Path(name)
    if not path.is_file():
        close = nearest(name, studies())
        hint = f"; did you mean {close}?" if close else "."
        raise DclipError(
            f"study={name} does not exist{hint} Choose from {', '.join(studies())}, "
            "or give a file of your own"
        )
    content = OmegaConf.load(path)
    for key in ("title", "columns"):
        if key not in content:
            raise DclipError(f"{path.name} has no {key}; see conf/study for examples")
    plain = OmegaConf.to_container(content)
    assert isinstance(plain, dict)
    return path, {str(key): value for key, value in plain.items()}


def check_keys(keys: Mapping[str, Any], known: set[str], where: str, kind: str) -> None:
    """DclipError for keys that a study file (or a part of it) cannot have."""
    unknown = sorted(set(keys) - known)
    if unknown:
        raise DclipError(
            f"{where} has {', '.join(unknown)}, which no {kind} has; "
            f"known: {', '.join(sorted(known))}"
        )


def columns_of(entry: Any) -> dict[str, str]:
    """A table's columns and their sources, from a list of sources or from a mapping."""
    if isinstance(entry, dict):
        return dict(entry)
    return dict(zip(entry, entry, strict=True))


def settings_of(entry: Any) -> Settings:
    """Settings from a file: one, or a list."""
    if isinstance(entry, str):
        return (entry,)
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
    if not value.strip().isdigit() or int(value) < least:
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
            args[name] = expanded(value)
            continue
        if not sign or word.startswith(("+", "~", "-")):
            raise DclipError(
                f"{word}: with study= only settings can be given, as name=value; "
                "a study is a sweep by itself"
            )
        settings.append(word)
    return args, settings
