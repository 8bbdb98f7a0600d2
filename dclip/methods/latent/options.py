"""``method=latent_opt`` and its settings. Imports nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Config, option
from dclip.config.options import check_not_negative, check_positive
from dclip.errors import need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, Method
from dclip.methods.sampling.guidances import ClipGuidance, guidance_named, guidances
from dclip.methods.sampling.options import check_steps, pulls, travel_calls
from dclip.methods.sampling.prompts import (
    check_prompts,
    guidance_name,
    guides,
    guiding_networks,
    task_of,
    title,
)

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.encode.encoded import Encoded
    from dclip.models.networks import Networks
    from dclip.run import Run

log = logging.getLogger("dclip")


@option("method", "latent_opt")
@dataclass
class LatentOpt(Method):
    """Optimise the latent itself through the whole chain of ``s_opt`` DDIM steps, for ``guidance.targets``.

    An image stops when its target's probability reaches ``stop_at`` (1: never), or when nothing has got better for
    ``patience`` steps. With a guidance, images are then sampled under it from the latents that were found.

    Attributes:
        clip: weight of the objective's loss.
        unit_gradients: only the direction of a latent's gradient counts, not its length.
        keep_best: a latent ends where its loss was lowest, not where its last step led.
    """

    learns = False
    follows_prompts = True
    published = "faithful_latent"

    steps: int = 30
    lr: float = 2e-2
    s_opt: int = 6
    objective: str = "contrastive"  # the loss of a guidance; published: "global_neg_log"
    clip: float = 1.0
    unit_gradients: bool = True
    keep_best: bool = True
    stop_at: float = 0.9
    patience: int = 15
    l1: float = 0.0  # to the image that the latent made before
    id: float = 0.0
    norm: float = 10.0  # weight of keeping the latent as long as it was
    batch: int = 8
    # compute steps again in the backward pass: memory does not grow with s_opt
    checkpointing: bool = True

    def __post_init__(self) -> None:
        check_positive(
            "method",
            steps=self.steps,
            lr=self.lr,
            patience=self.patience,
            batch=self.batch,
            stop_at=self.stop_at,
            clip=self.clip,
        )
        check_not_negative("method", l1=self.l1, id=self.id, norm=self.norm)
        need(
            self.stop_at <= 1,
            f"method.stop_at={self.stop_at} is a probability; choose more than 0, up to 1 (never)",
        )
        need(
            self.objective in guidances(),
            f"method.objective={self.objective} does not exist; choose {', '.join(guidances())}",
        )

    @property
    def pull(self) -> ClipGuidance:
        """What the latents are optimised for."""
        return guidance_named(self.objective)

    def needs(self, cfg: Config) -> frozenset[str]:
        """The CLIPs that pull, and the identity network where its weight is above 0."""
        identity = frozenset({"identity"} if self.id > 0 else ())
        return guiding_networks(cfg) | identity

    def is_random(self, cfg: Config) -> bool:
        """From images' latents, only a guidance's views are random."""
        return not task_of(cfg).from_images or guides(cfg)

    def check(self, cfg: Config) -> None:
        """The prompts must suit what pulls, and the chain must fit below t0."""
        task_of(cfg)
        check_prompts(cfg, [cfg.guidance, self.pull])
        check_steps(cfg)
        t0 = cfg.sampler.t0
        need(
            2 <= self.s_opt <= t0 + 1,
            f"method.s_opt={self.s_opt} is impossible with sampler.t0={t0}; choose 2 to {t0 + 1}",
        )

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """An identity loss without a network is said."""
        if self.id > 0 and networks.identity is None:
            log.warning(
                "method.id=%g has no effect: there is no identity network for these images", self.id
            )

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """Forward, forward again and backward through the chain at every step; the images before."""
        again = 1 if self.checkpointing else 0
        passes = 1 + (BACKWARD + again) * (self.steps + 1)
        calls = {"optimise": float(images.test * self.s_opt * passes)}
        if pulls(cfg):
            chain = cfg.sampler.generation_calls() + travel_calls(cfg)
            calls["sample"] = float(images.test * chain)
        kept = 1 if self.checkpointing else self.s_opt
        return Cost(calls, graphs=self.batch * kept)

    def title(self, cfg: Config) -> str:
        """What the latents were optimised for, and what guided after it."""
        guided = [guidance_name(cfg)] if guides(cfg) else []
        return title(cfg, [*guided, "latent_opt"])

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Nothing is learned before there are latents; each is optimised when the edit is applied."""
        from dclip.methods.latent.edit import LatentEdit

        return LatentEdit.of_method(run, self)
