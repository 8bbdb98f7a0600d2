"""Guidance: a wrapper that turns a denoiser into one that also follows CLIP. ``guide(eps_fn, context) -> eps_fn``.

=========  ============================  ====================================================================
symbol     code                          meaning
=========  ============================  ====================================================================
a, a'      ``a``                         alpha_bar at t and at t_next
beta       1 - a / a'                    variance of the noise between t_next and t (beta_t, if they are neighbours)
g          ``gradient``                  d/dx_t of the log-likelihood-like objective (minus the loss) of one image
gamma      ``scale``                     strength
=========  ============================  ====================================================================

**One shift for every sampler.** Classifier guidance (Dhariwal & Nichol 2021, Alg. 2) says for DDIM

    eps' = eps - gamma sqrt(1 - a) g.

The CLIP-guided sampling report (Eq. 5, as its code has it) instead adds gamma beta g to the mean of ancestral sampling:

    x_{t'} = (x_t - beta / sqrt(1 - a) eps + gamma beta g) / sqrt(1 - beta) + sigma z.

Both are the same: put eps' into the mean without the new term, and
-beta / sqrt(1 - a) * (-gamma sqrt(1 - a) g) = gamma beta g. The stride's beta cancels, so the shift of eps knows neither
the sampler nor its stride, and no sampler knows of guidance. (Where the predicted x0 is clamped, the shift is clamped too.)

Gradients are per image: losses are summed over the batch, lengths are measured image by image, and random views come from each
image's own generator. So the batch size never changes a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip import losses
from dclip.config import ClipRange, Guided, Normalise, Sees
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import EpsFn, Prediction, predict_x0
from dclip.diffusion.schedule import Schedule
from dclip.text.features import PromptFeatures

# ---------------------------------------------------------------------------------------------------- objective

# kind -> loss of the k-th prompt, from image features [N, D] and (for directional kinds) the source images' features
Term = Callable[[PromptFeatures, int, Tensor, Tensor], Tensor]


LOSSES: dict[str, Term] = {
    "contrastive": lambda r, k, f, _: losses.contrastive(
        f, r.targets[k], r.distractors[k], r.temperature
    ),
    "spherical": lambda r, k, f, _: losses.spherical(f, r.targets[k]),
    "single": lambda r, k, f, _: losses.single(f, r.targets[k]),
    "global": lambda r, k, f, _: losses.global_(f, r.targets[k]),
    "directional": lambda r, k, f, s: losses.directional(f, s, r.directions[k][0]),
    "contrastive_directional": lambda r, k, f, s: losses.contrastive_directional(
        f, s, *r.directions[k], r.temperature
    ),
}


@dataclass(frozen=True)
class ClipObjective:
    """What images are pulled towards: one loss of all prompts (weighted mean) under all readers (mean)."""

    kind: str
    readers: Sequence[PromptFeatures]
    weights: Sequence[float]

    @property
    def directional(self) -> bool:
        """Whether it needs source images."""
        return "directional" in self.kind

    def features(self, images: Tensor) -> list[Tensor]:
        """Each reader's features [N, D] of images in [-1, 1]."""
        return [reader.clip.image_features(images) for reader in self.readers]

    def loss(self, features: Sequence[Tensor], source: Sequence[Tensor] = ()) -> Tensor:
        """Mean loss of images from their features; ``source``: those of the source images, for directional kinds."""
        term, total = LOSSES[self.kind], features[0].new_zeros(())
        for i, (reader, seen) in enumerate(zip(self.readers, features, strict=True)):
            for k, weight in enumerate(self.weights):
                total = total + weight * term(reader, k, seen, source[i] if source else seen)
        return total / (len(self.readers) * sum(self.weights))


# ---------------------------------------------------------------------------------------------------- what CLIP sees


class Views:
    """Random squares of images, turned round and noisy, drawn from each image's own generator."""

    def __init__(self, options: Guided, ids: Sequence[str], seed: int) -> None:
        self.options, self.noise = options, ImageNoise(ids, seed)
        self.plain = not (options.cutouts or options.noise or options.flip)

    def boxes(self) -> Tensor:
        """Affine maps [C, N, 2, 3] from a view to the image, both in [-1, 1]: C squares an image, flipped or not."""
        o, count = self.options, max(1, self.options.cutouts)
        drawn = torch.stack(
            [torch.rand(4, count, generator=g) for g in self.noise.generators], 2
        )  # [4, C, N]
        side = (
            o.cut_min + (o.cut_max - o.cut_min) * drawn[0]
            if o.cutouts
            else torch.ones_like(drawn[0])
        )
        x, y = ((1 - side) * (2 * drawn[k] - 1) for k in (1, 2))
        turn = torch.where(drawn[3] < 0.5, -1.0, 1.0) if o.flip else torch.ones_like(side)
        zero = torch.zeros_like(side)
        return torch.stack(
            [torch.stack([turn * side, zero, x], -1), torch.stack([zero, side, y], -1)], -2
        )

    def cut(self, images: Tensor, boxes: Tensor, size: int) -> Tensor:
        """The views [C*N,3,size,size] of images [N,3,H,W], view by view."""
        if self.plain:
            return images
        count, n = boxes.shape[:2]
        theta = boxes.flatten(0, 1).to(images)
        grid = F.affine_grid(theta, [count * n, images.shape[1], size, size], align_corners=False)
        seen = F.grid_sample(
            images.repeat(count, 1, 1, 1), grid, padding_mode="border", align_corners=False
        )
        if self.options.noise:
            noise = self.noise.like(seen.new_empty(n, count, *seen.shape[1:]))
            seen = seen + self.options.noise * noise.transpose(0, 1).flatten(0, 1)
        return seen


def _share(sees: Sees, a: float) -> float:
    """How much of x0 (the rest: x_t) there is in what CLIP sees."""
    return {Sees.x_t: 0.0, Sees.blend: math.sqrt(1 - a)}.get(sees, 1.0)


def _through(sees: Sees, a: float) -> float:
    """d(what CLIP sees) / d(x_t) while eps is a constant."""
    share = _share(sees, a)
    return share / math.sqrt(a) + 1 - share


def _total_variation(x: Tensor) -> Tensor:
    return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()


def _out_of_range(x: Tensor) -> Tensor:
    return (x - x.clamp(-1, 1)).square().mean()


# ---------------------------------------------------------------------------------------------------- the wrapper


@dataclass(frozen=True)
class Context:
    """A batch: the images' names (the seeds of their random views), and their source pictures for directional kinds."""

    ids: Sequence[str]
    source: Tensor | None = None  # [N,3,H,W] in [-1, 1]


@dataclass
class Trace:
    """Probabilities of all prompts while sampling, summed over images: t -> [n, sum, sum of squares] per text."""

    sums: dict[int, tuple[int, Tensor, Tensor]] = field(default_factory=dict)

    def add(self, t: int, probabilities: Sequence[Tensor]) -> None:
        """Probabilities [N, 1 + M_k] of every prompt at step t."""
        p = torch.cat(list(probabilities), 1).detach().double().cpu()
        n, total, squares = self.sums.get(
            t, (0, torch.zeros(p.shape[1]).double(), torch.zeros(p.shape[1]).double())
        )
        self.sums[t] = (n + len(p), total + p.sum(0), squares + p.square().sum(0))

    def merge(self, others: Sequence[Trace]) -> Trace:
        """All processes' traces as one."""
        whole = Trace()
        for other in others:
            for t, (n, total, squares) in other.sums.items():
                m, old, old_squares = whole.sums.get(
                    t, (0, torch.zeros_like(total), torch.zeros_like(squares))
                )
                whole.sums[t] = (m + n, old + total, old_squares + squares)
        return whole


class Guide:
    """A guidance without its batch. Calling it wraps a denoiser for one; ``scale`` 0 hands the denoiser back untouched.

    ``trace`` collects the probabilities of all prompts, ``encoded`` counts the pictures that CLIP has looked at.
    """

    def __init__(
        self, options: Guided, objective: ClipObjective, schedule: Schedule, seed: int = 0
    ) -> None:
        self.options, self.objective, self.schedule, self.seed = options, objective, schedule, seed
        self.trace, self.encoded = Trace(), 0

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return self.options.scale > 0

    def __call__(self, eps_fn: EpsFn, context: Context) -> EpsFn:
        """The guided denoiser of one batch. ValueError if the guidance is directional and the batch has no sources."""
        if not self.active:
            return eps_fn
        if self.objective.directional and context.source is None:
            raise ValueError("directional guidance needs source images: Context(ids, source)")
        return _Guided(self, eps_fn, context)


class _Guided:
    """The denoiser of one batch under guidance. It remembers the last gradient, for the steps in between."""

    def __init__(self, guide: Guide, eps_fn: EpsFn, context: Context) -> None:
        self.guide, self.options, self.eps_fn = guide, guide.options, eps_fn
        self.views = Views(guide.options, context.ids, guide.seed)
        self.source: list[Tensor] = []
        if guide.objective.directional and context.source is not None:
            with torch.no_grad():
                self.source = guide.objective.features(context.source)
        self.calls = 0
        self.kept: tuple[Tensor, float] | None = (
            None  # the last gradient, and d(seen)/d(x_t) at its step
        )

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """eps' = eps - scale sqrt(1-a) g; a predicted variance is passed on."""
        step = int(t[0])
        if not self.options.t_end <= step <= self.options.t_start:
            return self.eps_fn(x, t)
        a = self.guide.schedule.alpha_bar(step)
        fresh = self.kept is None or self.calls % self.options.every == 0
        self.calls += 1
        if fresh:
            prediction, gradient = self._look(x, t, a)
            self.kept = gradient, _through(self.options.sees, a)
        else:
            prediction = self.eps_fn(x, t)
            assert self.kept is not None
            gradient = self.kept[0] * (_through(self.options.sees, a) / self.kept[1])
        return prediction.shifted(self._shift(gradient, prediction.eps, a))

    def _look(self, x: Tensor, t: Tensor, a: float) -> tuple[Prediction, Tensor]:
        """The denoiser's own output, and the gradient of the objective (minus the loss) at x_t, per image."""
        whole = self.options.sees is Sees.x0_through_unet
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            if whole:
                prediction = self.eps_fn(leaf, t)
            else:
                with torch.no_grad():
                    prediction = self.eps_fn(x, t)
            x0 = predict_x0(leaf, prediction.noise_of_x0, a)
            loss = len(x) * self._loss(leaf, x0, int(t[0]), a)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return prediction.map(Tensor.detach), -gradient

    def _loss(self, x: Tensor, x0: Tensor, step: int, a: float) -> Tensor:
        """Mean loss of the batch as CLIP sees it, plus the terms on the predicted x0."""
        o, objective, share = self.options, self.guide.objective, _share(self.options.sees, a)
        seen = x0 if share == 1 else share * x0 + (1 - share) * x
        if o.clip_range is ClipRange.raw:
            seen = 2 * seen - 1  # what CLIP's preprocessing turns back into the unmapped pixels
        features, boxes = [], Tensor() if self.views.plain else self.views.boxes()
        for reader in objective.readers:
            views = self.views.cut(seen, boxes, reader.clip.size)
            features.append(reader.clip.image_features(views))
            self.guide.encoded += len(views)
        self._remember(step, features[0], len(x))
        source = (
            [s.repeat(len(f) // len(s), 1) for s, f in zip(self.source, features, strict=True)]
            if self.source
            else []
        )
        loss = objective.loss(features, source)
        if o.range:
            loss = loss + o.range * _out_of_range(x0)
        return loss + o.tv * _total_variation(x0) if o.tv else loss

    def _remember(self, step: int, features: Tensor, count: int) -> None:
        """Probabilities of all prompts for the trace, averaged over an image's views; where nothing competes there are none."""
        reader = self.guide.objective.readers[0]
        if any(len(others) for others in reader.distractors):
            with torch.no_grad():
                seen = reader.probabilities(features.detach())
                self.guide.trace.add(step, [p.view(-1, count, p.shape[1]).mean(0) for p in seen])

    def _shift(self, gradient: Tensor, eps: Tensor, a: float) -> Tensor:
        """What is taken from eps."""
        o = self.options
        shift = o.scale * math.sqrt(1 - a) * gradient
        if o.normalise is Normalise.none:
            return shift
        length, most = shift.flatten(1).norm(dim=1), eps.flatten(1).norm(dim=1)
        if o.normalise is Normalise.bounded:
            most = torch.full_like(length, math.sqrt(a * shift[0].numel()))
        factor = o.scale * most / length.clamp_min(1e-20)
        if o.normalise is Normalise.cap:
            factor = (o.cap * most / length.clamp_min(1e-20)).clamp_max(1)
        limited: Tensor = shift * factor.view(-1, 1, 1, 1)
        return limited
