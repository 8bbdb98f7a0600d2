"""``method=none``: the model stays as it is, and samples are drawn freely or under guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Config, Guided, option
from dclip.methods.contract import Cost, ImageCounts, Method
from dclip.methods.sampling.prompts import (
    check_prompts,
    guidance_name,
    guides,
    guiding_networks,
    task_of,
    title,
)

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

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """One chain a sample; another without guidance, where the task compares."""
        chain = float(images.test * cfg.sampler.generation_calls())
        calls = {}
        if pulls(cfg) and task_of(cfg).paired:
            calls["without guidance"] = chain
        calls["sample"] = chain
        return Cost(calls)

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
