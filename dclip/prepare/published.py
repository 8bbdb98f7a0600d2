"""``preset=faithful`` is the published form of the run's own method. Imports nothing heavy.

Its file is for fine-tuning; a method with another published code names the preset that has it
(``MethodOption.published``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config import OPTIONS, MethodOption, SampleTask
from dclip.errors import DclipError
from dclip.methods.contract import Method
from dclip.prepare.composing import composed

FAITHFUL = "faithful"
_WORD = re.compile(rf"\b{FAITHFUL}\b")


def is_faithful(word: str) -> bool:
    """Whether a word chooses the preset, alone or among others."""
    return word.startswith("preset=") and _WORD.search(word) is not None


def published(words: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[str]:
    """A command's words with the preset of the method in place of ``faithful``.

    Call it where Hydra is initialised. ``jobs``: the words of every job of the command.

    Raises:
        DclipError: the jobs of a sweep mean different presets.
    """
    meant = dict.fromkeys(_meaning(job) for job in jobs if any(map(is_faithful, job)))
    if len(meant) > 1:
        raise DclipError(
            f"preset={FAITHFUL} means {' and '.join(meant)} in this sweep; "
            "start one command for each method"
        )
    chosen = next(iter(meant), FAITHFUL)
    return [_WORD.sub(chosen, word) if is_faithful(word) else word for word in words]


def _meaning(job: Sequence[str]) -> str:
    """The preset that ``faithful`` means for the method of a job."""
    settings = []
    for word in job:
        flag = "=" not in word or word.lstrip("+~").startswith(("hydra", "-"))
        if not flag and not is_faithful(word):
            settings.append(word)
    try:
        node = composed(settings)
    except (HydraException, OmegaConfBaseException):
        return FAITHFUL  # what is wrong is explained where the whole is composed
    method, task = OmegaConf.get_type(node, "method"), OmegaConf.get_type(node, "task")
    samples = isinstance(task, type) and issubclass(task, SampleTask)
    if samples and isinstance(method, type) and issubclass(method, Method) and method.learns:
        method = OPTIONS["method"]["none"]  # as ``method_of`` has it
    if isinstance(method, type) and issubclass(method, MethodOption):
        return method.published
    return FAITHFUL
