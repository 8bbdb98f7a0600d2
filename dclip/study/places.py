"""Which folders ``runs=`` means: folders, patterns such as ``outputs/finetune_*``, names of edits."""

from __future__ import annotations

from glob import glob, has_magic
from pathlib import Path

from dclip.edits.named import runs_of, why_aside
from dclip.errors import DclipError
from dclip.prepare.words import paths_in


def places_of(setting: str, output: str = "outputs") -> list[str]:
    """The folders of ``runs=``, each once.

    A name is that of an edit, and means the run that ``edit.adapter=NAME`` would apply.

    Raises:
        DclipError: something in it is none of these.
    """
    found: dict[str, None] = {}
    for part in paths_in(setting):
        found |= dict.fromkeys(_folders(part, output))
    return list(found)


def _folders(part: str, output: str) -> list[str]:
    if Path(part).is_dir():
        return [part]
    if has_magic(part):
        folders = [path for path in sorted(glob(part)) if Path(path).is_dir()]  # noqa: PTH207
        if not folders:
            raise DclipError(f"runs={part} matches no folder; quote it, and check the pattern")
        return folders
    if not part.isidentifier():
        raise DclipError(
            f"runs={part} is no folder; give run folders, folders that hold runs (outputs), "
            "patterns, or names of edits"
        )
    return [_named(part, output)]


def _named(name: str, output: str) -> str:
    """The folder of the run that an edit's name means."""
    runs = runs_of(name, output)
    if not runs:
        raise DclipError(
            f"runs={name} is neither a folder nor an edit that was learned under {output}"
        )
    why = why_aside(runs[0])
    if why:
        raise DclipError(
            f"runs={name}: no finished run of the experiment itself is under {output}, only others "
            f"({why}); name one by its folder: runs={runs[0].folder}"
        )
    return str(runs[0].folder)
