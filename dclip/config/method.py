"""How an edit is made: the options of ``method=``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dclip.config.options import _positive, _weights, option
from dclip.errors import need

# ---------------------------------------------------------------------------------------------------- fine-tuning


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


@dataclass
class Lora:
    """Low-rank updates in place of full weights: ``rank`` 0 is off.

    Of the base's size, rank 4 takes 1.2 % for the published 256x256 networks, and 4.8 % (rank 8: 9.6 %) for ToonFaces.
    """

    rank: int = 0
    alpha: float | None = None  # the update is scaled by alpha / rank; null: alpha = rank
    attention: bool = True  # which layers get one: attention's projections,
    conv: bool = True  # convolutions,
    time: bool = True  # and projections of the time embedding
    decoder_from: int | None = (
        None  # only in the decoder's blocks from this one on; edits then share all that comes before
    )

    def __post_init__(self) -> None:
        _weights("method.lora", rank=self.rank)
        need(
            self.decoder_from is None or (self.rank > 0 and self.decoder_from >= 0),
            f"method.lora.decoder_from={self.decoder_from} must be a block's number from 0 on, and needs method.lora.rank above 0",
        )
        if self.alpha is not None:
            _positive("method.lora", alpha=self.alpha)
        need(
            self.rank == 0 or self.attention or self.conv or self.time,
            "method.lora has a rank but no layers; set method.lora.attention, conv or time",
        )


@option("method", "diffusionclip")
@dataclass
class DiffusionClip:
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


@option("method", "none")
@dataclass
class NoMethod:
    """Leave the model as it is."""


# what latent optimisation pulls at; "global" as published
LatentLoss = StrEnum(
    "LatentLoss",
    ["contrastive", "spherical", "single", "global", "directional", "contrastive_directional"],
)


@option("method", "latent_opt")
@dataclass
class LatentOpt:
    """Optimise the latent itself through the whole chain of ``s_opt`` DDIM steps, for ``guidance.targets``.

    An image stops when its target's probability reaches ``stop_at`` (1: never), or when nothing has got better for
    ``patience`` steps. With a guidance, images are then sampled under it from the latents that were found.
    """

    steps: int = 30
    lr: float = 2e-2
    s_opt: int = 6
    objective: LatentLoss = LatentLoss.contrastive
    stop_at: float = 0.9
    patience: int = 15
    l1: float = 0.0  # to the image that the latent made before
    id: float = 0.0
    norm: float = 10.0  # weight of keeping the latent as long as it was
    batch: int = 8
    checkpointing: bool = (
        True  # compute steps again in the backward pass: memory does not grow with s_opt
    )

    def __post_init__(self) -> None:
        _positive(
            "method",
            steps=self.steps,
            lr=self.lr,
            patience=self.patience,
            batch=self.batch,
            stop_at=self.stop_at,
        )
        _weights("method", l1=self.l1, id=self.id, norm=self.norm)
        need(
            self.stop_at <= 1,
            f"method.stop_at={self.stop_at} is a probability; choose more than 0, up to 1 (never)",
        )
