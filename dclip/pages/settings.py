"""Which settings of a run are others than the defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from dclip.config import plain
from dclip.errors import DclipError

log = logging.getLogger("dclip")

# They say where a run is and what it is called, not what it does.
BESIDE = ("output", "name", "note", "sweep", "resume", "plan", "offline")


@dataclass(frozen=True)
class Changed:
    """A setting that differs from its default; ``default`` is empty where there is none."""

    name: str
    value: str
    default: str


def flat(settings: Mapping[str, object], above: str = "") -> dict[str, str]:
    """Nested settings by dotted name, values as YAML has them."""
    result: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        else:
            result[name] = _written(value)
    return result


def _written(value: object) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


@cache
def _defaults() -> dict[str, str]:
    """The settings of a run for which nothing was said; empty where they cannot be composed."""
    from hydra.core.global_hydra import GlobalHydra

    from dclip.prepare.compose import check_overrides, configured

    within = GlobalHydra.instance().is_initialized()  # a command that Hydra has started
    try:
        return flat(plain(check_overrides([]) if within else configured([])))
    except DclipError as error:
        log.debug("the report cannot say which settings are defaults: %s", error)
        return {}


def changed(config: Path) -> list[Changed]:
    """What a run's config.yaml has that ``python run.py`` alone would not have."""
    defaults = _defaults()
    if not config.is_file() or not defaults:
        return []
    settings = yaml.safe_load(config.read_text("utf-8"))
    if not isinstance(settings, dict):
        return []
    found = []
    for name, value in flat(settings).items():
        default = defaults.get(name, "")
        if value != default and name not in BESIDE:
            found.append(Changed(name, value, default))
    return found
