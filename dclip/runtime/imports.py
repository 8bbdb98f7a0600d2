"""Importing diffusers, open_clip and torchmetrics without what they import and dclip never uses.

On the way they import torch's compiler and its FlexAttention, scipy.stats and scipy.signal, W&B,
requests and a hundred other networks, and diffusers lists every file of every installed package, which takes
longer than all the rest of a run's start. While ``lightly`` lasts, the former are only promised, and
the list is empty. Code of theirs that is written to be left out of compiling (hooks of diffusers) is
then not marked so; dclip has no use for it.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
UTILS = f"{COMPILER}.utils"
UNETS = "diffusers.models.unets"  # of which one is taken
TRANSFORMERS = {  # what that one's blocks could call
    "diffusers.models.transformers.dual_transformer_2d": "DualTransformer2DModel",
    "diffusers.models.transformers.transformer_2d": "Transformer2DModel",
}
SIGNALS = "scipy.signal"
PACKAGES = (
    "scipy.stats",
    SIGNALS,
    "wandb",
    "requests",
    "torch.nn.attention.flex_attention",
    COMPILER,
)


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
    signals = sys.modules.get(SIGNALS)
    if isinstance(signals, Promised):
        vars(signals).update(hamming=None)  # torchmetrics only looks whether it is there
    if UNETS not in sys.modules:
        _promise_unets()
    listing = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict  # diffusers then takes names as they are
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = listing
        _withdraw()


def before_lightning() -> None:
    """Import torchmetrics lightly; Lightning, imported after it, would import it in full."""
    with lightly():
        import_module("torchmetrics")


def _promise(name: str) -> Promised:
    """A promised package; its spec tells others that it is installed."""
    spec = find_spec(name)
    promised = Promised(name)
    if spec is not None:
        promised.__spec__ = spec
        promised.__path__ = spec.submodule_search_locations or []
    return promised


def _promise_unets() -> None:
    """The folder of diffusers' U-Nets, which does not import them all, and their transformers."""
    sys.modules[UNETS] = unets = Promised(UNETS)
    diffusers = find_spec("diffusers")
    assert diffusers is not None and diffusers.origin is not None
    unets.__path__ = [str(Path(diffusers.origin).parent / "models" / "unets")]
    for name, block in TRANSFORMERS.items():
        sys.modules[name] = promised = Promised(name)
        setattr(promised, block, partial(_call, name, block))


def _call(module: str, name: str, *args: Any, **settings: Any) -> Any:
    return getattr(import_module(module), name)(*args, **settings)


def _withdraw() -> None:
    for name in (*PACKAGES, UTILS, UNETS, *TRANSFORMERS):
        if isinstance(sys.modules.get(name), Promised):
            del sys.modules[name]
