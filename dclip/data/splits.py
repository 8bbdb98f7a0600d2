"""Which image belongs to which split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dclip.config import Photographs, TaskName
from dclip.data.pools import Chosen, Pools, pools
from dclip.errors import DclipError

# what a task looks at. In this order: how many train must not change which are the test images
SPLITS = {
    TaskName.finetune: ("test", "train", "validation"),
    TaskName.edit: ("test",),
    TaskName.reconstruct: ("test",),
    TaskName.translate: ("test",),
    TaskName.demo: ("test",),
    TaskName.pretrain: ("test", "train"),
}


# ---------------------------------------------------------------------------------------------------- dealing


def read_ids(path: Path) -> dict[str, list[str]]:
    """An id list by split (``[test]`` above its lines); lines before any heading are under ``""``. ``#`` begins a comment."""
    lists: dict[str, list[str]] = {}
    split = ""
    for line in path.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        heading = re.fullmatch(r"\[(\w+)\]", text)
        split = heading[1] if heading else split
        if split not in ("", *SPLITS[TaskName.finetune]):
            raise DclipError(
                f"dataset.ids={path}: there is no split [{split}]; choose [test], [train] or [validation]"
            )
        if text and not heading:
            lists.setdefault(split, []).append(text)
    if not lists or (len(lists) > 1 and "" in lists):
        raise DclipError(
            f"dataset.ids={path} is empty, or has lines above its first [split]; write one image a line"
        )
    return lists


def _listed(data: Photographs, found: Pools) -> dict[str, list[Chosen]]:
    """The id list's images. DclipError for what the data set does not have, and for what is listed twice."""
    if data.ids is None:
        return {}
    chosen: dict[str, list[Chosen]] = {}
    unknown: list[str] = []
    for split, lines in read_ids(Path(data.ids)).items():
        places = sorted(
            found.values(),
            key=lambda pool: pool is not found.get("test" if split == "test" else "train"),
        )
        for line in lines:
            hits = ((pool, pool.find(line)) for pool in places)
            hit = next(((pool, name) for pool, name in hits if name is not None), None)
            chosen.setdefault(split, []).append(hit) if hit else unknown.append(line)
    if unknown:
        raise DclipError(
            f"dataset.ids={data.ids}: {len(unknown)} lines are not in {data.root}: {', '.join(unknown[:3])} ..."
        )
    times = Counter(one for part in chosen.values() for one in part)
    twice = [name for (_, name), number in times.items() if number > 1]
    if twice:
        raise DclipError(
            f"dataset.ids={data.ids} lists {twice[0]} twice ({len(twice)} such images); list every image once"
        )
    return chosen


def deal(
    data: Photographs, counts: Mapping[str, int], found: Pools | None = None
) -> dict[str, list[Chosen]]:
    """Disjoint, repeatable splits, dealt in the order of ``counts``. DclipError where there are too few images."""
    found = found or pools(data)
    listed = _listed(data, found)
    used = {one for part in listed.values() for one in part} if "" not in listed else set()
    chosen: dict[str, list[Chosen]] = {}
    for split, number in counts.items():
        if own := listed.get(split) or listed.get(""):
            candidates, place = own, f"dataset.ids={data.ids}"
            free = [one for one in candidates if split in listed or one not in used]
        else:
            pool = found.get("all") or found["test" if split == "test" else "train"]
            free = [
                (pool, name) for name in pool.first(number + len(used)) if (pool, name) not in used
            ]
            place = f"dataset.root={pool.place}"
        chosen[split] = free[:number]
        used |= set(chosen[split])
        if len(free) < number:
            _too_few(place, len(free), split, chosen, counts)
    return chosen


def _too_few(
    place: str,
    left: int,
    split: str,
    chosen: Mapping[str, Sequence[Chosen]],
    counts: Mapping[str, int],
) -> None:
    raise DclipError(
        f"{place} has {left} images for {split}, but dataset.{split}={counts[split]} are asked for"
        f"{''.join(f' after {len(v)} {k}' for k, v in chosen.items() if k != split)}; lower dataset.train or dataset.test"
    )
