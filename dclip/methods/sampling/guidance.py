"""Guidance: a function that wraps a denoiser, so that it also follows CLIP.

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

The CLIP-guided sampling report (Eq. 5, as its code has it) instead adds gamma beta g to the mean of
ancestral sampling:

    x_{t'} = (x_t - beta / sqrt(1 - a) eps + gamma beta g) / sqrt(1 - beta) + sigma z.

Both are the same: put eps' into the mean without the new term, and
-beta / sqrt(1 - a) * (-gamma sqrt(1 - a) g) = gamma beta g. The stride's beta cancels, so the shift
of eps knows neither the sampler nor its stride, and no sampler knows of guidance. (Where the
predicted x0 is clamped, the shift is clamped too.)

Gradients are per image: losses are summed over the batch, lengths are measured image by image, and
random views come from each image's own generator. So the batch size never changes a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dclip.config import ClipRange, Guided, Normalise, Sees
from dclip.diffusion.sampler import EpsFn, Prediction, predict_x0
from dclip.diffusion.schedule import Schedule
from dclip.methods.sampling.objective import ClipObjective
from dclip.methods.sampling.trace import Observation, Observe
from dclip.methods.sampling.views import Views, share_of_x0, slope


@dataclass(frozen=True)
class Context:
    """A batch.

    Attributes:
        ids: the images' names, which are the seeds of their random views.
        source: their source pictures [N,3,H,W] in [-1, 1], where the guidance needs a direction.
    """

    ids: Sequence[str]
    source: Tensor | None = None


@dataclass(frozen=True)
class Guide:
    """A guidance without its batch. Calling it wraps the denoiser of one."""

    options: Guided
    objective: ClipObjective
    schedule: Schedule
    seed: int = 0

    def __call__(self, eps_fn: EpsFn, context: Context, observe: Observe | None = None) -> EpsFn:
        """The guided denoiser of one batch; with ``scale`` 0 the denoiser itself.

        ``observe`` is called with what CLIP saw, in every step in which it looks.

        Raises:
            ValueError: the guidance needs source images, and the batch has none.
        """
        if self.options.scale == 0:
            return eps_fn
        if self.objective.needs_source and context.source is None:
            raise ValueError("directional guidance needs source images: Context(ids, source)")
        return GuidedDenoiser(self, eps_fn, context, observe)


class GuidedDenoiser:
    """The denoiser of one batch under guidance. It keeps the last gradient for the steps between."""

    def __init__(
        self, guide: Guide, eps_fn: EpsFn, context: Context, observe: Observe | None
    ) -> None:
        self.options, self.objective, self.schedule = guide.options, guide.objective, guide.schedule
        self.eps_fn, self.observe = eps_fn, observe
        self.views = Views(guide.options, context.ids, guide.seed)
        self.source: list[Tensor] = []
        if self.objective.needs_source and context.source is not None:
            with torch.no_grad():
                self.source = self.objective.features(context.source)
        self.calls = 0
        # the last gradient, and d(what CLIP sees) / d(x_t) at its step
        self.last: tuple[Tensor, float] | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """eps' = eps - scale sqrt(1-a) g; a predicted variance is passed on."""
        o, step = self.options, int(t[0])
        if not o.t_end <= step <= o.t_start:
            return self.eps_fn(x, t)
        a = self.schedule.alpha_bar(step)
        if self.last is None or self.calls % o.every == 0:
            prediction, gradient = self._look(x, t, a)
            self.last = gradient, slope(o.sees, a)
        else:
            prediction = self.eps_fn(x, t)
            last, last_slope = self.last
            gradient = last * (slope(o.sees, a) / last_slope)
        self.calls += 1
        return prediction.shifted(shift_of(o, gradient, prediction.eps, a))

    def _look(self, x: Tensor, t: Tensor, a: float) -> tuple[Prediction, Tensor]:
        """The denoiser's own prediction, and the gradient of minus the loss at x_t, per image."""
        through_unet = self.options.sees is Sees.x0_through_unet
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            with torch.set_grad_enabled(through_unet):
                prediction = self.eps_fn(leaf, t)
            x0 = predict_x0(leaf, prediction.noise_of_x0, a)
            loss = len(x) * self._loss(leaf, x0, int(t[0]), a)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return prediction.map(Tensor.detach), -gradient

    def _loss(self, x: Tensor, x0: Tensor, step: int, a: float) -> Tensor:
        """Mean loss of the batch as CLIP sees it, plus the terms on the predicted x0."""
        o, share = self.options, share_of_x0(self.options.sees, a)
        seen = x0 if share == 1 else share * x0 + (1 - share) * x
        if o.clip_range is ClipRange.raw:
            seen = 2 * seen - 1  # what CLIP's preprocessing turns back into the unmapped pixels
        features = self._features(seen, step)
        source = []
        for before, after in zip(self.source, features, strict=False):
            source.append(before.repeat(len(after) // len(before), 1))  # one a view
        loss = self.objective.loss(features, source)
        if o.range:
            loss = loss + o.range * _out_of_range(x0)
        if o.tv:
            loss = loss + o.tv * _total_variation(x0)
        return loss

    def _features(self, images: Tensor, step: int) -> list[Tensor]:
        """Each CLIP's features of the images' views, view by view."""
        boxes = None if self.views.plain else self.views.boxes()
        features, count = [], 0
        for reader in self.objective.readers:
            views = self.views.cut(images, boxes, reader.clip.size)
            features.append(reader.clip.image_features(views))
            count += len(views)
        if self.observe is not None:
            probabilities = self._probabilities(features[0], len(images))
            self.observe(Observation(step, count, probabilities))
        return features

    @torch.no_grad()
    def _probabilities(self, features: Tensor, images: int) -> list[Tensor]:
        """Of all prompts, by the first CLIP, averaged over an image's views.

        Where a text has none that compete with it there are none.
        """
        reader = self.objective.readers[0]
        if not all(len(others) for others in reader.distractors):
            return []
        of_views = reader.probabilities(features.detach())
        return [p.view(-1, images, p.shape[1]).mean(0) for p in of_views]


def shift_of(options: Guided, gradient: Tensor, eps: Tensor, a: float) -> Tensor:
    """What guidance takes from eps: scale sqrt(1-a) g, as long as ``normalise`` says."""
    shift = options.scale * math.sqrt(1 - a) * gradient
    if options.normalise is Normalise.none:
        return shift
    length = shift.flatten(1).norm(dim=1).clamp_min(1e-20)
    eps_length = eps.flatten(1).norm(dim=1)
    if options.normalise is Normalise.cap:
        factor = (options.cap * eps_length / length).clamp_max(1)
    elif options.normalise is Normalise.eps:
        factor = options.scale * eps_length / length
    else:
        bound = torch.full_like(length, math.sqrt(a * shift[0].numel()))
        factor = options.scale * bound / length
    limited: Tensor = shift * factor.view(-1, 1, 1, 1)
    return limited


def _total_variation(x: Tensor) -> Tensor:
    return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()


def _out_of_range(x: Tensor) -> Tensor:
    return (x - x.clamp(-1, 1)).square().mean()
