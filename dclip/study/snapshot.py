"""Jobs of a study run from the code as it was when the command began: from a copy of it.

The copy lies beside the runs, in ``.code/DIGEST``; the package's weights are linked, not copied.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dclip.files import atomic_save
from dclip.prepare.paths import CONF, PACKAGE
from dclip.record.machine import REVISION, git_revision

CODE = ".code"
LAST = "last"  # the file that says with which code the study was last run
ASIDE = ("__pycache__", "weights")


def script() -> Path | None:
    """The checkout's run.py; None where dclip is installed, whose files nobody edits."""
    path = PACKAGE.parent / "run.py"
    return path if path.is_file() and CONF.parent == PACKAGE.parent else None


def files_of_code() -> Iterator[Path]:
    """Every file that decides what a job does, but for weights; relative to the checkout."""
    root = PACKAGE.parent
    yield Path("run.py")
    for folder in (PACKAGE, CONF):
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not set(relative.parts).intersection(ASIDE):
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
    original = script()
    if original is None:
        return None
    place = runs.resolve() / CODE / digest()
    if not (place / original.name).is_file():
        _copy(place)
    return place / original.name


def _copy(place: Path) -> None:
    """Copy the code, whole or not at all; another command may do the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".copy", dir=place.parent))
    try:
        for relative in files_of_code():
            (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKAGE.parent / relative, temporary / relative)
        _link_weights(temporary / PACKAGE.name / "weights")
        (temporary / REVISION).write_text(git_revision(), "utf-8")
        temporary.chmod(0o755)
        if not place.is_dir():
            temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link_weights(place: Path) -> None:
    weights = PACKAGE / "weights"
    try:
        place.symlink_to(weights, target_is_directory=True)
    except OSError:  # file systems without links
        shutil.copytree(weights, place)


def has_changed(runs: Path) -> bool:
    """Whether the study was last run with other code; from now on, this is its code."""
    if script() is None:
        return False
    path, now = runs / CODE / LAST, digest()
    before = path.read_text("utf-8") if path.is_file() else now
    atomic_save(path, lambda temporary: temporary.write_text(now, "utf-8"))
    return before != now
