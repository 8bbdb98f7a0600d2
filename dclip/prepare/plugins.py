"""What users add without changing dclip: modules of their own, named by ``plugins=``.

They are imported before the options are read. What a module registers, and how, is on
``docs/extend.md``, with examples. Imports nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dclip.errors import DclipError, one_line
from dclip.prepare.launchers import show_path


def names_of(value: Any) -> list[str]:
    """``plugins`` as a list of names. DclipError for what is no name of a module."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if value is None:
        return []
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise DclipError(
                f"plugins={name} is no module's name; for mine.py in this folder it is plugins=mine"
            )
    return [str(name) for name in names]


def named(words: Iterable[str]) -> list[str]:
    """The plugins that a command line names: their options must be there before it is composed."""
    names: list[str] = []
    for word in words:
        if word.startswith("plugins="):
            names = names_of(OverridesParser.create().parse_override(word).value())
    return names


def load(names: Sequence[str]) -> None:
    """Import modules, from this folder or from what is installed.

    DclipError for what cannot be imported.
    """
    if not names:
        return
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module does
            reason = f"{type(error).__name__}: {one_line(error, None)}"
            raise DclipError(
                f"plugins={name} cannot be imported ({reason}); it is looked for in {here}"
            ) from error
    show_path(Path(here))
