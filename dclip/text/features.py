"""CLIP's features of the prompts, computed once per network for everything that needs them."""

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


@dataclass(frozen=True)
class PromptFeatures:
    """A CLIP and its features of K prompts.

    Attributes:
        targets: unit features [K, D].
        distractors: unit features of what each prompt competes with, K tensors [M_k, D].
        temperature: of the softmax over a prompt and its distractors.
        directions: of (target [D], distractors [M_k, D]) from the source text, where asked for.
    """

    clip: ClipModel
    targets: Tensor
    distractors: tuple[Tensor, ...]
    temperature: float
    directions: tuple[tuple[Tensor, Tensor], ...] = ()

    def probabilities(self, features: Tensor) -> list[Tensor]:
        """For every prompt: probabilities [N, 1 + M_k] of the target and its distractors.

        ``features`` [N, D] are of images.
        """
        result = []
        for target, others in zip(self.targets, self.distractors, strict=True):
            texts = torch.cat([target[None], others])
            result.append(losses.log_probabilities(features, texts, self.temperature).exp())
        return result

    def target_probability(self, features: Tensor) -> Tensor:
        """Probability of the target [N]; of several prompts the smallest, for all must hold."""
        return torch.stack([p[:, 0] for p in self.probabilities(features)]).amin(0)


def read_prompts(
    clip: ClipModel,
    prompts: Sequence[Prompt],
    templates: str = "none",
    temperature: float | None = None,
    source: str | None = None,
) -> PromptFeatures:
    """CLIP's features of the prompts, averaged over templates; with ``source`` also directions.

    ``temperature`` unset is what CLIP was trained with. DclipError for a text longer than CLIP's
    context, or one that CLIP cannot tell from the source.
    """
    forms = losses.templates(templates)
    sentences: list[str] = []
    for prompt in prompts:
        sentences += in_forms(prompt.texts, forms)
    clip.check_lengths(sentences, "a text of guidance.targets or guidance.distractors")
    targets = features_in(clip, [prompt.text for prompt in prompts], forms)
    distractors: list[Tensor] = []
    directions: list[tuple[Tensor, Tensor]] = []
    for prompt in prompts:
        others = targets.new_zeros(0, targets.shape[1])
        if prompt.distractors:
            others = features_in(clip, prompt.distractors, forms)
        distractors.append(others)
        if source is not None:
            directions.append(_directions(clip, prompt, source, forms))
    temperature = temperature or 1 / clip.logit_scale
    return PromptFeatures(clip, targets, tuple(distractors), temperature, tuple(directions))


def in_forms(texts: Sequence[str], forms: Sequence[str]) -> list[str]:
    """Every text in every template, text by text."""
    sentences: list[str] = []
    for text in texts:
        sentences += [form.format(text) for form in forms]
    return sentences


def features_in(clip: ClipModel, texts: Sequence[str], forms: Sequence[str]) -> Tensor:
    """Unit features [K, D] of K texts, averaged over the templates."""
    means = clip.text_features(in_forms(texts, forms)).view(len(texts), len(forms), -1).mean(1)
    return F.normalize(means, dim=-1)


def _directions(
    clip: ClipModel, prompt: Prompt, source: str, forms: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Of the target, and of every distractor but the source itself."""
    others = [text for text in prompt.distractors if not same_text(text, source)]
    try:
        target = losses.text_direction(clip.text_features, source, prompt.text, forms)
        rest = [losses.text_direction(clip.text_features, source, text, forms) for text in others]
    except ValueError as error:
        raise DclipError(f"edit.source or guidance.targets: {error}") from error
    return target, torch.stack(rest) if rest else target.new_zeros(0, len(target))
