"""What the prompts of a sampling run need, checked before anything is built. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection

from dclip.config import Config, Guidance, Guided, SampleTask, option_name
from dclip.errors import DclipError, need
from dclip.text.prompts import Prompt, attributes_of, resolve, same_text


def task_of(cfg: Config) -> SampleTask:
    """The run's task. DclipError unless it samples."""
    if not isinstance(cfg.task, SampleTask):
        task, method = option_name("task", cfg.task), option_name("method", cfg.method)
        raise DclipError(
            f"method={method} acts while sampling; choose task=sample, not task={task}"
        )
    return cfg.task


def guides(cfg: Config) -> bool:
    """Whether a guidance pulls while sampling."""
    return isinstance(cfg.guidance, Guided)


def guiding_networks(cfg: Config) -> frozenset[str]:
    """The CLIPs that pull: several of ``guidance.clips``, or the one of ``clip.name``."""
    several = isinstance(cfg.guidance, Guided) and bool(cfg.guidance.clips)
    return frozenset({"guides"} if several else {"clip"})


def guidance_name(cfg: Config) -> str:
    """The option of ``guidance=``."""
    return option_name("guidance", cfg.guidance)


def check_prompts(cfg: Config, pulling: Collection[Guidance]) -> None:
    """Refuse prompts that these guidances cannot follow. DclipError in one line."""
    prompts = resolve(cfg)
    attributes_of(prompts)
    for prompt in prompts:
        for guidance in pulling:
            if guidance.needs_distractors:
                _check_distractors(prompt)
            if guidance.needs_direction:
                _check_direction(cfg, guidance, prompt)


def _check_distractors(prompt: Prompt) -> None:
    need(
        bool(prompt.distractors),
        f"{prompt.text[:60]!r} has no distractors: it names no attribute of ToonFaces; give "
        "guidance.distractors='[a text,another]' or cifar10 or source, or choose another guidance",
    )


def _check_direction(cfg: Config, guidance: Guidance, prompt: Prompt) -> None:
    source = cfg.edit.source
    need(
        not same_text(prompt.text, source),
        f"edit.source={source} is also a target, and there is no direction from a text to itself; "
        "change edit.source",
    )
    others = [text for text in prompt.distractors if not same_text(text, source)]
    need(
        bool(others) or not guidance.needs_distractors,
        f"{prompt.text[:60]!r} has no distractors but edit.source={source}, and there is no "
        "direction from a text to itself; give others: guidance.distractors='[a text,another]'",
    )


def title(cfg: Config, how: list[str]) -> str:
    """A sampling run in words; ``how`` lists what pulled, the last first."""
    what = " and ".join(prompt.text for prompt in resolve(cfg)) or "from noise"
    return f"sample: {what} ({' after '.join(how) or 'no guidance'})"
