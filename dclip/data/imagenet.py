"""ImageNet's 1,000 classes by index, wnid or name; the list is the one that timm ships. Imports neither torch nor timm."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dclip.errors import DclipError


def _timm_file(name: str) -> list[str]:
    spec = find_spec("timm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(place) / "data" / "_info" / name for place in places]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DclipError(
            f"dataset=imagenet takes its class list from timm's {name}, which is not installed; pip install timm"
        )
    return found.read_text("utf-8").splitlines()


@cache
def classes() -> dict[str, tuple[str, ...]]:
    """wnid -> names, in the order of the class indices: n04409515 -> ("tennis ball",) is number 852."""
    wnids = _timm_file("imagenet_synsets.txt")
    lines = (line.split("\t", 1) for line in _timm_file("imagenet_synset_to_lemma.txt"))
    names = {wnid: tuple(name.strip() for name in text.split(",")) for wnid, text in lines}
    return {wnid: names[wnid] for wnid in wnids}


def wnid(category: str) -> str:
    """The wnid of a class given as an index (852), a wnid or one of its names. DclipError with the nearest names."""
    known = classes()
    if category.isdigit() and int(category) < len(known):
        return list(known)[int(category)]
    if category in known:
        return category
    wanted = category.lower().replace("_", " ")
    found = [key for key, names in known.items() if wanted in (name.lower() for name in names)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DclipError(
            f"dataset.category={category} is the name of several ImageNet classes; choose {' or '.join(found)}"
        )
    close = difflib.get_close_matches(
        wanted, [name for names in known.values() for name in names], 3
    )
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise DclipError(
        f"dataset.category={category} is no ImageNet class{hint} Give an index (0 to 999), a wnid or a name"
    )
