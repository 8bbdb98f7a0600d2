"""An edit that follows a reward (h-Edit-R, implicit form; Nguyen et al., CVPR 2025, Alg. 2).

=======  ===========  ==========================================================================
symbol   code         meaning
=======  ===========  ==========================================================================
x_b      ``inner``    the step of the original network, with the source's noise map
x0(x)    ``x0``       (x - sqrt(1-a') eps) / sqrt(a'), eps as the original network says it at x
R        ``rewards``  what x0 shall lose: the edit's loss, then the distance to the source
w        ``scale``    size of the steps: x <- x - sqrt(a') w dR(x0(x)) / dx, with eps held fast
=======  ===========  ==========================================================================

With eps held fast, dR / dx = dR / dx0 / sqrt(a'), so a step is w dR / dx0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from dclip.config import OPTIONS, Loss
from dclip.diffusion.carry import Carrying, MeanStep, carry_noise_maps
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import pairs_of
from dclip.diffusion.sampler import EpsFn, Evaluate, Prediction, Solver, Step
from dclip.diffusion.schedule import Schedule
from dclip.edits.carried import branches_of
from dclip.edits.edit import Edit
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.errors import DclipError
from dclip.methods.diffusionclip.loss import EditLoss, edit_loss
from dclip.models.saved import save_weights
from dclip.run import Run
from dclip.types import Images

# terms of the loss that ask for the edit; the others keep the source
EDIT = ("clip", "shift", "contrast")

Reward = Callable[[Tensor], Tensor]  # predicted x0 [N,3,H,W] -> how it shall move, [N,3,H,W]


class HEditOptions(Protocol):
    """The settings of the method; ``options.HEdit`` explains them."""

    scale: float
    rounds: int
    spread: float
    paired: bool


@dataclass(frozen=True)
class RewardSteps(Solver):
    """Another solver's step, and then ``rounds`` times a step along each reward.

    Attributes:
        rewards: made of what the source's x0 is.
        source: the images [N,3,H,W]; None: what the network predicts along the source's own branch.
        last: t where the way down ends; there x is the image, and is left as it is.
    """

    inner: Carrying
    rewards: Callable[[Tensor], Sequence[Reward]]
    source: Tensor | None
    rounds: int
    last: int

    def start(self) -> Self:
        """The inner solver's start."""
        return replace(self, inner=self.inner.start())

    def advance(
        self, step: Step, schedule: Schedule, noise: ImageNoise | None, evaluate: Evaluate
    ) -> Tensor:
        """x_b, moved."""
        x = self.inner.advance(step, schedule, noise, evaluate)
        if step.t_next == self.last:
            return x
        source = self.source
        if source is None:
            source = evaluate(self.inner.ends[step.t][0], step.t_next).x0
        rewards = self.rewards(source)
        for _ in range(self.rounds):
            for reward in rewards:
                x = x + reward(evaluate(x, step.t_next).x0)
        return x


def descent(loss: EditLoss, weight: float) -> Reward:
    """Down a loss of the images' own predicted x0: -weight dR / dx0, for each image by itself."""

    def reward(x0: Tensor) -> Tensor:
        with torch.enable_grad():
            x0 = x0.detach().contiguous().requires_grad_()
            total = len(x0) * loss(x0, range(len(x0)))["total"]  # it is a mean over the images
            (gradient,) = torch.autograd.grad(total, x0)
        return -weight * gradient

    return reward


def halves(options: Loss) -> tuple[Loss, Loss | None]:
    """The loss's terms that ask for the edit, and those that keep the source; None without any."""
    others = [name for name in options.weights if name not in EDIT]
    asking, keeping = _without(options, others), _without(options, EDIT)
    return asking, keeping if sum(keeping.weights.values()) > 0 else None


def _without(options: Loss, names: Collection[str]) -> Loss:
    """The loss with these weights set to 0."""
    rest = copy(options)
    for name in options.weights.keys() & set(names):
        setattr(rest, name, 0.0)
    return rest


class RewardedTrajectory(Trajectory):
    """A trajectory down along noise maps, moved by rewards."""

    needs_gradient = True

    def __init__(
        self,
        run: Run,
        options: HEditOptions,
        losses: Sequence[tuple[EditLoss, float]],
        parts: Sequence[nn.Module],
    ) -> None:
        model, sampler = run.model, run.cfg.sampler
        super().__init__(
            model.predict, parts, pairs_of(sampler)[1], model.schedule, seed=run.cfg.seed
        )
        self.run, self.options, self.losses = run, options, losses

    def carried(self, ids: Sequence[str], source: Tensor) -> Tensor:
        """Sources [N,3,H,W] -> edited images, on the CPU."""
        run, options = self.run, self.options
        branches = branches_of(
            run.cfg.sampler,
            run.model,
            without_gradient(run.model.predict),
            ids,
            run.cfg.seed,
            on_step=lambda step: self.observe(ids, step),
        )

        def rewards(x0: Tensor) -> list[Reward]:
            images = Images(x0.clamp(-1, 1), tuple(ids))
            return [descent(loss.of(images), weight) for loss, weight in self.losses]

        def rewarded(inner: Carrying) -> Solver:
            compared = None if options.paired else source
            return RewardSteps(inner, rewards, compared, options.rounds, self.pairs[-1][1])

        with torch.no_grad():
            rule = MeanStep(options.spread)
            return self.finished(carry_noise_maps(branches, source, rule, rewarded))


def without_gradient(eps_fn: EpsFn) -> EpsFn:
    """A denoiser that is not differentiated."""

    def quiet(x: Tensor, t: Tensor) -> Prediction:
        with torch.no_grad():
            return eps_fn(x, t)

    return quiet


class RewardedEdit(Edit):
    """A reward, followed anew for every picture. gamma is a factor of the edit's part of it.

    Args:
        options: the method's settings.
        loss: the reward.
    """

    carries = True

    def __init__(self, options: HEditOptions, loss: Loss) -> None:
        self.options, self.loss = options, loss

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "an edit of method=h_edit"

    def denoiser(self, gamma: float) -> EpsFn:
        """It has none. DclipError."""
        raise DclipError(
            f"{self.name} is made anew for every picture, so it cannot be mixed; apply it by "
            "itself, with task=edit"
        )

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W]."""
        return self.strip(run, start, [gamma])[:, 0]

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]. Degree 0 is the source itself, and takes no network."""
        pictures = []
        for gamma in gammas:
            edited = self._moved(run, start, gamma) if gamma else start.sources.pixels
            pictures.append(edited)
        return torch.stack(pictures, 1)

    def _moved(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        asking, keeping = halves(self.loss)
        losses = [(_reward(run, asking, start.sources), gamma * self.options.scale)]
        if keeping is not None:
            losses.append((_reward(run, keeping, start.sources), self.options.scale))
        parts: list[nn.Module] = [run.model]
        for loss, _ in losses:
            parts += [part for part in (loss.clip, loss.identity) if part is not None]
        trajectory = RewardedTrajectory(run, self.options, losses, parts)
        pixels = start.sources.pixels
        return run_trajectory(run.cfg.trainer, trajectory, start.ids, pixels, "editing")

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write the header, which says all."""
        save_weights(path, nn.Module(), {**header, "kind_of_weights": "none"})


def _reward(run: Run, options: Loss, images: Images) -> EditLoss:
    """A loss of these images, along the direction of the run's texts. DclipError without a CLIP."""
    if run.networks.clip is None:
        raise DclipError("an edit of method=h_edit follows CLIP; set metric.clip=true")
    return edit_loss(replace(run, cfg=replace(run.cfg, loss=options)), images)


def loss_of(settings: Mapping[str, Any]) -> Loss:
    """The option of ``loss=`` with the settings of an edit's header."""
    options = sorted(OPTIONS["loss"].values(), key=lambda option: len(fields(option)))
    for option in options:  # an older file lacks terms that came later
        if settings.keys() <= {field.name for field in fields(option)}:
            typed = OmegaConf.merge(OmegaConf.structured(option), dict(settings))
            loss = OmegaConf.to_object(typed)
            assert isinstance(loss, Loss)
            return loss
    raise DclipError(f"no loss has these settings: {', '.join(settings)}")
