"""``method=diffusionclip`` and its settings. Imports nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dclip.config import Config, Lora, option
from dclip.config.options import check_positive
from dclip.errors import need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, Method
from dclip.methods.diffusionclip.settings import LrSchedule, ObjectiveName

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.models.networks import Networks
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run

log = logging.getLogger("dclip")


@option("method", "diffusionclip")
@dataclass
class DiffusionClip(Method):
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
        check_positive(
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

    @property
    def needs_latents(self) -> bool:
        """All objectives but ``onestep`` start from inverted latents."""
        return self.objective is not ObjectiveName.onestep

    def needs(self, cfg: Config) -> frozenset[str]:
        """The networks of the loss whose weights are above 0."""
        roles = set()
        if cfg.loss.clip + cfg.loss.shift > 0:
            roles.add("clip")
        if cfg.loss.id > 0:
            roles.add("identity")
        return frozenset(roles)

    def check(self, cfg: Config) -> None:
        """Steps, losses and batches of a fine-tuning."""
        t0, loss, devices = cfg.sampler.t0, cfg.loss, cfg.trainer.devices
        need(
            self.s_train <= t0 + 1,
            f"method.s_train={self.s_train} is impossible with sampler.t0={t0}",
        )
        need(self.s_train >= 2, f"method.s_train={self.s_train} must be 2 or more")
        need(
            not self.faithful_id or loss.clip + loss.l1 + loss.shift > 0,
            "method.faithful_id=true leaves nothing with a gradient where loss.clip, loss.shift "
            "and loss.l1 are 0",
        )
        last = cfg.dataset.train % self.batch if cfg.input is None else 0
        need(
            self.batch % devices == 0 and last % devices == 0,
            f"trainer.devices={devices} cannot share batches of {self.batch} and a last one of "
            f"{last} evenly; choose method.batch and dataset.train as multiples",
        )
        need(
            cfg.edit.adapter is None,
            "edit.adapter is for task=edit; a fine-tuning starts from the checkpoint",
        )

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """A decoder block that is not there is refused; an identity loss without a network is said."""
        from dclip.models.lora import ending

        ending(networks.model.unet, self.lora)
        if cfg.loss.id > 0 and networks.identity is None:
            log.warning(
                "loss.id=%g has no effect: there is no identity network for these images "
                "(checkpoint.domain=faces?)",
                cfg.loss.id,
            )

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """The chain forward and backward for every training image, forward for validation.

        Of low-rank updates, gradients and moments are nothing beside the weights.
        """
        passes = BACKWARD * images.train + images.validation
        kept = {
            ObjectiveName.chain: self.s_train,
            ObjectiveName.annealed: self.s_train,
            ObjectiveName.last_k: self.k,
        }
        return Cost(
            {"fine-tune": self.epochs * self.s_train * passes},
            weights=2 if self.lora.rank else 5,
            graphs=kept.get(self.objective, 1) * self.batch,
        )

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Fine-tune a copy of the model on the training images."""
        from dclip.methods.diffusionclip.fit import adapt

        return adapt(run, self, starts)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """Full weights or low-rank updates, ours or published."""
        from dclip.edits.network import NetworkEdit

        return NetworkEdit.load(saved, model)
