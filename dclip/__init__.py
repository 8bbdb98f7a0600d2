"""dclip: edit and generate images with a diffusion model under CLIP's guidance.

The functions below are for notebooks; they load what they need when they are first called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Threads of libgomp spin while they wait for each other; where anything else runs on the machine, that costs many times the work.
# It reads this when torch loads it; whoever has set it is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from dclip.api import (
        edit,
        finetune,
        generate,
        invert,
        load_clip,
        load_images,
        load_model,
        measure,
        sample,
        save_images,
    )

__version__ = "0.1.0"
__all__ = [
    "edit",
    "finetune",
    "generate",
    "invert",
    "load_clip",
    "load_images",
    "load_model",
    "measure",
    "sample",
    "save_images",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import dclip.api

        return getattr(dclip.api, name)
    raise AttributeError(f"module 'dclip' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
