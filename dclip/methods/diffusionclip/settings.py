"""What the fine-tuning loop reads of its option. Imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from dclip.config import Lora


class LrSchedule(StrEnum):
    """How the learning rate changes while fine-tuning."""

    constant = "constant"
    paper = "paper"  # x 1.2 (linearly) every 50 images' worth of updates
    code = "code"  # x 1.3 every epoch (exponentially)
    cosine = "cosine"  # up over the first twentieth of the batches, then down to 0 along a cosine


class ObjectiveName(StrEnum):
    """How the loss reaches the network; each is described in ``dclip/methods/diffusionclip/objectives.py``."""

    chain = "chain"  # gradient through all steps (the paper)
    chain_checkpointed = "chain_checkpointed"  # the same gradient, in the memory of one step
    gpu_efficient = (
        "gpu_efficient"  # one update per step, on its predicted x0 (published for small GPUs)
    )
    last_k = "last_k"  # gradient through the last k steps
    onestep = "onestep"  # on the x0 predicted from one noised image (Eff-Diff)
    annealed = "annealed"  # last_k with k from 1 to all steps over the epochs


class TuningOptions(Protocol):
    """The settings of a fine-tuning; ``options.DiffusionClip`` explains them."""

    epochs: int
    batch: int
    lr: float
    lr_schedule: LrSchedule
    s_train: int
    save_every: int
    objective: ObjectiveName
    k: int
    faithful_id: bool
    drawn_t: bool
    lora: Lora
