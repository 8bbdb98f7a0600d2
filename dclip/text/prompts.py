"""Texts that guide: what they name, and which other texts they compete with. Needs no torch.

A prompt such as "a smiling person with a beard" names attributes. Its *siblings* are the same text
with one of them changed: "an angry person with a beard", "a smiling person with no beard". Which
words name what is the domain's grammar (``dclip/data/domain.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dclip.config import Config, Guided
from dclip.data.cifar10 import CIFAR10
from dclip.data.domain import Grammar
from dclip.data.domains import domain_of
from dclip.errors import DclipError, choose, need

NAMED = ("siblings", "cifar10", "source")  # sets of distractors that have a name


@dataclass(frozen=True)
class Prompt:
    """One target text with its weight, the texts it competes with, and what it names."""

    text: str
    weight: float = 1.0
    distractors: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """The target, then its distractors."""
        return (self.text, *self.distractors)


def as_texts(setting: str, value: Any) -> list[str]:
    """One text or several as a list.

    DclipError for an empty text, or one that YAML read as something else.
    """
    items = [value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        items = list(value)
    for item in items:
        if not isinstance(item, str):
            raise DclipError(
                f"{setting}: {item} is not a text; "
                "YAML read it as something else, so put it in quotes"
            )
        if not item.strip():
            raise DclipError(
                f"{setting} has an empty text; "
                f"give words such as {setting}='[a person with a beard]'"
            )
    return items


def same_text(a: str, b: str) -> bool:
    """Whether two texts read the same."""
    return a.strip().lower() == b.strip().lower()


def distractors_of(target: str, distractors: Any, source: str, grammar: Grammar) -> tuple[str, ...]:
    """The texts that a target competes with, from a set's name or a list.

    DclipError if the list has the target itself.
    """
    if isinstance(distractors, str):
        texts = _named_set(distractors, target, source, grammar)
        return tuple(text for text in texts if not same_text(text, target))
    texts = as_texts("guidance.distractors", distractors or ())
    if any(same_text(text, target) for text in texts):
        raise DclipError(
            f"guidance.distractors holds the target itself ({target!r}); "
            "a text cannot compete with itself, so leave it out"
        )
    return tuple(dict.fromkeys(texts))


def _named_set(name: str, target: str, source: str, grammar: Grammar) -> Sequence[str]:
    if name == "siblings":
        return grammar.siblings(target)
    if name == "source":
        return [source]
    if (
        name == "cifar10"
    ):  # without the classes that the target names: "red truck" does not compete with "truck"
        return [word for word in CIFAR10 if not _names(word, target)]
    raise DclipError(
        f"guidance.distractors={name} is no set of texts{choose(name, list(NAMED))}, "
        "or give texts: guidance.distractors='[a cat,a dog]'"
    )


def _names(word: str, text: str) -> bool:
    return re.search(rf"\b{word}\b", text.lower()) is not None


def resolve(cfg: Config) -> tuple[Prompt, ...]:
    """The run's prompts: ``guidance.targets``, or the edit's target where something guides.

    DclipError as above.
    """
    options, grammar = cfg.guidance, domain_of(cfg.dataset).grammar
    wanted = isinstance(options, Guided) or cfg.method.follows_prompts
    if options.targets is None and not wanted:
        return ()
    targets = as_texts(
        "guidance.targets", cfg.edit.target if options.targets is None else options.targets
    )
    need(bool(targets), "guidance.targets is empty; give a text, or leave it out for the edit's")
    weights = list(options.weights) or [1.0] * len(targets)
    need(
        len(weights) == len(targets),
        f"guidance.weights={weights} needs one number "
        f"for each of guidance.targets, which are {len(targets)}",
    )
    prompts = []
    for text, weight in zip(targets, weights, strict=True):
        distractors = distractors_of(text, options.distractors, cfg.edit.source, grammar)
        prompts.append(Prompt(text, weight, distractors, grammar.attributes(text)))
    return tuple(prompts)


def attributes_of(prompts: Sequence[Prompt]) -> dict[str, str]:
    """All attributes that the prompts name together.

    DclipError if two of them want different values of one.
    """
    wanted: dict[str, str] = {}
    for prompt in prompts:
        for name, value in prompt.attributes.items():
            if wanted.setdefault(name, value) != value:
                raise DclipError(
                    f"guidance.targets ask for {name} {wanted[name]} and {value} at once; "
                    "no picture shows both"
                )
    return wanted
