"""A folder of results: the pictures in it by seed, edit and face, and what cannot be scored.

    RESULTS/EDIT/ID.png                  the edited faces
    RESULTS/EDIT/composition_1/ID.png    an edit of degree 0 was applied once; composition_10: ten times
    RESULTS/EDIT/reversibility/ID.png    the edit was followed by its opposite
    RESULTS/B+A/ID.png                   a pair A+B, where the second edit came first
    RESULTS/seed_N/...                   the same, for each of several seeds
    RESULTS/method.json                  what made them

A picture may also be called ``image_ID.png``, as runs write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dclip.data.folders import find_images
from dclip.data.images import exact
from dclip.data.pictures import decode
from dclip.data.toonfaces.faces import SIZE
from dclip.errors import DclipError
from dclip.metrics.benchmark.tasks import AXIOMS, NAME, SPLIT, TEXTS, VERSION, BenchmarkTask, guess

SEED = re.compile(r"seed_\d+")
CARD = "method.json"
WORDS = ("name", "command", "notes", "oracle", "benchmark", "seeds")  # what it may hold
NUMBERS = (
    "seconds",
    "calls",
    "face_seconds",
    "face_calls",
    "learn_seconds",
    "learn_calls",
    "memory_mb",
)
PREFIX = "image_"
NAMED = 3  # pictures that a message about many names


@dataclass
class Results:
    """What a folder of results holds.

    Attributes:
        card: what ``method.json`` says.
        roots: the folder of every seed; without seeds, the folder itself as ``""``.
        troubles: a sentence for everything that cannot be scored.
    """

    path: Path
    card: dict[str, Any]
    roots: dict[str, Path]
    troubles: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the method is called."""
        return str(self.card.get("name") or self.path.resolve().name)

    def has(self, task: BenchmarkTask) -> bool:
        """Whether there is a folder for a task, for any seed."""
        return any((root / task.name).is_dir() for root in self.roots.values())

    def edited(self, seed: str, task: BenchmarkTask, ids: Sequence[str]) -> dict[str, Tensor]:
        """The pictures [3,64,64] of these faces, by id; whatever is missing is a trouble."""
        folder = self.roots[seed] / task.name
        pictures = self._read(folder, task.ids(), ids)
        missing = [name for name in ids if name not in pictures]
        if missing:
            self.troubles.append(
                f"{self._shown(folder)}: {len(missing)} of {len(ids)} pictures are missing or "
                f"cannot be scored: {_some(missing)}"
            )
        return pictures

    def beside(
        self, seed: str, folder: str, task: BenchmarkTask, ids: Sequence[str]
    ) -> dict[str, Tensor]:
        """Further pictures of a task, which nobody must give: those that are there."""
        path = self.roots[seed] / folder
        if not path.is_dir():
            return {}
        return self._read(path, task.ids(), ids)

    def _read(self, folder: Path, known: Collection[str], ids: Sequence[str]) -> dict[str, Tensor]:
        files = self._named(folder, known)
        pictures = {}
        for name in ids:
            picture = None
            if name in files:
                picture = self._open(files[name])
            if picture is not None:
                pictures[name] = picture
        return pictures

    def _named(self, folder: Path, known: Collection[str]) -> dict[str, Path]:
        """The picture files that lie in a folder, by the faces they are named after."""
        files: dict[str, Path] = {}
        for path in _pictures_in(folder):
            name = path.stem.removeprefix(PREFIX)
            if name not in known:
                self.troubles.append(f"{self._shown(path)} is left out: {_why(name, known)}")
            elif name in files:
                other = files[name].name
                self.troubles.append(f"{self._shown(path)} is left out: {other} is of that face")
            else:
                files[name] = path
        return files

    def _open(self, path: Path) -> Tensor | None:
        """A picture [3,64,64] in [-1, 1]; None, and a trouble, for another size or no picture."""
        try:
            picture = decode(path, self._shown(path))
        except DclipError as error:
            self.troubles.append(str(error))
            return None
        if picture.size != (SIZE, SIZE):
            width, height = picture.size
            self.troubles.append(
                f"{self._shown(path)} is left out: it is {width}x{height}, not {SIZE}x{SIZE}"
            )
            return None
        return exact(picture)

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()


def _pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, without those of the folders in it."""
    found = []
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file():
                found += find_images(path) if _is_picture(path) else []
    return found


def _is_picture(path: Path) -> bool:
    from dclip.data.pictures import suffixes

    return path.suffix.lower() in suffixes() and not path.name.startswith(".")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown}, ..." if len(names) > NAMED else shown


def _why(name: str, known: Collection[str]) -> str:
    """Why a picture is of no face of a task."""
    if re.fullmatch(rf"{SPLIT}_\d{{5}}", name):
        return "that face is not among this edit's"
    numbers = re.findall(r"\d+", name)
    meant = f"{SPLIT}_{int(numbers[-1]):05d}" if numbers else ""
    hint = f"; should it be {meant}?" if meant in known else ""
    return f"no face is called {name}{hint}"


# ------------------------------------------------------------------------------- the whole folder


def read_results(path: Path) -> Results:
    """Look through a folder of results. DclipError where it holds none, or those of another version."""
    if not path.is_dir():
        raise DclipError(f"{path} is no folder; give one with a folder of pictures for each edit")
    troubles: list[str] = []
    card = _read_card(path / CARD, troubles)
    version = str(card.get("benchmark", VERSION))
    if version.removeprefix(NAME).strip() != VERSION:
        raise DclipError(f"{path / CARD} is of benchmark {version}; here is {NAME} {VERSION}")
    results = Results(path, card, _roots(path), troubles)
    for root in results.roots.values():
        _check_names(results, root)
    if path not in results.roots.values():
        _check_beside_seeds(results)
    return results


def _read_card(path: Path, troubles: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        troubles.append(f"{path.name} is left out: {error}")
        return {}
    if not isinstance(card, dict):
        troubles.append(f"{path.name} is left out: it is no JSON object")
        return {}
    for key, value in list(card.items()):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in NUMBERS and not is_number:
            troubles.append(f"{path.name}: {key} is left out: {value!r} is no number")
            card.pop(key)
        elif key not in (*NUMBERS, *WORDS):
            known = ", ".join([*WORDS, *NUMBERS])
            troubles.append(f"{path.name}: {key} is left out: none of {known}")
    return card


def _roots(path: Path) -> dict[str, Path]:
    seeds = {}
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and SEED.fullmatch(folder.name):
            seeds[folder.name] = folder
    return seeds or {"": path}


def _check_beside_seeds(results: Results) -> None:
    """A trouble for every folder of an edit that lies in no seed's folder."""
    for folder in sorted(results.path.iterdir()):
        if folder.is_dir() and folder.name in _folder_names():
            results.troubles.append(
                f"{results._shown(folder)} is left out: there are seeds, and it lies beside them"
            )


def _check_names(results: Results, root: Path) -> None:
    """A trouble for every folder that is of no edit, and for pictures beside the folders."""
    known = _folder_names()
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        if folder.name not in known:
            hint = guess(folder.name, list(known))
            results.troubles.append(f"{results._shown(folder)}: there is no such edit{hint}")
            continue
        _check_inside(results, folder, known[folder.name])
    strays = _pictures_in(root)
    if strays:
        results.troubles.append(
            f"{len(strays)} pictures lie beside the edits' folders: {strays[0].name}"
        )


def _check_inside(results: Results, folder: Path, expected: Sequence[str]) -> None:
    """A trouble for every folder inside an edit's folder that means nothing."""
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.name.startswith(".") and inner.name not in expected:
            hint = guess(inner.name, list(expected))
            results.troubles.append(f"{results._shown(inner)}: no such pictures are scored{hint}")


def _folder_names() -> Mapping[str, Sequence[str]]:
    """The folders that may be there, with those that may be in them."""
    known: dict[str, Sequence[str]] = dict.fromkeys(TEXTS, AXIOMS)
    for name in TEXTS:
        other = "+".join(reversed(name.split("+")))
        known.setdefault(other, ())
    return known
