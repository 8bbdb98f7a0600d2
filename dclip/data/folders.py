"""The pictures of a folder: every real folder and file once, whatever links lead to it. No torch."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from dclip.data.pictures import MASK_GROUND, decode, mask_trouble, suffixes, trouble
from dclip.errors import DclipError

log = logging.getLogger("dclip")

SAME_SHAPE = 0.01  # by so much two ratios of width and height may differ


class _Walk:
    """All files below a folder. A link counts where nothing but links leads to its target."""

    def __init__(self, root: Path) -> None:
        self.files: list[Path] = []
        self.dangling: list[Path] = []
        self.closed: list[Path] = []  # folders that may not be read
        self._root = root
        self._seen: set[object] = set()
        self._links: list[Path] = []
        self._folders = [root]
        while self._folders or self._links:
            if self._folders:
                self._enter(self._folders.pop())
            else:
                self._follow(self._links.pop(0))

    def _enter(self, folder: Path) -> None:
        real = os.path.realpath(folder)
        if not self._is_new(real):
            return
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except PermissionError:
            if folder == self._root:
                raise
            self.closed.append(folder)
            return
        for entry in ordered:
            path = folder / entry.name
            if entry.is_symlink():
                self._links.append(path)
            elif entry.is_dir():
                self._folders.append(path)
            elif entry.is_file():
                self._add(path, f"{real}/{entry.name}", entry.stat())

    def _follow(self, link: Path) -> None:
        try:
            state = link.stat()
        except OSError:  # it leads nowhere, to itself, or where we may not go
            self.dangling.append(link)
            return
        if stat.S_ISDIR(state.st_mode):
            self._folders.append(link)
        elif stat.S_ISREG(state.st_mode):
            self._add(link, os.path.realpath(link), state)

    def _add(self, path: Path, real: str, state: os.stat_result) -> None:
        """A file that has several names (hard links) is one."""
        names = state.st_nlink
        if self._is_new((state.st_dev, state.st_ino) if names > 1 else real):
            self.files.append(path)

    def _is_new(self, identity: object) -> bool:
        new = identity not in self._seen
        self._seen.add(identity)
        return new


def _is_hidden(path: Path) -> bool:
    """Whether a name begins with a dot: a file manager's, or a notebook's second copy."""
    return any(part.startswith(".") for part in path.parts)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in suffixes()


def find_images(root: Path) -> list[Path]:
    """Image files under a folder, sorted, without hidden ones; the file itself if ``root`` is one."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        return []
    files = _Walk(root).files
    shown = [path for path in files if not _is_hidden(path.relative_to(root))]
    return sorted(path for path in shown if _is_picture(path))


def left_out(root: Path) -> str:
    """What a folder holds that is not read, by kind: ``2 .heic, 1 .txt``; empty where nothing is.

    Hidden files are no pictures that anybody misses.
    """
    if not root.is_dir():
        return ""
    walk = _Walk(root)
    kinds = Counter(_kinds(path for path in walk.files if not _is_picture(path)))
    for kind, places in (("broken link", walk.dangling), ("unreadable folder", walk.closed)):
        if places:
            kinds[kind if len(places) == 1 else f"{kind}s"] = len(places)
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{number} {kind}" for kind, number in ordered)


def _kinds(files: Iterable[Path]) -> list[str]:
    return [path.suffix or "without a suffix" for path in files if not path.name.startswith(".")]


@cache
def tell_left_out(root: Path) -> None:
    """Say once what a folder holds that Pillow cannot read."""
    kinds = left_out(root)
    if kinds:
        log.info("%s: left out, as Pillow cannot read them: %s", root, kinds)


def pictures_of(path: Path, setting: str) -> list[Path]:
    """The pictures of a folder, or the one file, given as ``setting``. DclipError if none."""
    paths = find_images(path)
    if paths:
        return paths
    others = left_out(path)
    instead = f" (it has {others})" if others else ""
    raise DclipError(
        f"{setting}={path} holds no images{instead}; "
        "give a file, or a folder with PNG, JPEG or WebP files"
    )


def check_pictures(path: Path, setting: str) -> None:
    """DclipError unless the file, or at least one of the folder's, can be read; torch waits."""
    troubles: list[str] = []
    for picture in pictures_of(path, setting):
        why = trouble(picture)
        if not why:
            return
        troubles.append(why)
    raise nothing_readable(f"{setting}={path}", troubles)


def check_masks(path: Path, setting: str) -> None:
    """DclipError unless the file, or each of the folder's pictures, is a grey one; torch waits."""
    for picture in pictures_of(path, setting):
        why = mask_trouble(picture)
        if why:
            raise DclipError(f"{setting}={path}: {why}" if path.is_dir() else f"{setting}={why}")


def check_region(mask: Path, pictures: tuple[int, int] | None, setting: str) -> None:
    """DclipError for a black mask; one of another shape than the pictures is told of.

    Args:
        pictures: their width and height, where all have the same.
    """
    drawn = decode(mask, str(mask), MASK_GROUND)
    if drawn.getbbox() is None:
        raise DclipError(f"{setting}={mask}: the mask has no white; nothing may change")
    (wide, high), (width, height) = drawn.size, pictures or drawn.size
    if abs(wide * height - high * width) > SAME_SHAPE * high * width:
        shapes = f"is {wide}x{high}, but the pictures are {width}x{height}"
        _warn_once(f"{setting}={mask} {shapes}: of each the middle square is used")


@cache
def _warn_once(text: str) -> None:
    log.warning(text)


def nothing_readable(where: str, troubles: Sequence[str]) -> DclipError:
    """The refusal of pictures of which none can be read; each has its reason."""
    if len(troubles) == 1 and where in troubles[0]:
        return DclipError(troubles[0])
    if len(troubles) == 1:
        return DclipError(f"{where}: {troubles[0]}")
    return DclipError(f"{where}: no readable image among {len(troubles)} files ({troubles[0]})")
