"""The prompts of a run, as its CLIPs have read them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dclip.config import Guidance, Guided
from dclip.errors import DclipError
from dclip.methods.sampling.guidance import Guide
from dclip.methods.sampling.guidances import ClipGuidance
from dclip.methods.sampling.objective import ClipObjective
from dclip.models.clip import ClipModel
from dclip.run import Run
from dclip.text.features import PromptFeatures, read_prompts
from dclip.text.prompts import Prompt, resolve


@dataclass(frozen=True)
class ReadPrompts:
    """The prompts, and the CLIPs that have read them: ``guides`` pull, ``heldout`` only scores."""

    prompts: tuple[Prompt, ...] = ()
    guides: tuple[PromptFeatures, ...] = ()
    heldout: PromptFeatures | None = None

    @classmethod
    def of(cls, run: Run, pulling: Collection[Guidance]) -> ReadPrompts:
        """Let every CLIP of the run read the prompts, for the guidances that pull.

        Raises:
            DclipError: a text is too long for a CLIP.
        """
        cfg, networks = run.cfg, run.networks
        prompts = resolve(cfg)
        if not prompts:
            return cls()
        options = cfg.guidance
        directed = any(guidance.needs_direction for guidance in pulling)
        source = cfg.edit.source if directed else None
        temperature = options.temperature if isinstance(options, Guided) else None

        def features(clip: ClipModel, temperature: float | None) -> PromptFeatures:
            return read_prompts(clip, prompts, options.templates, temperature, source)

        guides = networks.guides or [clip for clip in (networks.clip,) if clip is not None]
        heldout = features(networks.heldout, None) if networks.heldout is not None else None
        return cls(prompts, tuple(features(clip, temperature) for clip in guides), heldout)

    def objective(self, guidance: ClipGuidance) -> ClipObjective:
        """What pulls. DclipError if there is no CLIP to pull."""
        if not self.guides:
            raise DclipError("no CLIP guides; set clip.name")
        return ClipObjective(guidance, self.guides, [prompt.weight for prompt in self.prompts])

    def guide(self, run: Run) -> Guide | None:
        """The run's guidance, or None."""
        options = run.cfg.guidance
        if not isinstance(options, ClipGuidance) or options.scale == 0:
            return None
        objective = self.objective(options)
        return Guide(options, objective, run.model.schedule, run.cfg.seed + 2)
