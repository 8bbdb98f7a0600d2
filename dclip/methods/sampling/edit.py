"""Guided sampling as an edit: training-free, applied by drawing samples."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Self

from torch import Tensor

from dclip.config import Guidance, SampleTask
from dclip.edits.edit import Edit
from dclip.encode.encoded import Encoded
from dclip.methods.sampling.draw import draw
from dclip.methods.sampling.guidance import Guide
from dclip.methods.sampling.prompts import task_of
from dclip.methods.sampling.read import ReadPrompts
from dclip.methods.sampling.results import Outcome, present
from dclip.metrics.functional import clipped
from dclip.run import Run

log = logging.getLogger("dclip")

CLIPPED = 0.1  # share of values that guidance may clip unsaid


class SamplingEdit(Edit):
    """Samples drawn from latents, freely or under guidance.

    ``sample`` gives more than pixels; what it gave last is kept for ``present``.
    """

    def __init__(self, task: SampleTask, prompts: ReadPrompts, guide: Guide | None) -> None:
        self.task, self.prompts, self.guide = task, prompts, guide
        self.outcome: Outcome | None = None

    @classmethod
    def of(cls, run: Run, pulling: Collection[Guidance]) -> Self:
        """The run's prompts, read by its CLIPs for the guidances that pull."""
        prompts = ReadPrompts.of(run, pulling)
        return cls(task_of(run.cfg), prompts, prompts.guide(run))

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Samples [N,3,H,W]; ``guidance.scale`` is their strength, not gamma."""
        self.outcome = self.sample(run, start)
        return self.outcome.final

    def present(self, run: Run, start: Encoded, result: Tensor) -> dict[str, float | str]:
        """Scores of samples: probability of the prompts, KID against true pictures, costs."""
        outcome = self.outcome or Outcome(result, [])
        return present(run, self.prompts, start, outcome)

    def sample(self, run: Run, start: Encoded) -> Outcome:
        """Sample freely where that is asked for, and under guidance."""
        source = start.images.pixels if start.images is not None else None
        rows = [] if source is None else [("source", source)]
        if self.guide is None:
            drawn = draw(run, self.task, start)
            return Outcome(drawn.images, [*rows, ("sampled", drawn.images)], drawn=drawn)
        free = None
        if self.task.paired or (self.guide.objective.needs_source and source is None):
            free = draw(run, self.task, start, name="free")
            rows.append(("unguided", free.images))
            source = free.images if source is None else source
        drawn = draw(run, self.task, start, self.guide, source)
        rows.append(("guided", drawn.images))
        outcome = Outcome(drawn.images, rows, drawn=drawn)
        if free is not None:
            outcome.free, outcome.free_seconds = free.images, free.seconds
        warn_of_clipping(drawn.images, outcome.free, self.guide.options.scale)
        return outcome


def warn_of_clipping(guided: Tensor, free: Tensor | None, scale: float) -> None:
    """Say it where guidance drives samples to the ends of their range, as no image is.

    ``free``: samples of the same noise without guidance, where there are any.
    """
    share = float(clipped(guided).mean())
    usual = 0.0 if free is None else float(clipped(free).mean())
    if share - usual > CLIPPED:
        log.warning(
            "%.0f %% of the samples' values are clipped (without guidance: %.0f %%): "
            "guidance.scale=%g is too strong; lower it",
            100 * share,
            100 * usual,
            scale,
        )
