"""In place of objects of classes that are not known: what they held, and nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping


class Inert:
    """What an object of an unknown class held when it was pickled."""

    def __init__(self, *args: object) -> None:
        self.held: object = args

    def __setstate__(self, state: object) -> None:
        self.held = state


def held(value: object, *names: str) -> object:
    """What an ``Inert`` object, or a dictionary in it, held under these names; None if nothing."""
    for name in names:
        if isinstance(value, Inert):
            value = value.held
        if isinstance(value, Mapping) and "__dict__" in value:  # of pydantic
            value = value["__dict__"]
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value
