"""What is wrong with the value of a setting, in our words instead of OmegaConf's."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig

from dclip.errors import choose

KINDS = {"Float": "a number", "Integer": "a whole number"}


def explain_value(word: str, cause: str, default: Any = None) -> str:
    """A refusal of ``word`` (``gamma=lots``) in one line.

    Args:
        cause: what OmegaConf says of the value.
        default: what the setting is where nobody sets it, as an example.
    """
    setting, _, value = word.partition("=")
    example = _example(setting, default)
    number = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", cause)
    if number is not None and number[2] in KINDS:
        part = ""
        several = number[1].startswith("[")
        if number[1] != value and value.startswith("[") and not several:
            part = f" ({number[1]} in it)"
        if several and setting == "gamma":
            example += "; of several edits each has its weight in mix.weights"
        return f"{word}{part} is not {KINDS[number[2]]}{example}"
    if "is not Optional" in cause:
        return f"{word}: nothing is not a value here; leave {setting} out{_as_is(default)}"
    if "is not a valid bool" in cause:
        return f"{word} is neither true nor false{example}"
    options = re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", cause)
    if options is not None:
        return f"{word} does not exist{choose(options[1], options[2].split(', '))}"
    if "is not a valid input for <enum" in cause:
        return f"{word} is not one of its choices{example}"
    if "is not a ListConfig" in cause and value.strip("'\"").startswith("["):
        return f"{word}: a ] is missing at its end"
    if "is not a ListConfig" in cause:
        return f"{word} is not a list; write {setting}=[{value}]"
    if "not a subclass of" in cause and isinstance(default, DictConfig):
        return f"{word}: {setting} is a group of settings; set one of {_below(setting, default)}"
    return f"{word}: {cause.split(' full_key')[0]}"


def _example(setting: str, default: Any) -> str:
    if default is None or isinstance(default, ListConfig | DictConfig):
        return ""
    return f"; give one, such as {setting}={_written(default)}"


def _as_is(default: Any) -> str:
    """What stands if a setting is left out."""
    if default is None or isinstance(default, ListConfig | DictConfig):
        return ""
    return f" for its default, {_written(default)}"


def _written(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _below(setting: str, default: DictConfig) -> str:
    names = [f"{setting}.{key!s}" for key in default]
    return ", ".join(names)
