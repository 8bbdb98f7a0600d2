"""DiffusionCLIP (Kim, Kwon, Ye 2022) as a LightningModule.

The reverse process is fine-tuned so that the images that it generates from inverted latents, in
``s_train`` steps, follow a direction of CLIP. How the gradient flows through them is the choice of
the objective (``objectives.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dclip.config import Precision
from dclip.diffusion.sampler import sample
from dclip.diffusion.timesteps import Pair
from dclip.methods.diffusionclip.loss import EditLoss, Terms
from dclip.methods.diffusionclip.objectives import Work
from dclip.methods.diffusionclip.settings import LearningOptions, LrSchedule
from dclip.methods.diffusionclip.threads import BatchThreads
from dclip.models.unet import DiffusionModel
from dclip.runtime import parallel

Validation = tuple[EditLoss, Tensor]  # the loss of the validation images, and their latents
Draw = Callable[[int, Tensor], Mapping[str, float]]  # (epoch, edited validation images) -> scores


@dataclass(frozen=True)
class Frozen:
    """What training does not change. In here, Lightning keeps it out of the checkpoint."""

    model: DiffusionModel
    loss: EditLoss
    validation: Validation | None
    losses: Sequence[EditLoss]


class DiffusionClipTuning(L.LightningModule):
    """Fine-tuning. Which images a batch holds follows from (seed, batch), so it can be resumed.

    What is tuned (the whole network, or a change of it) is in the checkpoint.

    Args:
        model: the network that is tuned, with its schedule.
        loss: the loss of the training images.
        latents: theirs, [N,3,H,W]; none where the objective needs none.
        pairs: generation's timesteps.
        options: the objective with its settings.
        validation: loss and latents of images that are not trained on.
        draw: called with the edited validation images after every epoch.
        change: what is trained instead of the network: low-rank updates, a change in h-space.
        losses: one loss a step of ``pairs``, for objectives that compare each step with the
            original network's; empty: ``loss`` for all.
    """

    def __init__(
        self,
        model: DiffusionModel,
        loss: EditLoss,
        latents: Tensor,
        pairs: Sequence[Pair],
        options: LearningOptions,
        seed: int = 0,
        validation: Validation | None = None,
        draw: Draw | None = None,
        change: torch.nn.Module | None = None,
        losses: Sequence[EditLoss] = (),
    ) -> None:
        super().__init__()
        if change is None:
            self.unet = model.unet
        else:
            self.change = change
        self.automatic_optimization = False  # an objective may make several updates of one batch
        self.frozen = Frozen(model, loss, validation, losses)
        self.options, self.seed, self.pairs = options, seed, list(pairs)
        self.latents, self.draw = latents, draw
        self.threads: BatchThreads | None = None
        self.epoch_began = 0.0

    @property
    def tuned(self) -> torch.nn.Module:
        """What the optimiser changes."""
        return self.change if hasattr(self, "change") else self.unet

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the images."""
        return math.ceil(len(self.frozen.loss.images) / self.options.batch)

    @property
    def updates(self) -> int:
        """Optimiser steps of one batch; ``global_step`` counts these."""
        return self.options.updates(self.pairs)

    def images_of(self, step: int) -> list[int]:
        """Positions of the images that batch ``step`` sees: shuffled anew every epoch, or as they are."""
        epoch, k = divmod(step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        count, batch = len(self.frozen.loss.images), self.options.batch
        order = torch.arange(count)
        if self.options.shuffle:
            order = torch.randperm(count, generator=generator)
        return order[k * batch : (k + 1) * batch].tolist()

    def generate(self, latents: Tensor) -> Tensor:
        """Images from latents through the network being tuned."""
        model = self.frozen.model
        return sample(model.predict, latents, self.pairs, model.schedule)

    def work(self, batch: int) -> Work:
        """What the objective gets: this process's share of a batch."""
        model, loss = self.frozen.model, self.frozen.loss
        mine = self.images_of(batch)[parallel.rank() :: parallel.world()]
        latents = self.latents[mine] if self.options.needs_latents else self.latents
        latents = latents.to(self.device).contiguous(memory_format=torch.channels_last)
        epoch = batch // self.steps_per_epoch
        progress = epoch / max(self.options.epochs - 1, 1)
        return Work(
            model.predict,
            loss,
            model.schedule,
            self.pairs,
            latents,
            mine,
            batch,
            progress,
            self.seed,
            self.frozen.losses,
        )

    def training_step(self, *_: Any) -> None:
        """One batch through the objective. Logged is the mean over its updates."""
        work = self.work(self.global_step // self.updates)
        updates: list[Terms] = []
        optimizer: Any = self.optimizers()
        for terms in self._gradients(work):
            optimizer.step()
            updates.append({name: value.detach() for name, value in terms.items()})
        for name in updates[0]:
            mean = torch.stack([terms[name] for terms in updates]).mean()
            self.log(f"loss_{name}", mean, prog_bar=name == "total")
        schedulers: Any = self.lr_schedulers()
        self.log("lr", schedulers.get_last_lr()[0])
        schedulers.step()

    def _gradients(self, work: Work) -> Iterator[Terms]:
        """The terms of every update, with its gradient in place."""
        if self.threads is not None:
            yield from self.threads.updates(self.options, work, list(self.tuned.parameters()))
            return
        for terms in self.options(work):
            self.tuned.zero_grad()
            with torch.autocast(self.device.type, enabled=False):
                self.manual_backward(terms["total"])
            yield terms

    def on_train_epoch_start(self) -> None:
        """Look at the clock."""
        self.epoch_began = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """How many images a second this epoch learned from."""
        seconds = max(time.perf_counter() - self.epoch_began, 1e-9)
        self.log("images_per_s", len(self.frozen.loss.images) / seconds)

    def on_fit_start(self) -> None:
        """On a CPU, threads share a batch.

        Not among several processes, which share it already, and not under autocast, which belongs
        to one thread.
        """
        alone = self.device.type == "cpu" and parallel.world() == 1
        whole = self.trainer.precision == Precision.fp32.value
        if alone and whole and torch.get_num_threads() > 1:
            self.threads = BatchThreads()

    def validation_step(self, *_: Any) -> None:
        """Loss and pictures of images that are not trained on."""
        if self.frozen.validation is None:
            return
        loss, latents = self.frozen.validation
        edited = self.generate(latents.to(self.device))
        scores = {**loss(edited, range(len(latents))), "s_dir": loss.s_dir(edited)}
        for name, value in scores.items():
            self.log(f"val_{name}", value, prog_bar=name == "total", batch_size=len(latents))
        if self.draw is not None and not self.trainer.sanity_checking:
            for name, score in self.draw(self.current_epoch, edited).items():
                self.log(f"val_{name}", score, batch_size=len(latents))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checkpoints of older versions called low-rank updates ``lora``."""
        state = checkpoint["state_dict"]
        for key in list(state):
            if key.startswith("lora."):
                state["change." + key.removeprefix("lora.")] = state.pop(key)

    def configure_optimizers(self) -> Any:
        """Adam, as published; the learning rate follows ``lr_schedule``."""
        o = self.options
        optimizer = torch.optim.Adam(self.tuned.parameters(), o.lr, fused=True)
        factor = lr_factor(o.lr_schedule, o.batch, self.steps_per_epoch, o.epochs)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def lr_factor(
    schedule: LrSchedule, batch: int, steps_per_epoch: int, epochs: int = 1
) -> Callable[[int], float]:
    """The factor of the learning rate at a step: ``LrSchedule`` says what each does.

    The paper's "increased linearly by 1.2 per 50 iterations" has batches of 1, so 50 iterations are
    50 images.
    """
    total = steps_per_epoch * epochs
    rise = max(1, total // 20)

    def constant(step: int) -> float:
        return 1.0

    def paper(step: int) -> float:
        return 1 + 0.2 * (step * batch // 50)

    def code(step: int) -> float:
        return float(1.3 ** (step // steps_per_epoch))

    def cosine(step: int) -> float:
        fall = 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1))
        return min((step + 1) / rise, fall)

    factors = {
        LrSchedule.constant: constant,
        LrSchedule.paper: paper,
        LrSchedule.code: code,
        LrSchedule.cosine: cosine,
    }
    return factors[schedule]
