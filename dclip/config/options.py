"""The register of options: group -> option name -> dataclass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from hydra.core.config_store import ConfigStore

from dclip.errors import need

T = TypeVar("T")


def _itself(store: ConfigStore, _: dict[int, object]) -> ConfigStore:
    return store


# Hydra copies the register of all options for every group that --help lists: two seconds. It is
# the only one of its kind, and nobody changes the copy.
setattr(ConfigStore, "__deepcopy__", _itself)  # noqa: B010

STORE = ConfigStore.instance()
OPTIONS: dict[str, dict[str, type]] = {}  # group -> option name -> dataclass
TEMPLATES = ("none", "a", "imagenet79")


class Kind:
    """An option whose class is its kind.

    Attributes:
        kind_key: a saved configuration names the option under this key, among its settings; empty:
            it does not.
    """

    kind_key: ClassVar[str] = ""


def option(group: str, name: str) -> Callable[[type[T]], type[T]]:
    """Make a dataclass the option ``group=name``."""

    def register(cls: type[T]) -> type[T]:
        STORE.store(group=group, name=name, node=cls, provider="dclip")
        OPTIONS.setdefault(group, {})[name] = cls
        return cls

    return register


def name_of(group: str, option: type) -> str:
    """What an option's class is called on the command line."""
    for name, known in OPTIONS[group].items():
        if option is known:
            return name
    return option.__name__


def option_name(group: str, chosen: object) -> str:
    """What a chosen option is called on the command line."""
    return name_of(group, type(chosen))


def check_given(owner: str, **texts: str | None) -> None:
    """DclipError naming the setting for a text that is empty, as of a shell variable that is not set."""
    for name, text in texts.items():
        setting = f"{owner}.{name}".removeprefix(".")
        need(
            text is None or bool(text.strip()), f"{setting} is empty; give a path, or leave it out"
        )


def check_positive(owner: str, **values: float) -> None:
    """DclipError naming the setting for a value that is not greater than 0."""
    _check_finite(owner, values)
    for name, value in values.items():
        need(value > 0, f"{owner}.{name}={value} must be greater than 0")


def check_not_negative(owner: str, **values: float) -> None:
    """DclipError naming the setting for a value below 0."""
    _check_finite(owner, values)
    for name, value in values.items():
        need(value >= 0, f"{owner}.{name}={value} must be 0 or greater")


def _check_finite(owner: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        need(math.isfinite(value), f"{owner}.{name}={value} is not a finite number")
