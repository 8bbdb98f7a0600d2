"""What tells runs apart: the settings that differ, as few as do, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dclip.config import OPTIONS, Task
from dclip.record.identity import NOT_IDENTITY
from dclip.record.runs import Run

# settings that make no row
ASIDE = (*NOT_IDENTITY, "seed", "name", "trainer", "offline")

# of settings that tell the same runs apart, these come first
FIRST = (
    "task.name",
    "edit.name",
    "sampler.t0",
    "sampler.s_for",
    "sampler.s_gen",
    "method.objective",
)

Settings = dict[str, str]  # of a run: dotted name -> value


def settings_of(run: Run) -> Settings:
    """The settings of a run that can make a difference, by dotted name."""
    settings: Settings = {}
    for group, node in run.config.items():
        if group not in ASIDE:
            settings.update(_flat(node, group))
    return {name: value for name, value in settings.items() if _matters(name, run)}


def _matters(name: str, run: Run) -> bool:
    """Whether a run depends on a setting. Its edit is idle where its task looks at none."""
    if not name.startswith("edit."):
        return True
    if name == "edit.target" and run.setting("guidance.kind") not in (None, "none"):
        return run.setting("guidance.targets") is None
    return named_by_edit(task_of(run))


def task_of(run: Run) -> str:
    """The name of a run's task."""
    return str(run.setting("task.name") or "run")


def named_by_edit(task: str) -> bool:
    """Whether runs of a task are told apart by their edit first."""
    option = OPTIONS["task"].get(task)
    return option is None or not issubclass(option, Task) or option.named_by_edit


def _flat(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}")
    else:
        yield path, str(node)


def chosen_settings(run: Run, by: Sequence[str]) -> Settings:
    """The settings of a run that ``by`` names."""
    settings: Settings = {}
    for name in by:
        value = run.setting(name)
        if value is not None:
            settings[name] = str(value)
    return settings


def labels_of(settings: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    """The values of some settings; ``-`` for those that a run does not have."""
    return tuple(settings.get(name, "-") for name in names)


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """As few settings as tell these apart: one that only follows another is left out."""
    names = dict.fromkeys(FIRST)
    for one in settings:
        names |= dict.fromkeys(one)
    kept: list[str] = []
    groups = 1
    for name in names:
        keys = {labels_of(one, [*kept, name]) for one in settings}
        if len(keys) > groups:
            kept.append(name)
            groups = len(keys)
    return kept


def telling(settings: Sequence[Settings], task: str) -> list[str]:
    """The settings that tell runs of one task apart; of tasks that have an edit, that first."""
    names = differing(settings)
    if named_by_edit(task) and "edit.name" not in names:
        names.insert(0, "edit.name")
    return names


def all_differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Every setting in which these differ, in their order."""
    names: dict[str, None] = {}
    for one in settings:
        names |= dict.fromkeys(one)
    return [name for name in names if len({one.get(name, "-") for one in settings}) > 1]


# ----------------------------------------------------------------------------------- labels

Tails = Mapping[str, str]  # a label -> what is shown of it


def short(label: str, tails: Tails) -> str:
    """What is shown of a label."""
    return tails.get(label, label)


def shown(groups: Sequence[tuple[str, ...]]) -> list[Tails]:
    """What is shown of every label, by its place: of paths, the ends in which they differ."""
    if not groups:
        return []
    return [tails(set(column)) for column in zip(*groups, strict=True)]


def tails(labels: set[str]) -> Tails:
    """Paths -> the shortest ends that tell them apart; long texts -> their beginnings."""
    paths = sorted(label for label in labels if "/" in label)
    most = max((label.count("/") for label in paths), default=0)
    for length in range(1, most + 2):
        short = {path: _tail(path, length) for path in paths}
        if len(set(short.values())) == len(paths):
            return short
    return {}


def _tail(path: str, length: int) -> str:
    parts = path.strip("[]'").removesuffix("/adapter.safetensors").split("/")
    return "/".join(parts[-length:])
