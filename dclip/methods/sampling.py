"""Drawing images: from noise or from the latents of images, freely or under guidance, with all that people look at.

The parts of ``pipeline.sample_noise``: where to start, who guides, one walk, what it left behind.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip import needs, parallel
from dclip.build import Networks, device_of
from dclip.config import Config, DclipError, Guided, LatentOpt, Photographs, Sampled, SampleTask, Start, ToonFaces, option_name
from dclip.data.images import save_pngs
from dclip.data.load import class_images, load_images, load_input, truth_of
from dclip.data.pools import atomic_save
from dclip.diffusion.guidance import ClipObjective, Context, Guide, Reader, Trace, read
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import EpsFn, Solver, Step, TimeTravel
from dclip.diffusion.schedule import Pair
from dclip.diffusion.solvers import pairs_of, solver_of
from dclip.methods.drawn import source_images
from dclip.methods.latent_opt import Found, optimise, save_latents
from dclip.methods.walk import Walk, encode, run_walk
from dclip.metrics.sampled import measure_samples
from dclip.metrics.suite import Scores, measure
from dclip.models.checkpoints import load_clip
from dclip.models.unet import DiffusionModel
from dclip.prompts import Prompt, attributes_of, resolve, truth_of_prompts
from dclip.report import grid_picture, sheet_picture, trace_picture
from dclip.tracking import Record, peak_memory_mb
from dclip.types import Edited, Images

SHOWN = 8  # images of a film strip
FRAMES = 10


@dataclass(frozen=True)
class Origin:
    """Latents [N,C,H,W] to start from, the images' names, and the images behind the latents where there are any."""

    ids: tuple[str, ...]
    latents: Tensor
    images: Images | None = None


def origin_of(cfg: Config, model: DiffusionModel) -> Origin:
    """Noise that belongs to each sample, or the inverted latents of images."""
    task = _task(cfg)
    if task.start is Start.images:
        images = load_input(cfg, model.image_size) if cfg.input else source_images(cfg, model, "test")
        return Origin(images.ids, encode(cfg, model, images), images)
    ids = tuple(f"sample_{i:05d}" for i in range(task.count))
    shape = (len(ids), model.channels, model.image_size, model.image_size)
    noise = ImageNoise(ids, cfg.seed).like(torch.empty(shape))
    return Origin(ids, _leaked(cfg, model, noise) if task.leak else noise)


def _leaked(cfg: Config, model: DiffusionModel, noise: Tensor) -> Tensor:
    """Noise [N,C,H,W] as training images end at t0: with their mean in it. DclipError if there are no such images."""
    if isinstance(cfg.dataset, Sampled):
        raise DclipError("task.leak needs training images, and dataset=sampled has none; choose another dataset, or task.leak=0")
    dataset = replace(cfg.dataset, train=_task(cfg).leak)
    if isinstance(dataset, ToonFaces):
        dataset.only_applicable = False
    mean = load_images(replace(cfg, dataset=dataset), "train", model.image_size).pixels.mean(0)
    a = model.schedule.alpha_bar(cfg.sampler.t0)
    return math.sqrt(1 - a) * noise + math.sqrt(a) * mean


def _task(cfg: Config) -> SampleTask:
    assert isinstance(cfg.task, SampleTask)
    return cfg.task


# ---------------------------------------------------------------------------------------------------- who guides


@dataclass(frozen=True)
class Asked:
    """The prompts, and the CLIPs that have read them: ``guides`` pull, ``heldout`` only scores."""

    prompts: tuple[Prompt, ...] = ()
    guides: tuple[Reader, ...] = ()
    heldout: Reader | None = None

    @classmethod
    def of(cls, cfg: Config, networks: Networks) -> Asked:
        """Let every CLIP of the run read the prompts. DclipError for a text that is too long for one of them."""
        prompts = resolve(cfg)
        if not prompts:
            return cls()
        options = cfg.guidance
        temperature = options.temperature if isinstance(options, Guided) else None

        def reader(clip: Any, temperature: float | None = None) -> Reader:
            return read(clip, prompts, options.templates, temperature, cfg.edit.source if _needs_direction(cfg) else None)

        clips = [networks.clip] if networks.clip is not None else []
        if isinstance(options, Guided) and options.clips:
            clips = [load_clip(name, cfg.clip.antialias).to(device_of(cfg)) for name in needs.networks(cfg).guides]
        heldout = reader(networks.heldout) if networks.heldout is not None else None
        return cls(prompts, tuple(reader(clip, temperature) for clip in clips), heldout)

    def objective(self, kind: str) -> ClipObjective:
        """What pulls. DclipError if there is no CLIP to pull."""
        if not self.guides:
            raise DclipError("no CLIP guides; set clip.name")
        return ClipObjective(kind, self.guides, [prompt.weight for prompt in self.prompts])


def _needs_direction(cfg: Config) -> bool:
    kinds = [option_name("guidance", cfg.guidance), cfg.method.objective.value if isinstance(cfg.method, LatentOpt) else ""]
    return any("directional" in kind for kind in kinds)


def guide_of(cfg: Config, asked: Asked, model: DiffusionModel) -> Guide | None:
    """The run's guidance, or None."""
    if not isinstance(cfg.guidance, Guided) or cfg.guidance.scale == 0:
        return None
    objective = asked.objective(option_name("guidance", cfg.guidance))
    return Guide(cfg.guidance, objective, model.schedule, cfg.seed + 2)


# ---------------------------------------------------------------------------------------------------- one walk


@dataclass
class Counted:
    """A denoiser that counts the images it was asked about."""

    eps_fn: EpsFn
    images: int = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
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
        chosen = sorted({round(k * last / max(1, min(FRAMES, len(pairs)) - 1)) for k in range(min(FRAMES, len(pairs)))})
        return cls(ids[:SHOWN], [pairs[k][0] for k in chosen])

    def add(self, ids: Sequence[str], step: Step) -> None:
        """Keep what belongs into the film."""
        if step.t in self.steps:
            kept = {name: step.x0[i].detach().float().cpu() for i, name in enumerate(ids) if name in self.ids}
            self.frames.setdefault(step.t, {}).update(kept)

    def whole(self) -> Film:
        """The film with all processes' frames."""
        film = Film(self.ids, self.steps)
        for frames in parallel.broadcast_objects(self.frames):
            for t, pictures in frames.items():
                film.frames.setdefault(t, {}).update(pictures)
        return film

    def rows(self) -> list[tuple[str, Tensor]]:
        """One row a step, one column an image, from noise to image."""
        return [(f"t={t}", torch.stack([self.frames[t][name] for name in self.ids])) for t in self.steps if t in self.frames]


class SampleWalk(Walk):
    """A walk down under guidance (or none), filmed."""

    def __init__(self, *args: Any, guide: Guide | None = None, sources: dict[str, Tensor] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guide, self.sources, self.film = guide, sources, Film((), ())
        self.needs_gradient = guide is not None

    def rules(self, ids: Sequence[str]) -> tuple[EpsFn, Solver]:
        """The guided denoiser of this batch, and the step rule, with time travel if told so."""
        if self.guide is None:
            return self.eps_fn, self.solver
        source = torch.stack([self.sources[name] for name in ids]).to(self.device) if self.sources else None
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
        images = run_walk(cfg, walk, origin.ids, origin.latents, "sampling under guidance" if guide else "sampling")
    walk.parts.to(device_of(cfg))  # Lightning takes networks off the device when it is done
    if not bool(torch.isfinite(images).all()):
        raise DclipError("the samples are not finite; " + ("lower guidance.scale" if guide else "set task.clip_x0=true"))
    mine = max(1, len(parallel.share(len(origin.ids))))
    encoded = guide.encoded / mine if guide else 0.0
    trace = Trace().merge(parallel.broadcast_objects(guide.trace)) if guide else Trace()
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


def carry_out(cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin) -> Outcome:
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
        return Outcome(drawn.images, [*rows, ("then guided", drawn.images)], found.before, drawn, found=found)
    if guide is None:
        drawn = draw(cfg, record, model, origin)
        return Outcome(drawn.images, [*rows, ("sampled", drawn.images)], drawn=drawn)
    free = None
    if _task(cfg).paired or (guide.objective.directional and source is None):
        free = draw(cfg, record, model, origin, name="free")
        rows, source = [*rows, ("unguided", free.images)], source if source is not None else free.images
    drawn = draw(cfg, record, model, origin, guide, source)
    rows.append(("guided", drawn.images))
    return Outcome(drawn.images, rows, free.images if free else None, drawn, free.seconds if free else None)


def _optimised(cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin) -> Found:
    assert isinstance(cfg.method, LatentOpt)
    objective = asked.objective(cfg.method.objective.value)
    with record.timing("optimise"):
        images = origin.images.pixels if origin.images is not None else None
        found = optimise(cfg, record, networks.model, objective, origin.ids, origin.latents, images, networks.identity)
    found.images, found.before = as_saved(cfg, found.images), as_saved(cfg, found.before)
    if record.writes:
        texts = [prompt.text for prompt in asked.prompts]
        save_latents(record.folder / "latents.safetensors", cfg, networks.model, origin.ids, found.latents, texts)
    return found


# ---------------------------------------------------------------------------------------------------- what is left behind


def reference_of(cfg: Config, prompts: Sequence[Prompt], size: int) -> Tensor | str:
    """True pictures of what the prompts ask for, or why there are none."""
    if isinstance(cfg.dataset, ToonFaces):
        wanted = attributes_of(prompts)
        if prompts and not wanted:
            return "the prompts name no attribute of ToonFaces, so its true pictures are not known"
        return (
            class_images(wanted, cfg.metric.reference).pixels if size == 64 else f"ToonFaces are 64x64, the samples {size}x{size}"
        )
    if isinstance(cfg.dataset, Photographs):
        return load_images(cfg, "test", size).pixels
    return "no true pictures are given; dataset=folder dataset.root=DIR, a folder of the target class"


def score(cfg: Config, networks: Networks, asked: Asked, images: Tensor, reference: Tensor | str) -> Scores:
    """All metrics of drawn images."""
    readers = {"guide": asked.guides[0] if asked.guides else None, "heldout": asked.heldout}
    return measure_samples(images, asked.prompts, cfg.metric, readers, networks.judge, reference)


def against(scores: Scores, free: Scores) -> dict[str, float | str]:
    """A run's numbers, and as NAME_free those of the same noise without guidance (``judge_success_free``: the base rate)."""
    plain = {k: v for k, v in free.values.items() if not k.endswith(("_absent", "_features"))}
    return {**scores.values, **{f"{name}_free": value for name, value in plain.items()}}


def edit_scores(cfg: Config, networks: Networks, asked: Asked, images: Images, result: Tensor) -> Scores:
    """Where sampling started from images: all that is measured of an edit."""
    target = cfg.edit.target if cfg.guidance.targets is None else " and ".join(prompt.text for prompt in asked.prompts)
    truth = truth_of(cfg) if cfg.guidance.targets is None else truth_of_prompts(asked.prompts)
    texts = (cfg.edit.source, target) if asked.prompts else None
    known = truth if isinstance(cfg.dataset, ToonFaces) and images.faces else None
    return measure(Edited(images, result), cfg.metric, networks.scorers(), texts, known)


def trace_rows(asked: Asked, drawn: Drawn) -> list[dict[str, Any]]:
    """Probability of every prompt at every guided step (or at the film's frames): mean and spread over images."""
    trace = drawn.trace
    reader = asked.guides[0] if asked.guides else asked.heldout
    if not trace.sums and reader is not None and all(prompt.distractors for prompt in asked.prompts):
        with torch.no_grad():
            for t, pictures in drawn.film.frames.items():
                seen = torch.stack([pictures[name] for name in drawn.film.ids]).clamp(-1, 1).to(reader.targets.device)
                trace.add(t, reader.probabilities(reader.clip.image_features(seen)))
    names = [(k, text, text == prompt.text) for k, prompt in enumerate(asked.prompts) for text in prompt.texts]
    rows = []
    for t, (n, total, squares) in sorted(trace.sums.items(), reverse=True):
        mean = total / n
        std = (squares / n - mean.square()).clamp_min(0).sqrt()
        for i, (k, text, target) in enumerate(names):
            row = {"t": t, "prompt": k, "text": text, "target": int(target), "mean": round(float(mean[i]), 6)}
            rows.append({**row, "std": round(float(std[i]), 6), "n": n})
    return rows


def write_traces(record: Record, rows: list[dict[str, Any]], prompts: Sequence[Prompt]) -> None:
    """traces.csv, and one plot a prompt."""
    if not rows or not record.writes:
        return

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)

    atomic_save(record.folder / "traces.csv", write)
    for k, prompt in enumerate(prompts):
        name = "traces" if len(prompts) == 1 else f"traces_{k + 1}"
        record.picture(name, trace_picture([row for row in rows if row["prompt"] == k], prompt.text))


def title_of(cfg: Config) -> str:
    """A run in words."""
    how = [option_name("guidance", cfg.guidance)] if isinstance(cfg.guidance, Guided) else []
    how += ["latent_opt"] if isinstance(cfg.method, LatentOpt) else []
    return (
        f"sample: {' and '.join(prompt.text for prompt in resolve(cfg)) or 'from noise'} ({' after '.join(how) or 'no guidance'})"
    )


def finish(cfg: Config, record: Record, networks: Networks, asked: Asked, origin: Origin, outcome: Outcome) -> None:
    """Measure, draw the pictures, write the numbers."""
    if record.writes:
        save_pngs(outcome.final, origin.ids, record.folder / "samples")
    record.picture("sheet", sheet_picture(outcome.final))
    if len(outcome.rows) > 1:
        record.picture("before_after", grid_picture(outcome.rows))
    if outcome.drawn is not None:
        record.picture("film", grid_picture(outcome.drawn.film.rows(), most=SHOWN))
        write_traces(record, trace_rows(asked, outcome.drawn), asked.prompts)
    values, rows = _all_scores(cfg, networks, asked, origin, outcome)
    record.rows(origin.ids, rows)
    costs = _costs(outcome, len(origin.ids), record.seconds)
    record.metrics({**values, **costs, **record.seconds, "count": len(origin.ids), "peak_memory_mb": peak_memory_mb()})


def _all_scores(
    cfg: Config, networks: Networks, asked: Asked, origin: Origin, outcome: Outcome
) -> tuple[dict[str, float | str], dict[str, list[float]]]:
    """Numbers of the run, and of its images."""
    reference = reference_of(cfg, asked.prompts, networks.model.image_size) if cfg.metric.kid else ""
    scores = score(cfg, networks, asked, outcome.final, reference)
    values, rows = scores.values, dict(scores.rows)
    if outcome.free is not None:
        free = score(cfg, networks, asked, outcome.free, reference)
        values = against(scores, free)
        rows.update({f"{name}_free": column for name, column in free.rows.items()})
    if origin.images is not None:
        edit = edit_scores(cfg, networks, asked, origin.images, outcome.final)
        values, rows = {**edit.values, **values}, {**edit.rows, **rows}
    if outcome.found is not None:
        rows["optimiser_steps"] = outcome.found.steps.tolist()
    return values, rows


def _costs(outcome: Outcome, count: int, seconds: dict[str, float]) -> dict[str, float]:
    """Time and calls per image."""
    costs: dict[str, float] = {}
    if outcome.drawn is not None:
        costs["network_calls"], costs["clip_calls"] = outcome.drawn.network_calls, outcome.drawn.clip_calls
        costs["seconds_per_image"] = outcome.drawn.seconds / count
        if outcome.free_seconds:
            costs["time_ratio"] = outcome.drawn.seconds / outcome.free_seconds
    if outcome.found is not None:
        costs["optimiser_steps"] = float(outcome.found.steps.mean())
        costs["seconds_per_image"] = (seconds["seconds_optimise"] + (outcome.drawn.seconds if outcome.drawn else 0)) / count
    return costs
