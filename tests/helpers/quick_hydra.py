"""Hydra for the tests: it composes the same in less time, since composing is much of many tests."""

import copy
from pathlib import Path

from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore

_loaded = {}
_load = ConfigRepository.load_config
_map = defaults_list._create_interpolation_map


def be_quick():
    """Read a file or dataclass once, and map the choices only where a list asks for one."""
    ConfigRepository.load_config = _load_once
    defaults_list._create_interpolation_map = _map_if_asked


def _load_once(repository, config_path):
    node = _registered(config_path)
    key = config_path, id(node), tuple(_state(one, config_path) for one in repository.sources)
    if key not in _loaded:
        _loaded[key] = _load(repository, config_path), node  # a node that is kept keeps its id
    return copy.deepcopy(_loaded[key][0])


def _state(source, config_path):
    """Where a source looks, and what its file is at this moment."""
    if source.scheme() != "file":
        return source.full_path()
    path = Path(source.path, source._normalize_file_name(config_path)).resolve()
    if not path.is_file():
        return str(path)
    told = path.stat()
    return str(path), told.st_mtime_ns, told.st_size, told.st_ino


def _registered(config_path):
    """What the store of dataclasses has under a name."""
    found = ConfigStore.instance().repo
    for part in f"{config_path}.yaml".split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _map_if_asked(overrides, defaults, self_added):
    asked = any(one.is_interpolation() for one in defaults if not one.is_self())
    return _map(overrides, defaults, self_added) if asked else None
