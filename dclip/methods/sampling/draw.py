"""Drawing images: from noise or from the latents of images, freely or under guidance, with all that people look at.

The parts of ``pipeline.sample_noise``: where to start, who guides, one walk, what it left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import EpsFn, Prediction, Solver, Step, TimeTravel
from dclip.diffusion.schedule import Pair
from dclip.diffusion.solvers import pairs_of, solver_of
from dclip.encode.walk import Walk, run_walk
from dclip.errors import DclipError
from dclip.methods.latent.optimise import Found, optimise, save_latents
from dclip.methods.latent.options import LatentOpt
from dclip.methods.sampling.guidance import Context, Guide, Trace
from dclip.methods.sampling.start import Asked, Origin, _task, guide_of
from dclip.models.networks import Networks
from dclip.models.unet import DiffusionModel
from dclip.record.record import Record
from dclip.runtime import parallel
from dclip.runtime.trainer import device_of

SHOWN = 8  # images of a film strip


FRAMES = 10


# ---------------------------------------------------------------------------------------------------- one walk


@dataclass
class Counted:
    """A denoiser that counts the images it was asked about."""

    eps_fn: EpsFn
    images: int = 0

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        """The denoiser's answer."""
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
        chosen = sorted(
            {
                round(k * last / max(1, min(FRAMES, len(pairs)) - 1))
                for k in range(min(FRAMES, len(pairs)))
            }
        )
        return cls(ids[:SHOWN], [pairs[k][0] for k in chosen])

    def add(self, ids: Sequence[str], step: Step) -> None:
        """Keep what belongs into the film."""
        if step.t in self.steps:
            kept = {
                name: step.x0[i].detach().float().cpu()
                for i, name in enumerate(ids)
                if name in self.ids
            }
            self.frames.setdefault(step.t, {}).update(kept)

    def whole(self) -> Film:
        """The film with all processes' frames."""
        film = Film(self.ids, self.steps)
        for frames in parallel.all_gather_objects(self.frames):
            for t, pictures in frames.items():
                film.frames.setdefault(t, {}).update(pictures)
        return film

    def rows(self) -> list[tuple[str, Tensor]]:
        """One row a step, one column an image, from noise to image."""
        return [
            (f"t={t}", torch.stack([self.frames[t][name] for name in self.ids]))
            for t in self.steps
            if t in self.frames
        ]


class SampleWalk(Walk):
    """A walk down under guidance (or none), filmed."""

    def __init__(
        self,
        *args: Any,
        guide: Guide | None = None,
        sources: dict[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.guide, self.sources, self.film = guide, sources, Film((), ())
        self.needs_gradient = guide is not None

    def rules(self, ids: Sequence[str]) -> tuple[EpsFn, Solver]:
        """The guided denoiser of this batch, and the step rule, with time travel if told so."""
        if self.guide is None:
            return self.eps_fn, self.solver
        source = (
            torch.stack([self.sources[name] for name in ids]).to(self.device)
            if self.sources
            else None
        )
        eps_fn = self.guide(self.eps_fn, Context(ids, source))
        o = self.guide.options
        if o.time_travel == 0:
            return eps_fn, self.solver
        noise = ImageNoise(ids, self.seed + 2)
        return eps_fn, TimeTravel(self.solver, noise, o.time_travel, o.travel_start, o.travel_end)

    def seen(self, ids: Sequence[str], step: Step) -> None:
        """Film the step."""
        self.film.add(ids, step)
        super().seen(ids, step)


@dataclass(frozen=True)
class Drawn:
    """Images [N,3,H,W] and what drawing them took: calls per image, seconds."""

    images: Tensor
    film: Film
    trace: Trace
    network_calls: float
    clip_calls: float
    seconds: float


def draw(
    cfg: Config,
    record: Record,
    model: DiffusionModel,
    origin: Origin,
    guide: Guide | None = None,
    sources: Tensor | None = None,
    name: str = "edit",
) -> Drawn:
    """Walk all latents down to images; ``sources`` [N,3,H,W] are for directional guidance.

    Every method sees the same step noise: seed and image name decide it. DclipError if the images are not finite.
    """
    counted, pairs = Counted(model.predict), pairs_of(cfg.sampler)[1]
    walk = SampleWalk(
        counted, [model, *(reader.clip for reader in guide.objective.readers)] if guide else [model], pairs, model.schedule,
        solver_of(cfg.sampler, model.info.variance), cfg.seed + 1, _task(cfg).clip_x0, guide=guide,
        sources=dict(zip(origin.ids, sources, strict=True)) if sources is not None else None,
    )  # fmt: skip
    walk.film = Film.of(origin.ids, pairs)
    with record.timing(name):
        images = run_walk(
            cfg,
            walk,
            origin.ids,
            origin.latents,
            "sampling under guidance" if guide else "sampling",
        )
    walk.parts.to(device_of(cfg))  # Lightning takes networks off the device when it is done
    if not bool(torch.isfinite(images).all()):
        raise DclipError(
            "the samples are not finite; "
            + ("lower guidance.scale" if guide else "set task.clip_x0=true")
        )
    mine = max(1, len(parallel.share(len(origin.ids))))
    encoded = guide.encoded / mine if guide else 0.0
    trace = Trace().merge(parallel.all_gather_objects(guide.trace)) if guide else Trace()
    return Drawn(
        as_saved(cfg, images), walk.film.whole(), trace, counted.images / mine, encoded, record.seconds[f"seconds_{name}"]
    )  # fmt: skip


def as_saved(cfg: Config, images: Tensor) -> Tensor:
    """Images as they are kept; with ``task.published_pixels`` as the report's code kept them, its range error included."""
    return 2 * images.clamp(0, 1) - 1 if _task(cfg).published_pixels else images


@dataclass
class Outcome:
    """What became of the latents. ``rows``: the same images method by method; ``free``: without CLIP; ``final``: the result."""

    final: Tensor
    rows: list[tuple[str, Tensor]]
    free: Tensor | None = None
    drawn: Drawn | None = None
    free_seconds: float | None = None
    found: Found | None = None


def carry_out(
    cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin
) -> Outcome:
    """Optimise the latents if the method says so, sample freely where that is needed, and sample under guidance."""
    model, guide = networks.model, guide_of(cfg, asked, networks.model)
    source = origin.images.pixels if origin.images is not None else None
    rows = [("source", source)] if source is not None else []
    if isinstance(cfg.method, LatentOpt):
        found = _optimised(cfg, record, networks, asked, origin)
        rows += [("start", found.before), ("optimised", found.images)]
        if guide is None:
            return Outcome(found.images, rows, found.before, found=found)
        sources = source if source is not None else found.before
        drawn = draw(cfg, record, model, Origin(origin.ids, found.latents), guide, sources)
        return Outcome(
            drawn.images, [*rows, ("then guided", drawn.images)], found.before, drawn, found=found
        )
    if guide is None:
        drawn = draw(cfg, record, model, origin)
        return Outcome(drawn.images, [*rows, ("sampled", drawn.images)], drawn=drawn)
    free = None
    if _task(cfg).paired or (guide.objective.directional and source is None):
        free = draw(cfg, record, model, origin, name="free")
        rows, source = (
            [*rows, ("unguided", free.images)],
            source if source is not None else free.images,
        )
    drawn = draw(cfg, record, model, origin, guide, source)
    rows.append(("guided", drawn.images))
    return Outcome(
        drawn.images, rows, free.images if free else None, drawn, free.seconds if free else None
    )


def _optimised(
    cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin
) -> Found:
    assert isinstance(cfg.method, LatentOpt)
    objective = asked.objective(cfg.method.objective.value)
    with record.timing("optimise"):
        images = origin.images.pixels if origin.images is not None else None
        found = optimise(
            cfg,
            record,
            networks.model,
            objective,
            origin.ids,
            origin.latents,
            images,
            networks.identity,
        )
    found.images, found.before = as_saved(cfg, found.images), as_saved(cfg, found.before)
    if record.writes:
        texts = [prompt.text for prompt in asked.prompts]
        save_latents(
            record.folder / "latents.safetensors",
            cfg,
            networks.model,
            origin.ids,
            found.latents,
            texts,
        )
    return found
