"""``dataset=imagenet``, and its 1,000 classes by index, wnid or name.

Imports neither torch nor timm, which ships the list.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dclip.config import option
from dclip.data.photographs import Photographs
from dclip.data.pools import Pools, class_folders, split_folders, train_and_test
from dclip.errors import DclipError


@option("dataset", "imagenet")
@dataclass
class ImageNet(Photographs):
    """ImageNet-1k, one class or all.

    ``category`` is an index (852), a wnid (n04409515) or a name (tennis ball).
    """

    LAYOUT = "{train,val}/{wnid}/*.JPEG (either will do)"
    SOURCE = "https://image-net.org"
    root: str = "data/imagenet"
    category: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.category is not None:
            wnid(self.category)

    @property
    def part(self) -> str:
        """The class."""
        return self.category or ""

    def pools(self) -> Pools:
        """A folder of each class, in one folder a split."""
        root, order = Path(self.root), self.order
        if self.category is not None:
            return split_folders(root, order, wnid(self.category))
        return train_and_test(
            class_folders(root / "train", order), class_folders(root / "val", order)
        )


def _timm_file(name: str) -> list[str]:
    """The lines of a file that timm ships."""
    spec = find_spec("timm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        file = Path(place) / "data" / "_info" / name
        if file.is_file():
            return file.read_text("utf-8").splitlines()
    raise DclipError(
        f"dataset=imagenet takes its class list from timm's {name}, which is not installed; "
        "pip install timm"
    )


@cache
def classes() -> dict[str, tuple[str, ...]]:
    """wnid -> names, in the order of the indices: n04409515 -> ("tennis ball",) is number 852."""
    names: dict[str, tuple[str, ...]] = {}
    for line in _timm_file("imagenet_synset_to_lemma.txt"):
        code, text = line.split("\t", 1)
        names[code] = tuple(name.strip() for name in text.split(","))
    return {code: names[code] for code in _timm_file("imagenet_synsets.txt")}


def wnid(category: str) -> str:
    """The wnid of a class given as an index (852), a wnid or one of its names.

    DclipError with the nearest names.
    """
    every_class = classes()
    if category.isdigit() and int(category) < len(every_class):
        return list(every_class)[int(category)]
    if category in every_class:
        return category
    wanted = category.lower().replace("_", " ")
    matches: list[str] = []
    every: list[str] = []
    for code, names in every_class.items():
        every += names
        if wanted in [name.lower() for name in names]:
            matches.append(code)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DclipError(
            f"dataset.category={category} is the name of several ImageNet classes; "
            f"choose {' or '.join(matches)}"
        )
    close = difflib.get_close_matches(wanted, every, 3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise DclipError(
        f"dataset.category={category} is no ImageNet class{hint} "
        "Give an index (0 to 999), a wnid or a name"
    )
