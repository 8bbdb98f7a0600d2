"""Importing diffusers and open_clip without what they import and dclip never uses.

On the way they import torch's compiler, scipy.stats and W&B, which takes longer than all the rest
of a run's start. While ``lightly`` lasts, these are only promised. Code of theirs that is written
to be left out of compiling (hooks and transformers of diffusers) is then not marked so; dclip has
no use for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
UTILS = f"{COMPILER}.utils"
PACKAGES = ("scipy.stats", "wandb", COMPILER)


class Promised(ModuleType):
    """Stands for a module; whoever takes anything of it gets it from the real one."""

    absent = ("allow_in_graph",)  # diffusers has a plain one of its own, for torch without it

    def __getattr__(self, name: str) -> Any:
        if name in self.absent or name.startswith("__"):
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)


def disable(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """The compiler's mark, which marks nothing."""
    if function is None:
        return disable
    return function


def is_compile_supported(device: Any) -> bool:
    """What torchvision asks the compiler for; answered when it is called."""
    return bool(import_module(UTILS).is_compile_supported(device))


@contextmanager
def lightly() -> Iterator[None]:
    """Import packages in here; what was imported before stays as it is."""
    for name in PACKAGES:
        if name not in sys.modules:
            sys.modules[name] = _promise(name)
    compiler = sys.modules[COMPILER]
    if isinstance(compiler, Promised):
        utils = Promised(UTILS)
        vars(compiler).update(disable=disable)
        vars(utils).update(is_compile_supported=is_compile_supported)
        sys.modules[UTILS] = utils
    try:
        yield
    finally:
        _withdraw()


def _promise(name: str) -> Promised:
    """A promised package; its spec tells others that it is installed."""
    spec = find_spec(name)
    promised = Promised(name)
    if spec is not None:
        promised.__spec__ = spec
        promised.__path__ = spec.submodule_search_locations or []
    return promised


def _withdraw() -> None:
    for name in (*PACKAGES, UTILS):
        if isinstance(sys.modules.get(name), Promised):
            del sys.modules[name]
