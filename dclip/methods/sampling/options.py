"""``method=none``: the model stays as it is, and samples are drawn freely or under guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Config, Guided, option
from dclip.config.guidance import Sees
from dclip.diffusion.options import pairs_of
from dclip.errors import need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, Method
from dclip.methods.sampling.prompts import (
    check_prompts,
    guidance_name,
    guides,
    guiding_networks,
    task_of,
    title,
)
from dclip.models.sizes import MOST_IMAGES

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.encode.encoded import Encoded
    from dclip.run import Run


@option("method", "none")
@dataclass
class Sampling(Method):
    """Leave the model as it is; ``guidance`` says what samples follow (Kitichotkul, Inkaew 2021)."""

    learns = False
    published = "faithful_guidance"

    def needs(self, cfg: Config) -> frozenset[str]:
        """The CLIPs that guide, where something does."""
        return guiding_networks(cfg) if guides(cfg) else frozenset()

    def check(self, cfg: Config) -> None:
        """The prompts must suit the guidance."""
        task_of(cfg)
        check_prompts(cfg, [cfg.guidance])
        check_steps(cfg)

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """One chain a sample; another without guidance, where the task or the guidance compares."""
        chain = float(images.test * cfg.sampler.generation_calls())
        guidance = cfg.guidance
        if not isinstance(guidance, Guided) or not pulls(cfg):
            return Cost({"sample": chain})
        calls, task = {}, task_of(cfg)
        if task.paired or (guidance.needs_direction and not task.from_images):
            calls["without guidance"] = chain
        calls["sample"] = chain + images.test * (travel_calls(cfg) + gradient_calls(cfg))
        batch = cfg.trainer.batch or MOST_IMAGES["cpu"]
        return Cost(calls, graphs=batch if gradient_calls(cfg) else 0)

    def title(self, cfg: Config) -> str:
        """What was sampled, and what guided."""
        return title(cfg, [guidance_name(cfg)] if guides(cfg) else [])

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Training-free: the prompts are read, nothing is learned."""
        from dclip.methods.sampling.edit import SamplingEdit

        return SamplingEdit.of(run, [run.cfg.guidance])


def pulls(cfg: Config) -> bool:
    """Whether a guidance pulls with a strength above 0."""
    return isinstance(cfg.guidance, Guided) and cfg.guidance.scale > 0


def travel_calls(cfg: Config) -> int:
    """Network calls of one image for the steps that ``guidance.time_travel`` repeats."""
    guidance, sampler = cfg.guidance, cfg.sampler
    if not isinstance(guidance, Guided) or guidance.time_travel == 0:
        return 0
    return sum(guidance.repeats(t) * sampler.step_calls(end < 0) for t, end in pairs_of(sampler)[1])


def guided_steps(cfg: Config, guidance: Guided) -> int:
    """How many steps down begin where the guidance guides."""
    steps = pairs_of(cfg.sampler)[1]
    return sum(guidance.t_end <= t <= guidance.t_start for t, _ in steps)


def gradient_calls(cfg: Config) -> float:
    """What gradients through the U-Net take beside one image's calls (``guidance.sees``)."""
    guidance = cfg.guidance
    if not isinstance(guidance, Guided) or guidance.sees is not Sees.x0_through_unet:
        return 0.0
    looks = math.ceil((guided_steps(cfg, guidance) + travel_calls(cfg)) / guidance.every)
    return (BACKWARD - 1) * looks


def check_steps(cfg: Config) -> None:
    """Refuse a guidance that guides no step, or a time travel that would repeat none."""
    guidance, sampler = cfg.guidance, cfg.sampler
    if not isinstance(guidance, Guided) or not pulls(cfg):
        return
    need(
        guided_steps(cfg, guidance) > 0,
        f"guidance.t_start={guidance.t_start} to guidance.t_end={guidance.t_end} holds none of the "
        f"{sampler.steps_down} steps from sampler.t0={sampler.t0} down to 0, so nothing would be "
        f"guided; choose a wider interval within 0 to {sampler.t0}",
    )
    start, end = guidance.travels
    need(
        guidance.time_travel == 0 or travel_calls(cfg) > 0,
        f"guidance.time_travel={guidance.time_travel} repeats guided steps that begin from t={start} "
        f"down to {end}, and none of the {sampler.steps_down} steps from sampler.t0={sampler.t0} "
        "does; set guidance.travel_start and guidance.travel_end (guided are t_start to t_end)",
    )
