"""Samples from latents, freely or under guidance, with all that people look at: film, traces, calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dclip.config import SampleTask
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.options import pairs_of, solver_of
from dclip.diffusion.sampler import EpsFn, Prediction, Solver, Step, TimeTravel
from dclip.diffusion.timesteps import Pair
from dclip.encode.encoded import Encoded
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.errors import DclipError
from dclip.methods.sampling.guidance import Context, Guide
from dclip.methods.sampling.trace import Trace
from dclip.run import Run
from dclip.runtime import parallel

SHOWN = 8  # images of a film strip
FRAMES = 10


@dataclass
class CallCounter:
    """A denoiser that counts the images it was called with."""

    eps_fn: EpsFn
    images: int = 0

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """The denoiser's prediction."""
        self.images += len(x)
        return self.eps_fn(x, t)


@dataclass
class Film:
    """Predicted x0 of the first images at a few steps: t -> image -> picture."""

    ids: Sequence[str]
    steps: Sequence[int]
    frames: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, ids: Sequence[str], pairs: Sequence[Pair]) -> Film:
        """A film with evenly spaced frames, the first and the last step among them."""
        last = len(pairs) - 1
        count = min(FRAMES, len(pairs))
        chosen = sorted({round(k * last / max(1, count - 1)) for k in range(count)})
        return cls(ids[:SHOWN], [pairs[k][0] for k in chosen])

    def add(self, ids: Sequence[str], step: Step) -> None:
        """Keep the frames of this step."""
        if step.t not in self.steps:
            return
        frames = self.frames.setdefault(step.t, {})
        for name, x0 in zip(ids, step.x0, strict=True):
            if name in self.ids:
                frames[name] = x0.detach().float().cpu()

    def whole(self) -> Film:
        """The film with all processes' frames."""
        film = Film(self.ids, self.steps)
        for frames in parallel.all_gather_objects(self.frames):
            for t, pictures in frames.items():
                film.frames.setdefault(t, {}).update(pictures)
        return film

    def rows(self) -> list[tuple[str, Tensor]]:
        """One row a step, one column an image, from noise to image."""
        rows = []
        for t in self.steps:
            if t in self.frames:
                rows.append((f"t={t}", torch.stack([self.frames[t][name] for name in self.ids])))
        return rows


class GuidedTrajectory(Trajectory):
    """A trajectory down under guidance (or none), filmed."""

    def __init__(
        self,
        *args: Any,
        guide: Guide | None = None,
        sources: dict[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.guide, self.sources = guide, sources
        self.film, self.trace = Film((), ()), Trace()
        self.needs_gradient = guide is not None

    def rules(self, ids: Sequence[str]) -> tuple[EpsFn, Solver]:
        """The guided denoiser of this batch, and the step rule, perhaps with time travel."""
        if self.guide is None:
            return self.eps_fn, self.solver
        source = None
        if self.sources:
            device = next(self.parts.parameters()).device
            source = torch.stack([self.sources[name] for name in ids]).to(device)
        eps_fn = self.guide(self.eps_fn, Context(ids, source), self.trace.observe)
        o = self.guide.options
        if o.time_travel == 0:
            return eps_fn, self.solver
        noise = ImageNoise(ids, self.seed + 2)
        return eps_fn, TimeTravel(self.solver, noise, o.time_travel, *o.travels)

    def observe(self, ids: Sequence[str], step: Step) -> None:
        """Film the step."""
        self.film.add(ids, step)
        super().observe(ids, step)


@dataclass(frozen=True)
class Samples:
    """Images [N,3,H,W] and what drawing them took: calls per image, seconds."""

    images: Tensor
    film: Film
    trace: Trace
    network_calls: float
    clip_calls: float
    seconds: float


def draw(
    run: Run,
    task: SampleTask,
    start: Encoded,
    guide: Guide | None = None,
    sources: Tensor | None = None,
    name: str = "edit",
) -> Samples:
    """Carry all latents down to images; ``sources`` [N,3,H,W] are for directional guidance.

    Every method sees the same step noise: seed and image name decide it.

    Raises:
        DclipError: the images are not finite.
    """
    cfg, model = run.cfg, run.model
    counter, pairs = CallCounter(model.predict), pairs_of(cfg.sampler)[1]
    clips = [reader.clip for reader in guide.objective.readers] if guide else []
    by_name = None if sources is None else dict(zip(start.ids, sources, strict=True))
    trajectory = GuidedTrajectory(
        counter,
        [model, *clips],
        pairs,
        model.schedule,
        solver_of(cfg.sampler, model.info.variance),
        cfg.seed + 1,
        task.clip_x0,
        guide=guide,
        sources=by_name,
    )
    trajectory.film = Film.of(start.ids, pairs)
    what = "sampling under guidance" if guide else "sampling"
    with run.record.timing(name):
        images = run_trajectory(cfg.trainer, trajectory, start.ids, start.latents, what)
    if not bool(torch.isfinite(images).all()):
        remedy = "lower guidance.scale" if guide else "set task.clip_x0=true"
        raise DclipError(f"the samples are not finite; {remedy}")
    mine = max(1, len(parallel.share(len(start))))
    return Samples(
        as_saved(task, images),
        trajectory.film.whole(),
        Trace.merged(parallel.all_gather_objects(trajectory.trace)),
        counter.images / mine,
        trajectory.trace.views / mine,
        run.record.seconds[f"seconds_{name}"],
    )


def as_saved(task: SampleTask, images: Tensor) -> Tensor:
    """Images as they are kept; with ``published_pixels`` as the report's code kept them, its range error included."""
    if not task.published_pixels:
        return images
    return 2 * images.clamp(0, 1) - 1
