"""DiffusionCLIP (Kim, Kwon, Ye 2022): fine-tune the reverse process so that its images follow a direction of CLIP.

Loss (Eq. 10-11): clip * L_dir(x', x0) + l1 * |x' - x0| + id * L_id(x', x0), with x' generated from the inverted latent of
x0 in ``s_train`` steps. How the gradient flows through them is the objective's choice (``objectives.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dclip import losses
from dclip.config import Loss, Precision
from dclip.diffusion.sampler import sample
from dclip.diffusion.schedule import Pair
from dclip.methods.diffusionclip.objectives import (
    OBJECTIVES,
    Terms,
    Work,
    needs_latents,
    updates_per_batch,
)
from dclip.methods.diffusionclip.settings import LrSchedule, TuningOptions
from dclip.methods.diffusionclip.threads import Crew
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.models.lora import Lora
from dclip.models.unet import DiffusionModel
from dclip.runtime import parallel
from dclip.types import Images


@dataclass
class Objective:
    """The weighted loss of an edit, with everything about the source images computed once and kept.

    ``identity`` may be None only while its weight is 0.
    """

    weights: Loss
    clip: ClipModel
    identity: IdentityModel | None
    direction: Tensor
    images: Tensor
    clip_features: Tensor
    id_features: Tensor | None

    @classmethod
    def prepare(
        cls,
        weights: Loss,
        clip: ClipModel,
        identity: IdentityModel | None,
        images: Images,
        texts: tuple[str, str] | Tensor,
    ) -> Objective:
        """Encode the texts (or take a direction [D] of CLIP features as it is) and the source images."""
        if isinstance(texts, Tensor):
            direction = texts
        else:
            direction = losses.text_direction(
                clip.text_features, *texts, losses.templates(weights.templates)
            )
        with torch.no_grad():
            pixels = images.pixels.to(direction.device)
            used = identity if weights.id > 0 else None
            return cls(
                weights,
                clip,
                used,
                direction,
                pixels,
                clip.image_features(pixels),
                used.features(pixels) if used else None,
            )

    def __call__(
        self, edited: Tensor, index: Sequence[int], id_of: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss terms and their weighted ``total`` for edited images of the sources at ``index``. Off means absent.

        ``id_of`` is what the identity network looks at instead (``method.faithful_id``).
        """
        i, w = list(index), self.weights
        terms: dict[str, Tensor] = {}
        if w.clip > 0 or w.shift > 0:
            features, before = self.clip.image_features(edited), self.clip_features[i]
        if w.clip > 0:
            terms["clip"] = losses.directional(features, before, self.direction, w.form.value)
        if w.shift > 0:
            terms["shift"] = losses.shift(features, before, self.direction, w.margin)
        if w.l1 > 0:
            terms["l1"] = losses.l1(edited, self.images[i])
        if self.identity is not None and self.id_features is not None:
            terms["id"] = losses.identity(
                self.identity.features(edited if id_of is None else id_of), self.id_features[i]
            )
        terms["total"] = sum(
            (getattr(w, name) * value for name, value in terms.items()), edited.new_zeros(())
        )
        return terms

    def s_dir(self, edited: Tensor) -> Tensor:
        """Mean cosine of the image change with the text change (Eq. 30) of all sources, edited."""
        return losses.direction_cosine(
            self.clip.image_features(edited), self.clip_features, self.direction
        ).mean()


class DiffusionClipTuning(L.LightningModule):
    """Fine-tuning as a LightningModule. Which images a step sees is a function of (seed, batch), so a run can be resumed.

    ``method.objective`` says how the loss reaches the network. What is tuned (the whole network, or ``lora``, attached to
    it) is in the checkpoint; the frozen networks are kept out.
    """

    def __init__(
        self,
        model: DiffusionModel,
        objective: Objective,
        latents: Tensor,
        pairs: Sequence[Pair],
        options: TuningOptions,
        seed: int = 0,
        validation: tuple[Objective, Tensor] | None = None,
        show: Callable[[int, Tensor], Mapping[str, float]] | None = None,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        if lora is None:
            self.unet = model.unet
        else:
            self.lora = lora
        self.automatic_optimization = False  # an objective may make several updates of one batch
        self.options, self.seed, self.pairs = options, seed, list(pairs)
        self._frozen = (model, objective, validation)
        self.latents = latents
        self.show = show
        self.crew: Crew | None = None

    @property
    def tuned(self) -> torch.nn.Module:
        """What the optimiser changes."""
        return self.lora if hasattr(self, "lora") else self.unet

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the images."""
        return -(-len(self._frozen[1].images) // self.options.batch)

    @property
    def updates(self) -> int:
        """Optimiser steps of one batch; ``global_step`` counts these."""
        return updates_per_batch(self.options.objective, self.pairs)

    def images_of(self, step: int) -> list[int]:
        """Positions of the images that batch ``step`` sees: a fresh shuffle every epoch."""
        epoch, k = divmod(step, self.steps_per_epoch)
        count, drawer = (
            len(self._frozen[1].images),
            torch.Generator().manual_seed(self.seed * 1_000_003 + epoch),
        )
        order = torch.randperm(count, generator=drawer)
        return order[k * self.options.batch : (k + 1) * self.options.batch].tolist()

    def generate(self, latents: Tensor) -> Tensor:
        """Images from latents through the network being tuned."""
        model = self._frozen[0]
        return sample(model.predict, latents, self.pairs, model.schedule)

    def work(self, batch: int) -> Work:
        """What the objective gets: this process's share of a batch."""
        model, objective, _ = self._frozen
        mine = self.images_of(batch)[parallel.rank() :: parallel.world()]
        latents = self.latents[mine] if needs_latents(self.options.objective) else self.latents
        latents = latents.to(self.device).contiguous(memory_format=torch.channels_last)
        progress = batch // self.steps_per_epoch / max(self.options.epochs - 1, 1)
        return Work(
            model.predict,
            objective,
            model.schedule,
            self.pairs,
            latents,
            mine,
            batch,
            progress,
            self.options,
            self.seed,
        )

    def training_step(self, *_: Any) -> None:
        """One batch through the objective. Logged is the mean over its updates."""
        work = self.work(self.global_step // self.updates)
        seen: list[dict[str, Tensor]] = []
        optimizer: Any = self.optimizers()
        for terms in self._gradients(work):
            optimizer.step()
            seen.append({name: value.detach() for name, value in terms.items()})
        for name in seen[0]:
            self.log(
                f"loss_{name}",
                torch.stack([terms[name] for terms in seen]).mean(),
                prog_bar=name == "total",
            )
        schedulers: Any = self.lr_schedulers()
        schedulers.step()

    def _gradients(self, work: Work) -> Iterator[Terms]:
        """The terms of every update, with its gradient in place."""
        if self.crew is not None:
            yield from self.crew.updates(work, list(self.tuned.parameters()))
            return
        for terms in OBJECTIVES[self.options.objective](work):
            self.tuned.zero_grad()
            with torch.autocast(self.device.type, enabled=False):
                self.manual_backward(terms["total"])
            yield terms

    def on_fit_start(self) -> None:
        """On a CPU, threads share a batch; several processes share it already, and autocast belongs to one thread."""
        alone = self.device.type == "cpu" and parallel.world() == 1 and torch.get_num_threads() > 1
        self.crew = Crew() if alone and self.trainer.precision == Precision.fp32.value else None

    def validation_step(self, *_: Any) -> None:
        """Loss and pictures of images that are not trained on."""
        if self._frozen[2] is None:
            return
        objective, latents = self._frozen[2]
        edited = self.generate(latents.to(self.device))
        terms = objective(edited, range(len(latents)))
        terms["s_dir"] = objective.s_dir(edited)
        for name, value in terms.items():
            self.log(f"val_{name}", value, prog_bar=name == "total", batch_size=len(latents))
        if self.show is not None and not self.trainer.sanity_checking:
            for name, score in self.show(self.current_epoch, edited).items():
                self.log(f"val_{name}", score, batch_size=len(latents))

    def configure_optimizers(self) -> Any:
        """Adam, as published; the learning rate follows ``lr_schedule``."""
        optimizer = torch.optim.Adam(self.tuned.parameters(), self.options.lr, fused=True)
        factor = lr_factor(
            self.options.lr_schedule, self.options.batch, self.steps_per_epoch, self.options.epochs
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def lr_factor(
    schedule: LrSchedule, batch: int, steps_per_epoch: int, epochs: int = 1
) -> Callable[[int], float]:
    """Learning-rate factor by step: constant; the paper's "increased linearly by 1.2 per 50 iterations" (its batch is 1,
    so 50 iterations are 50 images); the published code's 1.3 to the power of the epoch; or a cosine down to 0."""
    total = steps_per_epoch * epochs
    if schedule is LrSchedule.cosine:
        return lambda step: min(
            (step + 1) / max(1, total // 20), 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1))
        )
    if schedule is LrSchedule.constant:
        return lambda step: 1.0
    if schedule is LrSchedule.paper:
        return lambda step: 1 + 0.2 * (step * batch // 50)
    return lambda step: float(1.3 ** (step // steps_per_epoch))
