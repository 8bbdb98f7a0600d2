"""Latent optimisation as an edit: the latents move when it is applied, then samples may be guided."""

from __future__ import annotations

from typing import Self

from dclip.encode.encoded import Encoded
from dclip.methods.latent.optimise import OptimisedLatents, optimise, save_latents
from dclip.methods.latent.settings import LatentOptions
from dclip.methods.sampling.draw import as_saved, draw
from dclip.methods.sampling.edit import SamplingEdit
from dclip.methods.sampling.results import Outcome
from dclip.run import Run


class LatentEdit(SamplingEdit):
    """Latents optimised for the prompts (DiffusionCLIP, D.5; Kitichotkul, Inkaew 2021)."""

    options: LatentOptions

    @classmethod
    def of_method(cls, run: Run, options: LatentOptions) -> Self:
        """The run's prompts, and how their latents are optimised."""
        edit = cls.of(run, [run.cfg.guidance, options.pull])
        edit.options = options
        return edit

    def sample(self, run: Run, start: Encoded) -> Outcome:
        """Optimise the latents, and sample under guidance from what was reached."""
        source = start.images.pixels if start.images is not None else None
        rows = [] if source is None else [("source", source)]
        latents = self._optimise(run, start)
        rows += [("start", latents.before), ("optimised", latents.images)]
        outcome = Outcome(latents.images, rows, latents.before, optimiser_steps=latents.steps)
        if self.guide is None:
            return outcome
        moved = Encoded(start.ids, latents.latents)
        sources = latents.before if source is None else source
        outcome.drawn = draw(run, self.task, moved, self.guide, sources)
        outcome.final = outcome.drawn.images
        rows.append(("then guided", outcome.final))
        return outcome

    def _optimise(self, run: Run, start: Encoded) -> OptimisedLatents:
        objective = self.prompts.objective(self.options.pull)
        with run.record.timing("optimise"):
            latents = optimise(run, self.options, self.task, objective, start)
        latents.images = as_saved(self.task, latents.images)
        latents.before = as_saved(self.task, latents.before)
        texts = [prompt.text for prompt in self.prompts.prompts]
        save_latents(run, start.ids, latents.latents, texts)
        return latents
