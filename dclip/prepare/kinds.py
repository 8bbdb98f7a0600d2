"""Settings of older commands that choose an option: ``method.objective=last_k`` is ``method=last_k``.

An option's class is its kind. Saved configurations still name it among its settings, where it once
was one (``Kind.kind_key``).
"""

from __future__ import annotations

from collections.abc import Sequence

from dclip.config import OPTIONS
from dclip.config.options import Kind
from dclip.errors import nearest

# Those that may still be typed, and their group.
CHOICES = {"method.objective": "method"}


def spelled(words: Sequence[str]) -> list[str]:
    """Words in which such a setting is the choice that it means, in place of others of its kind."""
    result = list(words)
    for setting, group in CHOICES.items():
        names = _names(group, setting.rpartition(".")[2])
        meant = [word for word in result if _chooses(word, setting, names)]
        if meant:
            choice = f"{group}={meant[-1].partition('=')[2]}"
            others = [word for word in result if not _chooses(word, group, names)]
            result = [word for word in others if word not in meant] + [choice]
    return result


def explain_kind(setting: str, words: Sequence[str]) -> str | None:
    """What to type instead of a setting that was a kind; None for any other setting."""
    group, _, key = setting.rpartition(".")
    names = _names(group, key)
    if not names:
        return None
    typed = [word for word in words if word.startswith(f"{setting}=")]
    if not typed:
        return (
            f"there is no setting {setting} for a file to set; write 'override /{group}: NAME' "
            f"into its defaults, NAME one of: {', '.join(names)}"
        )
    name = typed[-1].partition("=")[2]
    if name in names:
        return f"there is no setting {setting}; choose {group}={name}"
    close = nearest(name, names)
    hint = f"; did you mean {close}?" if close else "."
    return f"{setting}={name} does not exist{hint} Choose {group}= from: {', '.join(names)}"


def _names(group: str, key: str) -> list[str]:
    """The options that saved configurations name under this key."""
    names = []
    for name, option in OPTIONS.get(group, {}).items():
        if key and issubclass(option, Kind) and option.kind_key == key:
            names.append(name)
    return names


def _chooses(word: str, setting: str, names: Sequence[str]) -> bool:
    """Whether a word gives the setting one of these names, or several of them."""
    typed, _, value = word.partition("=")
    return typed == setting and all(name in names for name in value.split(","))
