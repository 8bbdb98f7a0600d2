"""What ToonFaces-CF asks for: edits, pairs of edits, and the faces of each. Imports nothing heavy.

A change of anything here, or of how faces are drawn, is another ``VERSION``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from dclip.data.toonfaces.faces import sample_face
from dclip.data.toonfaces.truths import Truth, truth_named
from dclip.errors import DclipError, choose, nearest

if TYPE_CHECKING:
    from dclip.types import Images

NAME = "ToonFaces-CF"
VERSION = "1.0"
SPLIT = "test"
FACES = 100  # of every task
# of an edit, where they are asked for
AXIOMS = ("composition_1", "composition_10", "reversibility")
COMMUTATIVITY = "commutativity"  # of a pair
AXIOMS_FOLDER = "axioms"  # of a run: a folder of pictures for each of them
LICENCE = (
    'CC BY 4.0. The faces are remixed from "ToonHead" by Johan Melin '
    "(https://www.dicebear.com/styles/toon-head), CC BY 4.0, and drawn by dicebear and resvg."
)

TEXTS: dict[str, tuple[str, str]] = {
    "red_hair": ("person", "person with red hair"),
    "grey_hair": ("person", "person with grey hair"),
    "blond_hair": ("person", "person with blond hair"),
    "tanned": ("face", "tanned face"),
    "pale": ("face", "pale face"),
    "zombie": ("person", "zombie"),
    "smiling": ("face", "smiling face"),
    "sad": ("face", "sad face"),
    "angry": ("face", "angry face"),
    "surprised": ("face", "surprised face"),
    "beard": ("person", "person with a beard"),
    "no_beard": ("person with a beard", "person with no beard"),
    "long_hair": ("person with short hair", "person with long hair"),
    "sketch": ("a picture of a person", "a sketch of a person"),
    "pixel_art": ("a picture of a person", "pixel art of a person"),
    "red_hair+beard": ("person", "person with red hair and a beard"),
    "grey_hair+beard": ("person", "person with grey hair and a beard"),
    "blond_hair+smiling": ("person", "smiling person with blond hair"),
    "tanned+smiling": ("person", "smiling person with tanned skin"),
    "zombie+angry": ("person", "angry zombie"),
    "red_hair+long_hair": ("person with short hair", "person with long red hair"),
}
"""Every task with the text before and the text after. Pairs of edits are joined by ``+``."""


@dataclass(frozen=True)
class BenchmarkTask:
    """One edit, or a pair of edits at once, of the faces that it means something for.

    Attributes:
        source, target: the texts before and after.
        truth: what the edit truly means.
    """

    name: str
    source: str
    target: str
    truth: Truth

    @property
    def parts(self) -> tuple[str, ...]:
        """The edits that it joins."""
        return tuple(self.name.split("+"))

    @property
    def is_pair(self) -> bool:
        """Whether it joins two edits."""
        return len(self.parts) > 1

    @property
    def other_order(self) -> str | None:
        """The name of a pair's folder where the second edit came first; None for one edit."""
        if not self.is_pair:
            return None
        return "+".join(reversed(self.parts))

    @property
    def has_pictures(self) -> bool:
        """Whether each face has one true picture: not after a change of style."""
        return "style" not in self.truth.attributes

    def indices(self, number: int = FACES) -> list[int]:
        """The first faces of the split that the edit means something for."""
        fitting = (i for i in count() if self.truth.applies(sample_face(SPLIT, i)))
        return list(islice(fitting, number))

    def ids(self, number: int = FACES) -> tuple[str, ...]:
        """What the pictures of these faces are called."""
        return tuple(f"{SPLIT}_{index:05d}" for index in self.indices(number))

    def faces(self, number: int = FACES) -> Images:
        """The faces as they are before the edit."""
        from dclip.data.toonfaces.images import toonfaces

        return toonfaces(SPLIT, number, self.truth)


def task_named(name: str) -> BenchmarkTask:
    """A task by its name. DclipError where there is none."""
    truth = truth_named(name)
    if name not in TEXTS or truth is None:
        raise DclipError(f"{NAME} has no edit {name!r}{choose(name, list(TEXTS))}")
    return BenchmarkTask(name, *TEXTS[name], truth)


def tasks_named(names: Sequence[str]) -> list[BenchmarkTask]:
    """Tasks by their names, all of them where none is named; each once, in the usual order."""
    wanted = {task_named(name).name for name in names} or set(TEXTS)
    return [task_named(name) for name in TEXTS if name in wanted]


def guess(name: str, known: Sequence[str] | dict[str, tuple[str, str]]) -> str:
    """A hint at what was meant, for the end of a message; empty where nothing is alike."""
    likely = nearest(name, list(known))
    return f"; did you mean {likely}?" if likely else ""
