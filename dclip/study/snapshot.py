"""Jobs of a study run from the code as it was when the command began: from a copy of it.

The copy lies beside the runs, in ``.code/DIGEST``; the package's weights are linked into it,
file by file, so that weights that are published meanwhile do not reach its jobs.
When a command begins, it removes the copies that nobody works with any more.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from dclip.files import read_json, write_json, write_text
from dclip.prepare.paths import CONF, PACKAGE
from dclip.record.machine import REVISION, git_revision
from dclip.record.processes import alive, run_from, this_process

CODE = ".code"
LAST = "last"  # the file that says with which code the study was last run
SCRIPT = "run.py"
USERS = "users"  # a file for each command that starts jobs: with which copy
TEMPORARY = ".copy"  # what a copy's name begins with while it is made or removed
CACHE = "__pycache__"
WEIGHTS = "weights"  # linked where the file system can


def script() -> Path | None:
    """The checkout's run.py; None where dclip is installed, whose files nobody edits."""
    path = PACKAGE.parent / SCRIPT
    return path if path.is_file() and CONF.parent == PACKAGE.parent else None


def files_of_code() -> Iterator[Path]:
    """Every file that decides what a job does, weights included; relative to the checkout."""
    root = PACKAGE.parent
    yield Path(SCRIPT)
    for folder in (PACKAGE, CONF):
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and CACHE not in relative.parts:
                yield relative


def digest() -> str:
    """Eight hex digits of the code."""
    code = hashlib.sha256()
    for relative in files_of_code():
        code.update(f"{relative}\0".encode())
        code.update((PACKAGE.parent / relative).read_bytes())
    return code.hexdigest()[:8]


@cache
def frozen(runs: Path) -> Path | None:
    """run.py of a copy of the code, made once a command; None where dclip is installed.

    Args:
        runs: the folder of the study's runs.
    """
    if script() is None:
        return None
    place = runs.resolve() / CODE / digest()
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / "lock"):
        if not (place / SCRIPT).is_file():
            _copy(place)
        _note_use(place)
        _remove_unused(place.parent)
    return place / SCRIPT


def _note_use(place: Path) -> None:
    """Write that this command starts jobs from a copy."""
    note = place.parent / USERS / f"{platform.node()}_{os.getpid()}.json"
    write_json(note, {"code": place.name, **this_process()})


def _used(folder: Path) -> set[str]:
    """The copies that a command starts jobs from, or that a job runs from whose command is gone."""
    used = {path.parts[0] for path in run_from(folder) if path.parts}
    for note in (folder / USERS).glob("*.json"):
        content = read_json(note)
        if alive(content):
            used.add(str(content.get("code")))
        else:
            note.unlink(missing_ok=True)
    return used


def _remove_unused(folder: Path) -> None:
    """Remove the copies that nobody uses, and what is left of copies that were never finished.

    A copy is moved away before it is emptied: it is whole or not there.
    """
    used = _used(folder)
    for found in folder.glob(f"*/{SCRIPT}"):
        copy = found.parent
        if copy.name not in used:
            copy.rename(Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder)) / copy.name)
    for rest in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(rest, ignore_errors=True)


def _copy(place: Path) -> None:
    """Copy the code, whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=place.parent))
    try:
        for relative in files_of_code():
            (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
            _take(PACKAGE.parent / relative, temporary / relative)
        (temporary / REVISION).write_text(git_revision(), "utf-8")
        temporary.chmod(0o755)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take(source: Path, target: Path) -> None:
    if source.parent.name == WEIGHTS:
        with suppress(OSError):  # another file system, or one without links
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)


def has_changed(runs: Path) -> bool:
    """Whether the study was last run with other code; from now on, this is its code."""
    if script() is None:
        return False
    path, now = runs / CODE / LAST, digest()
    before = path.read_text("utf-8") if path.is_file() else now
    write_text(path, now)
    return before != now
