"""``method=diffusionclip`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dclip.config import Lora, MethodOption, option
from dclip.config.options import _positive
from dclip.errors import need


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


@option("method", "diffusionclip")
@dataclass
class DiffusionClip(MethodOption):
    """Fine-tune the reverse process, by default through the whole chain of ``s_train`` steps (DiffusionCLIP, Sec. 3.1)."""

    epochs: int = 5
    batch: int = 4
    lr: float = 2e-5
    lr_schedule: LrSchedule = LrSchedule.constant
    s_train: int = 6
    save_every: int = 1  # epochs between checkpoints
    objective: ObjectiveName = ObjectiveName.chain
    k: int = 1  # last_k: how many steps carry the gradient
    faithful_id: bool = False  # gpu_efficient: the identity loss sees the detached x, as published, and so has no gradient
    drawn_t: bool = False  # onestep: noise to a drawn t in [1, t0] instead of t0
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        _positive(
            "method",
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            s_train=self.s_train,
            save_every=self.save_every,
        )
        need(
            1 <= self.k <= self.s_train,
            f"method.k={self.k} is impossible with method.s_train={self.s_train}; choose 1 to {self.s_train}",
        )
        for name, owner in (
            ("faithful_id", ObjectiveName.gpu_efficient),
            ("drawn_t", ObjectiveName.onestep),
        ):
            need(
                not getattr(self, name) or self.objective is owner,
                f"method.{name}=true is for method.objective={owner.value}, not {self.objective.value}",
            )
