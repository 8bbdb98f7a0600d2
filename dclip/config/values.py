"""Settings as plain values, without OmegaConf where it would change nothing: a twentieth of the
time, for what every run and every cell of a study asks for several times.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

SIMPLE = (bool, int, float, str)


class Odd(Exception):  # noqa: N818
    """A value that OmegaConf would convert, resolve or refuse."""


def as_dict(config: Any) -> dict[str, Any]:
    """A dataclass as OmegaConf's ``to_container`` has it, enums by their names. Odd otherwise."""
    kind: type = type(config)
    hints = _hints(kind)
    settings = {}
    for one in fields(config):
        settings[one.name] = _value(getattr(config, one.name), hints[one.name])
    return settings


@cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError as error:  # a plug-in's types, imported for type checkers only
        raise Odd(str(error)) from error


def _value(value: Any, hint: Any) -> Any:
    if is_dataclass(value) and isinstance(hint, type) and isinstance(value, hint):
        return as_dict(value)
    if get_origin(hint) in (Union, UnionType):
        return _optional(value, get_args(hint))
    if get_origin(hint) is list and type(value) is list:
        [kind] = get_args(hint)
        return [_value(item, kind) for item in value]
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, Enum):
        if type(value) is hint:
            return value.name
        raise Odd(repr(value))
    return _simple(value, hint)


def _optional(value: Any, kinds: tuple[Any, ...]) -> Any:
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) != 1 or len(others) == len(kinds):
        raise Odd(repr(value))
    if value is None:
        return None
    return _value(value, others[0])


def _simple(value: Any, hint: Any) -> Any:
    if hint is Any:
        if value is None:
            return None
        if type(value) is list:
            return [_simple(item, Any) for item in value]
        hint = type(value)
    if hint not in SIMPLE or type(value) is not hint:
        raise Odd(repr(value))
    if hint is str and ("${" in value or value == "???"):
        raise Odd(value)
    return value
