"""What users add without changing dclip: modules of their own, named by ``plugins=`` and imported before the options are read.

A module registers what it brings: options by ``@dclip.config.option``, metrics by :func:`metric`, guidances in
``dclip.methods.sampling.guidance.LOSSES``. ``docs/extend.md`` has an example of each. Imports nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dclip.errors import DclipError
from dclip.prepare.launchers import show_path


def names_of(value: Any) -> list[str]:
    """``plugins`` as a list of names. DclipError for what is no name of a module."""
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise DclipError(
                f"plugins={name} is no module's name; for mine.py in this folder it is plugins=mine"
            )
    return names


def named(words: Iterable[str]) -> list[str]:
    """The plugins that a command line names, for options must be there before it is read as a whole."""
    told = [word for word in words if word.startswith("plugins=")]
    return names_of(OverridesParser.create().parse_override(told[-1]).value()) if told else []


def load(names: Sequence[str]) -> None:
    """Import modules, from this folder or from what is installed. DclipError for what cannot be imported."""
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module does
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DclipError(
                f"plugins={name} cannot be imported ({reason}); it is looked for in {here}"
            ) from error
    if names:
        show_path(Path(here))
