"""How a CLIP reads the prompts: one reading per network, shared by everything that asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip import losses
from dclip.errors import DclipError
from dclip.models.clip import ClipModel
from dclip.text.prompts import Prompt, same_text

# ---------------------------------------------------------------------------------------------------- texts


def check_lengths(clip: ClipModel, prompts: Sequence[Prompt]) -> None:
    """DclipError for a text that is longer than CLIP's context: it would be cut off without a word."""
    encode, context = (
        getattr(clip.tokenizer, "encode", None),
        getattr(clip.tokenizer, "context_length", None),
    )
    if encode is None or context is None:
        return
    for text in dict.fromkeys(text for prompt in prompts for text in prompt.texts):
        used = len(encode(text)) + 2  # start and end of text
        if used > context:
            raise DclipError(
                f"a text of guidance.targets or guidance.distractors is too long for the CLIP {clip.name!r}: {used} tokens, "
                f"it reads {context} ({text[:60]!r}...); shorten it"
            )


@dataclass(frozen=True)
class Reader:
    """A CLIP that has read the prompts, once.

    Attributes:
        targets: unit features [K, D] of the K prompts.
        distractors: K tensors [M_k, D].
        temperature: of the softmax over a prompt and its distractors.
        directions: (target [D], distractors [M_k, D]) as changes from the source text, for directional losses.
    """

    clip: ClipModel
    targets: Tensor
    distractors: tuple[Tensor, ...]
    temperature: float
    directions: tuple[tuple[Tensor, Tensor], ...] = ()

    def probabilities(self, features: Tensor) -> list[Tensor]:
        """For every prompt: probabilities [N, 1 + M_k] of the target and its distractors."""
        texts = [
            torch.cat([target[None], others])
            for target, others in zip(self.targets, self.distractors, strict=True)
        ]
        return [losses.log_probabilities(features, t, self.temperature).exp() for t in texts]


def _directions(
    clip: ClipModel, prompt: Prompt, source: str, forms: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Of the target, and of every distractor but the source itself."""
    texts = [prompt.text, *(text for text in prompt.distractors if not same_text(text, source))]
    try:
        made = [losses.text_direction(clip.text_features, source, text, forms) for text in texts]
    except ValueError as error:
        raise DclipError(f"edit.source or guidance.targets: {error}") from error
    return made[0], torch.stack(made[1:]) if len(made) > 1 else made[0].new_zeros(0, len(made[0]))


def read(
    clip: ClipModel,
    prompts: Sequence[Prompt],
    templates: str = "none",
    temperature: float | None = None,
    source: str | None = None,
) -> Reader:
    """Let CLIP read the prompts, averaged over templates; with ``source``, as directions from that text too.

    DclipError for a text longer than CLIP's context, or one that CLIP cannot tell from the source.
    """
    check_lengths(clip, prompts)
    forms = losses.templates(templates)

    def features(texts: Sequence[str]) -> Tensor:
        every = clip.text_features([form.format(text) for text in texts for form in forms])
        return F.normalize(every.view(len(texts), len(forms), -1).mean(1), dim=-1)

    targets = features([prompt.text for prompt in prompts])
    distractors = tuple(
        features(p.distractors) if p.distractors else targets.new_zeros(0, targets.shape[1])
        for p in prompts
    )
    directions = (
        tuple(_directions(clip, p, source, forms) for p in prompts) if source is not None else ()
    )
    return Reader(clip, targets, distractors, temperature or 1 / clip.logit_scale, directions)


def target_probability(reader: Reader, features: Tensor) -> Tensor:
    """Probability of the prompts' targets per image [N]; with several prompts the smallest, for all of them must hold."""
    return torch.stack([p[:, 0] for p in reader.probabilities(features)]).amin(0)
