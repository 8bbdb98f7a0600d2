"""The device a run computes on."""

from __future__ import annotations

import torch

from dclip.config import Trainer
from dclip.errors import need
from dclip.runtime import parallel


def device_of(options: Trainer) -> torch.device:
    """The device that ``trainer.accelerator`` names. DclipError where it is not here."""
    name = options.accelerator
    if name in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", parallel.rank() % torch.cuda.device_count())
    if name in ("mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    need(
        name in ("auto", "cpu"),
        f"trainer.accelerator={name}: torch finds none here; set trainer=auto or trainer=cpu",
    )
    return torch.device("cpu")
