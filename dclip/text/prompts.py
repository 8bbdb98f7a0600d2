"""Texts that guide: what they name, and which other texts they are told apart from. Nothing here needs torch.

A prompt such as "a smiling person with a beard" names attributes of ToonFaces; its *siblings* are the same text with one
of them changed ("an angry person with a beard", "a smiling person with no beard"). The wording is that of the captions
which the embedded CLIPs were trained on (``dclip.data.toonfaces.phrase``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dclip.config import CIFAR10, Config, Guided
from dclip.data.toonfaces.faces import Truth
from dclip.data.toonfaces.words import parse_attributes, siblings
from dclip.errors import DclipError
from dclip.methods.latent.options import LatentOpt

NAMED = ("siblings", "cifar10", "source")  # sets of distractors that have a name


@dataclass(frozen=True)
class Prompt:
    """One target text with its weight, the texts it competes with, and the attributes of ToonFaces that it names."""

    text: str
    weight: float = 1.0
    distractors: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """The target, then its distractors."""
        return (self.text, *self.distractors)


def as_texts(setting: str, value: Any) -> list[str]:
    """One text or a list of texts as a list. DclipError for an empty text, or one that YAML read as something else."""
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    for item in items:
        if not isinstance(item, str):
            raise DclipError(
                f"{setting}: {item} is not a text; YAML read it as something else, so put it in quotes"
            )
        if not item.strip():
            raise DclipError(
                f"{setting} has an empty text; give words such as {setting}='[a person with a beard]'"
            )
    return items


def same_text(a: str, b: str) -> bool:
    """Whether two texts read the same."""
    return a.strip().lower() == b.strip().lower()


def distractors_of(target: str, told: Any, source: str) -> tuple[str, ...]:
    """The texts that a target competes with, from a set's name or a list. DclipError if the target is among a list's."""
    if isinstance(told, str):
        if told not in NAMED:
            raise DclipError(
                f"guidance.distractors={told} is no set of texts; choose {', '.join(NAMED)}, or give texts: "
                "guidance.distractors='[a cat,a dog]'"
            )
        others = tuple(
            name for name in CIFAR10 if not re.search(rf"\b{name}\b", target.lower())
        )  # "red truck": no truck
        named = {"siblings": siblings(target), "cifar10": others, "source": (source,)}[told]
        return tuple(text for text in named if not same_text(text, target))
    texts = as_texts("guidance.distractors", told or ())
    if any(same_text(text, target) for text in texts):
        raise DclipError(
            f"guidance.distractors holds the target itself ({target!r}); a text cannot compete with itself, so leave it out"
        )
    return tuple(dict.fromkeys(texts))


def resolve(cfg: Config) -> tuple[Prompt, ...]:
    """The run's prompts: ``guidance.targets``, or the edit's target where something guides. DclipError as above."""
    options = cfg.guidance
    wanted = isinstance(options, Guided) or isinstance(cfg.method, LatentOpt)
    if options.targets is None and not wanted:
        return ()
    targets = as_texts(
        "guidance.targets", cfg.edit.target if options.targets is None else options.targets
    )
    weights = list(options.weights) or [1.0] * len(targets)
    if not targets or len(weights) != len(targets):
        raise DclipError(
            f"guidance.weights={weights} needs one number for each of {len(targets)} guidance.targets"
        )
    return tuple(
        Prompt(
            text,
            weight,
            distractors_of(text, options.distractors, cfg.edit.source),
            parse_attributes(text),
        )
        for text, weight in zip(targets, weights, strict=True)
    )


def attributes_of(prompts: Sequence[Prompt]) -> dict[str, str]:
    """All attributes that the prompts name together; DclipError if two of them want different values of one."""
    wanted: dict[str, str] = {}
    for prompt in prompts:
        for name, value in prompt.attributes.items():
            if wanted.setdefault(name, value) != value:
                raise DclipError(
                    f"guidance.targets ask for {name} {wanted[name]} and {value} at once; no picture shows both"
                )
    return wanted


def truth_of_prompts(prompts: Sequence[Prompt]) -> Truth | None:
    """What prompts that name a single attribute truly mean; None for all others."""
    wanted = attributes_of(prompts)
    return Truth(*next(iter(wanted.items()))) if len(wanted) == 1 else None
