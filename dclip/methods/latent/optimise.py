"""Latent optimisation: the latent itself moves, through the whole chain of DDIM steps.

x_T moves, the networks stay. The chain runs on a sub-sequence of the schedule that the model was
trained with (the report's code made a new, shorter schedule, so that its network never saw noise,
with a learning rate that could not move the latent). Every step is computed again in the backward
pass: a chain keeps one latent a step, not the network's activations.

    loss = clip L_CLIP(x0(x_T)) + l1 |x0(x_T) - source| + id L_id + norm (|x_T| / |start| - 1)^2

for each image (DiffusionCLIP's code: clip = 3 and L_CLIP = -log((1 + cos) / 2); preset=faithful).
The source is the image behind the latent, or, from noise, what the latent made before it moved.
Images are optimised in batches, but each on its own: its own Adam state, its own stop, so the batch
size changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dclip import losses
from dclip.config import SampleTask
from dclip.diffusion.sampler import EpsFn, Prediction, sample
from dclip.diffusion.timesteps import Pair, pairs_down
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.files import atomic_save
from dclip.methods.latent.settings import LatentOptions
from dclip.methods.sampling.objective import ClipObjective
from dclip.models.identity import IdentityModel
from dclip.models.unet import DiffusionModel
from dclip.record.record import Record
from dclip.run import Run
from dclip.runtime import parallel
from dclip.runtime.progress import progress_bar, shows_progress
from dclip.types import batches

LEAST = 1e-4  # a loss has got better if it fell by this much


def checkpointed(eps_fn: EpsFn) -> EpsFn:
    """The denoiser without its activations: they are computed again when the gradient needs them."""

    def call(x: Tensor, t: Tensor) -> Prediction:
        prediction: Prediction = checkpoint(eps_fn, x, t, use_reentrant=False)
        return prediction

    return call


@dataclass
class OptimisedLatents:
    """Latents and their images [N,3,H,W], the images before, and how it went (per image)."""

    latents: Tensor
    images: Tensor
    before: Tensor
    steps: Tensor  # optimiser steps until the best latent's image stopped
    curves: list[dict[str, float]] = field(default_factory=list)


class LatentChain:
    """Latents to images, differentiably."""

    def __init__(
        self,
        model: DiffusionModel,
        pairs: Sequence[Pair],
        clip_x0: bool = True,
        checkpointing: bool = True,
    ) -> None:
        self.model, self.pairs, self.clip_x0 = model, list(pairs), clip_x0
        self.eps_fn: EpsFn = checkpointed(model.predict) if checkpointing else model.predict

    def __call__(self, latents: Tensor) -> Tensor:
        """Images [N,3,H,W]; the gradient flows through every step."""
        x = latents.contiguous(memory_format=torch.channels_last)
        return sample(self.eps_fn, x, self.pairs, self.model.schedule, clip_x0=self.clip_x0)


@dataclass
class LatentLoss:
    """The loss of a batch, image by image.

    Attributes:
        start: the latents before they moved.
        before: what they made.
        sources: the images to stay near.
        competing: whether targets have distractors, so that there is a probability to reach.
    """

    options: LatentOptions
    objective: ClipObjective
    start: Tensor
    before: Tensor
    sources: Tensor
    identity: IdentityModel | None
    competing: bool = True
    source_features: list[Tensor] = field(default_factory=list)
    id_features: Tensor | None = None

    def __post_init__(self) -> None:
        with torch.no_grad():
            if self.objective.needs_source:
                self.source_features = self.objective.features(self.sources)
            if self.identity is not None and self.options.id > 0:
                self.id_features = self.identity.features(self.sources)

    def __call__(
        self, latents: Tensor, images: Tensor, index: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Losses [n] and target probabilities [n] of the images at ``index``."""
        o, chosen = self.options, list(index)
        features = self.objective.features(images)
        loss = o.clip * torch.stack([self._clip(features, k, i) for k, i in enumerate(index)])
        if o.l1:
            loss = loss + o.l1 * (images - self.sources[chosen]).abs().flatten(1).mean(1)
        if self.identity is not None and self.id_features is not None:
            seen = self.identity.features(images)
            loss = loss + o.id * _identity_losses(seen, self.id_features[chosen])
        if o.norm:
            length = latents.flatten(1).norm(dim=1) / self.start[chosen].flatten(1).norm(dim=1)
            loss = loss + o.norm * (length - 1).square()
        return loss, self._reached(features[0])

    @torch.no_grad()
    def _reached(self, features: Tensor) -> Tensor:
        if not self.competing:
            return torch.zeros(len(features), device=features.device)
        return self.objective.readers[0].target_probability(features)

    def _clip(self, features: Sequence[Tensor], k: int, i: int) -> Tensor:
        image = [f[k : k + 1] for f in features]
        source = [f[i : i + 1] for f in self.source_features]
        return self.objective.loss(image, source)


def _identity_losses(after: Tensor, before: Tensor) -> Tensor:
    pairs = zip(after, before, strict=True)
    return torch.stack([losses.identity(new, old) for new, old in pairs])


@dataclass
class _Best:
    """The best latent of one image so far, or the last one where ``keep_best`` is off."""

    options: LatentOptions
    latent: Tensor
    image: Tensor
    loss: float = float("inf")
    waited: int = 0
    steps: int = 0
    done: bool = False

    def update(self, latent: Tensor, image: Tensor, loss: float, reached: bool, step: int) -> None:
        """One more evaluation: better, reached, or one step more without success."""
        better = loss < self.loss - LEAST or reached
        if better or not self.options.keep_best:
            self.latent, self.image = latent.detach().clone(), image.detach().clone()
        if better:
            self.loss, self.waited = loss, 0
        else:
            self.waited += 1
        self.steps, self.done = step, reached or self.waited >= self.options.patience


class _Batch:
    """The latents of one batch while they are optimised; each image stops by itself."""

    def __init__(self, loss_fn: LatentLoss, options: LatentOptions) -> None:
        self.loss_fn, self.options = loss_fn, options
        self.moving = [latent.clone().requires_grad_() for latent in loss_fn.start]
        pairs = zip(loss_fn.start, loss_fn.before, strict=True)
        self.best = [_Best(options, latent, image) for latent, image in pairs]
        self.adam = torch.optim.Adam(self.moving, options.lr)
        self.curves: list[dict[str, float]] = []
        self._losses: dict[int, float] = {}
        self._reached: dict[int, float] = {}

    def open(self) -> list[int]:
        """Positions of the images that have not stopped."""
        return [i for i, best in enumerate(self.best) if not best.done]

    def evaluate(self, chain: LatentChain, index: Sequence[int], step: int) -> Tensor:
        """Losses [n] of the images at ``index``; their best latents are kept."""
        latents = torch.stack([self.moving[i] for i in index])
        images = chain(latents)
        loss, reached = self.loss_fn(latents, images, index)
        if not bool(torch.isfinite(loss).all()):
            raise DclipError(
                "the latent's loss is not finite: the optimisation diverged; lower method.lr"
            )
        stop_at = self.options.stop_at
        for k, i in enumerate(index):
            value, p = float(loss[k].detach()), float(reached[k])
            self._losses[i], self._reached[i] = value, p
            stops = stop_at < 1 and p >= stop_at
            self.best[i].update(self.moving[i], images[k], value, stops, step)
        self.curves.append(self._means())
        return loss

    def move(self, loss: Tensor) -> None:
        """One step of Adam; an image that has stopped has no gradient, and stays where it is."""
        self.adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        if self.options.unit_gradients:
            _unit_gradients(self.moving)
        self.adam.step()

    def result(self) -> OptimisedLatents:
        """The best latents, and how it went."""
        return OptimisedLatents(
            torch.stack([best.latent for best in self.best]),
            torch.stack([best.image for best in self.best]),
            self.loss_fn.before,
            torch.tensor([float(best.steps) for best in self.best]),
            self.curves,
        )

    def _means(self) -> dict[str, float]:
        means = {"loss_total": _mean(self._losses.values())}
        if self.loss_fn.competing:
            means["p_target"] = _mean(self._reached.values())
        return means


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def _unit_gradients(latents: Sequence[Tensor]) -> None:
    """Only directions count.

    A direction's gradient is huge where nothing has changed yet, and would keep Adam still after it.
    """
    for latent in latents:
        if latent.grad is not None:
            latent.grad /= latent.grad.norm().clamp_min(1e-20)


def optimise_batch(
    chain: LatentChain, loss_fn: LatentLoss, options: LatentOptions, bar: Any = None
) -> OptimisedLatents:
    """Optimise the latents of one batch; each image's best latent is kept."""
    batch = _Batch(loss_fn, options)
    for step in range(options.steps + 1):
        index = batch.open()
        if not index:
            break
        loss = batch.evaluate(chain, index, step)
        going = [k for k, i in enumerate(index) if not batch.best[i].done]
        if going and step < options.steps:
            batch.move(loss[going])
        if bar is not None:
            bar.update()
    if bar is not None:
        bar.update(options.steps + 1 - len(batch.curves))
    return batch.result()


def optimise(
    run: Run, options: LatentOptions, task: SampleTask, objective: ClipObjective, start: Encoded
) -> OptimisedLatents:
    """Optimise latents [N,3,H,W] at ``sampler.t0``, each process its share. Curves go into the record."""
    sampler, device = run.cfg.sampler, run.device
    pairs = pairs_down(sampler.t0, options.s_opt, sampler.final_step, sampler.grid)
    chain = LatentChain(run.model.to(device), pairs, task.clip_x0, options.checkpointing)
    mine = parallel.share(len(start))
    groups = [mine[part] for part in batches(len(mine), options.batch)]
    competing = all(len(others) for others in objective.readers[0].distractors)
    total = len(groups) * (options.steps + 1)
    parts: list[OptimisedLatents] = []
    with progress_bar("optimising latents", total, shown=shows_progress(run.cfg.trainer)) as bar:
        for group in groups:
            latents = start.latents[group].to(device)
            with torch.no_grad():
                before = chain(latents)
            sources = before
            if start.images is not None:
                sources = start.images.pixels[group].to(device)
            identity = run.networks.identity
            loss = LatentLoss(options, objective, latents, before, sources, identity, competing)
            parts.append(optimise_batch(chain, loss, options, bar))
    _curves(run.record, parts, [len(group) for group in groups])
    return _whole(parts, len(start), start.latents)


def _whole(parts: Sequence[OptimisedLatents], count: int, like: Tensor) -> OptimisedLatents:
    """All processes' latents in the images' order."""

    def together(pieces: list[Tensor], empty: Tensor) -> Tensor:
        mine = torch.cat([piece.detach().float().cpu() for piece in pieces or [empty]])
        return parallel.gather(mine, count)

    none = like[:0]
    return OptimisedLatents(
        together([part.latents for part in parts], none),
        together([part.images for part in parts], none),
        together([part.before for part in parts], none),
        together([part.steps for part in parts], torch.zeros(0)),
    )


def _curves(record: Record, parts: Sequence[OptimisedLatents], sizes: Sequence[int]) -> None:
    """One line a step, the mean over images; those that stopped early count with their last values."""
    total = sum(sizes)
    for step in range(max((len(part.curves) for part in parts), default=0)):
        means: dict[str, float] = {}
        for part, size in zip(parts, sizes, strict=True):
            for name, value in part.curves[min(step, len(part.curves) - 1)].items():
                means[name] = means.get(name, 0) + value * size
        record.curve({name: value / total for name, value in means.items()}, step)


def save_latents(run: Run, ids: Sequence[str], latents: Tensor, texts: Sequence[str]) -> None:
    """Write latents.safetensors into the run's folder: latents [N,3,H,W], in its header what they are."""
    if not run.record.writes:
        return
    header = {
        "kind": "latents",
        "ids": list(ids),
        "t0": run.cfg.sampler.t0,
        "texts": list(texts),
        "base": run.model.info.name,
        "base_sha256": run.model.digest,
    }
    metadata = {"dclip": json.dumps(header, sort_keys=True)}
    tensors = {"latents": latents.detach().cpu().contiguous()}

    def write(path: Path) -> None:
        save_file(tensors, str(path), metadata=metadata)

    atomic_save(run.record.folder / "latents.safetensors", write)
