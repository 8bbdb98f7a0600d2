"""``method=diffusionclip`` and its objectives, an option each. Imports nothing heavy.

``docs/extend.md`` adds an objective.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from dclip.config import Config, Lora, option
from dclip.config.options import check_not_negative, check_positive
from dclip.data.domains import domain_named
from dclip.errors import need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, Method
from dclip.methods.diffusionclip.settings import LrSchedule
from dclip.runtime.imports import before_lightning

if TYPE_CHECKING:
    from dclip.diffusion.timesteps import Pair
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.methods.diffusionclip.loss import Terms
    from dclip.methods.diffusionclip.objectives import Work
    from dclip.models.networks import Networks
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run

log = logging.getLogger("dclip")


@dataclass(frozen=True)
class NetworkCalls:
    """Network calls that one image takes in one batch.

    Attributes:
        without_gradient: calls that only go forward.
        with_gradient: calls that are differentiated.
        kept: how many of these keep their graph at the same time.
    """

    without_gradient: float = 0
    with_gradient: float = 0
    kept: int = 1


@dataclass
class Learning(Method):
    """A method that learns an edit by gradient steps of the run's loss.

    Subclasses say what is changed (``adapt``, ``load``), how the loss reaches it (``__call__``),
    and what that costs.

    Attributes:
        paired: each step is compared with what the original model predicts there, not with the
            sharp source.
    """

    kind_key: ClassVar[str] = "objective"

    epochs: int = 5
    batch: int = 4
    lr: float = 2e-5
    lr_schedule: LrSchedule = LrSchedule.constant
    s_train: int = 6
    shuffle: bool = True  # every epoch sees the images in a new order
    save_every: int = 1  # epochs between checkpoints
    # of how many of the last epochs the edits are kept, for epoch=N; null: of all where they are
    # small (low-rank updates, h-space), else of none
    keep_epochs: int | None = None

    @property
    def paired(self) -> bool:
        """Compared with the sources."""
        return False

    def __post_init__(self) -> None:
        check_positive(
            "method",
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            s_train=self.s_train,
            save_every=self.save_every,
        )
        if self.keep_epochs is not None:
            check_not_negative("method", keep_epochs=self.keep_epochs)

    # ---------------------------------------------------------------------------- the objective

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of every update of a batch. Each yield is one update."""
        raise NotImplementedError

    def updates(self, pairs: Sequence[Pair]) -> int:
        """Optimiser steps of one batch."""
        return 1

    def network_calls(self) -> NetworkCalls:
        """Network calls of one image in one batch."""
        return NetworkCalls(with_gradient=self.s_train, kept=self.s_train)

    # ------------------------------------------------------------------------------- the method

    def needs(self, cfg: Config) -> frozenset[str]:
        """The networks of the loss whose weights are above 0."""
        roles = set()
        if cfg.loss.needs_clip:
            roles.add("clip")
        if cfg.loss.id > 0:
            roles.add("identity")
        return frozenset(roles)

    def check(self, cfg: Config) -> None:
        """Steps and batches of a fine-tuning."""
        t0, devices = cfg.sampler.t0, cfg.trainer.devices
        need(
            2 <= self.s_train <= t0 + 1,
            f"method.s_train={self.s_train} is impossible with sampler.t0={t0}; "
            f"choose 2 to {t0 + 1}",
        )
        last = cfg.dataset.train % self.batch if cfg.input is None else 0
        need(
            self.batch % devices == 0 and last % devices == 0,
            f"trainer.devices={devices} cannot share batches of {self.batch} and a last one of "
            f"{last} evenly; choose method.batch and dataset.train as multiples of trainer.devices",
        )
        need(
            cfg.edit.adapter is None,
            "edit.adapter is for task=edit; a fine-tuning starts from the checkpoint",
        )

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """An identity loss without a network is said."""
        if cfg.loss.id > 0 and networks.identity is None:
            hint = "" if domain_named(cfg.clip.name).drawn else " (checkpoint.domain=faces?)"
            log.warning(
                "loss.id=%g has no effect: there is no identity network for these images%s",
                cfg.loss.id,
                hint,
            )

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """The objective for every training image, the chain forward for validation.

        With the prior's call in every loss, and what the sources are predicted as (``paired``).
        """
        calls = self.network_calls()
        per_image = calls.without_gradient + BACKWARD * calls.with_gradient
        validated = self.s_train
        if cfg.loss.uses("prior"):
            per_image += self.updates([(0, 0)] * self.s_train)
            validated += 1
        passes = self.epochs * (per_image * images.train + validated * images.validation)
        if self.paired:
            passes += self.s_train * images.train
        return Cost({"fine-tune": passes}, graphs=calls.kept * self.batch)


@option("method", "diffusionclip")
@option("method", "chain")
@dataclass
class DiffusionClip(Learning):
    """Fine-tune the reverse process through the whole chain of ``s_train`` steps (DiffusionCLIP).

    The other objectives are subclasses: how the loss reaches the network, and what that costs.
    """

    lora: Lora = field(default_factory=Lora)

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of a batch."""
        from dclip.methods.diffusionclip.objectives import chain

        return chain(work)

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """A decoder block that is not there is refused."""
        from dclip.models.lora import ending

        ending(networks.model.unet, self.lora)
        super().check_networks(cfg, networks)

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """Of low-rank updates, gradients and moments are nothing beside the weights."""
        return replace(super().cost(cfg, images), weights=2 if self.lora.rank else 5)

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Fine-tune a copy of the model on the training images."""
        before_lightning()
        from dclip.methods.diffusionclip.fit import adapt

        return adapt(run, self, starts)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """Full weights or low-rank updates, ours or published."""
        from dclip.edits.network import NetworkEdit

        return NetworkEdit.load(saved, model)


@option("method", "chain_checkpointed")
@dataclass
class ChainCheckpointed(DiffusionClip):
    """The chain's gradient in the memory of one step: every call is made again on the way back."""

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of a batch."""
        from dclip.methods.diffusionclip.objectives import chain_checkpointed

        return chain_checkpointed(work)

    def network_calls(self) -> NetworkCalls:
        """Every call twice."""
        return NetworkCalls(self.s_train, self.s_train)


@option("method", "gpu_efficient")
@dataclass
class GpuEfficient(DiffusionClip):
    """One update for every step, on its predicted x0 (DiffusionCLIP, for small GPUs).

    ``faithful_id``: the identity loss sees the detached x, as published, and so has no gradient.
    ``paired``: each step is compared with what the original model predicts there (ours).
    """

    faithful_id: bool = False
    paired: bool = False

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of every update of a batch."""
        from dclip.methods.diffusionclip.objectives import gpu_efficient

        return gpu_efficient(work, self.faithful_id)

    def updates(self, pairs: Sequence[Pair]) -> int:
        """One a step."""
        return len(pairs)

    def network_calls(self) -> NetworkCalls:
        """One graph at a time."""
        return NetworkCalls(with_gradient=self.s_train)

    def check(self, cfg: Config) -> None:
        """Something must have a gradient."""
        super().check(cfg)
        others = {name: weight for name, weight in cfg.loss.weights.items() if name != "id"}
        need(
            not self.faithful_id or any(weight > 0 for weight in others.values()),
            "method.faithful_id=true leaves nothing with a gradient where only loss.id is above 0; "
            "set another weight of the loss, such as loss.clip=1",
        )


@option("method", "last_k")
@dataclass
class LastK(DiffusionClip):
    """Gradient through the last ``k`` steps (DRaFT, Clark et al. 2024)."""

    k: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            1 <= self.k <= self.s_train,
            f"method.k={self.k} is impossible with method.s_train={self.s_train}; "
            f"choose 1 to {self.s_train}",
        )

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of a batch."""
        from dclip.methods.diffusionclip.objectives import last_k

        return last_k(work, self.k)

    def network_calls(self) -> NetworkCalls:
        """The first steps without gradient."""
        return NetworkCalls(self.s_train - self.k, self.k, self.k)


@option("method", "onestep")
@dataclass
class OneStep(DiffusionClip):
    """On the x0 predicted from one noised image; nothing is inverted (Starodubcev et al. 2023).

    ``drawn_t``: noised to a t drawn from [1, t0] instead of t0.
    """

    drawn_t: bool = False

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of a batch."""
        from dclip.methods.diffusionclip.objectives import onestep

        return onestep(work, self.drawn_t)

    @property
    def needs_latents(self) -> bool:
        """Images are noised in closed form."""
        return False

    def network_calls(self) -> NetworkCalls:
        """A single one."""
        return NetworkCalls(with_gradient=1)


@option("method", "annealed")
@dataclass
class Annealed(DiffusionClip):
    """``last_k`` with k from 1 to all steps over the epochs."""

    def __call__(self, work: Work) -> Iterator[Terms]:
        """The loss terms of a batch."""
        from dclip.methods.diffusionclip.objectives import annealed

        return annealed(work)

    def network_calls(self) -> NetworkCalls:
        """On average half of the steps have a gradient; in the last epoch, all."""
        learned = (self.s_train + 1) / 2
        return NetworkCalls(self.s_train - learned, learned, self.s_train)
