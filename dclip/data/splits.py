"""Which image belongs to which split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from dclip.data.pools import Pool, Pools
from dclip.errors import DclipError, counted

# Images are split in this order: how many train must not change which are the test images.
ORDER = ("test", "train", "validation")

Chosen = tuple[Pool, str]  # an image: where it is, and its name there


def read_ids(path: Path) -> dict[str, list[str]]:
    """An id list by split (``[test]`` above its lines); lines before any heading are under ``""``.

    ``#`` begins a comment.
    """
    lists: dict[str, list[str]] = {}
    split = ""
    for line in path.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        heading = re.fullmatch(r"\[(\w+)\]", text)
        if heading is None:
            if text:
                lists.setdefault(split, []).append(text)
            continue
        split = heading[1]
        if split not in ORDER:
            raise DclipError(
                f"dataset.ids={path}: there is no split [{split}]; "
                "choose [test], [train] or [validation]"
            )
    if not lists or (len(lists) > 1 and "" in lists):
        raise DclipError(
            f"dataset.ids={path} is empty, or has lines above its first [split]; "
            "write one image a line"
        )
    return lists


def _listed(pools: Pools, root: str, ids: str) -> dict[str, list[Chosen]]:
    """The id list's images.

    DclipError for what the data set does not have, and for what is listed twice.
    """
    chosen: dict[str, list[Chosen]] = {}
    unknown: list[str] = []
    for split, lines in read_ids(Path(ids)).items():
        own = pools.get("test" if split == "test" else "train")
        places = sorted(pools.values(), key=lambda pool: pool is not own)
        for line in lines:
            image = _find(line, places)
            if image is None:
                unknown.append(line)
            else:
                chosen.setdefault(split, []).append(image)
    if unknown:
        raise DclipError(
            f"dataset.ids={ids}: {len(unknown)} lines are not in {root}: "
            f"{', '.join(unknown[:3])} ..."
        )
    times = Counter(chain.from_iterable(chosen.values()))
    twice = [name for (_, name), number in times.items() if number > 1]
    if twice:
        raise DclipError(
            f"dataset.ids={ids} lists {twice[0]} twice ({len(twice)} such images); "
            "list every image once"
        )
    return chosen


def _find(line: str, places: Iterable[Pool]) -> Chosen | None:
    """The image that a line of an id list means, from the first place that has it."""
    for pool in places:
        name = pool.find(line)
        if name is not None:
            return pool, name
    return None


def split_images(
    pools: Pools, counts: Mapping[str, int], root: str = "", ids: str | None = None
) -> dict[str, list[Chosen]]:
    """Disjoint, repeatable splits, filled in the order of ``counts``.

    DclipError where there are too few images.

    Args:
        root, ids: the data set's settings: ``ids`` is a file that lists images, which come first.
    """
    listed = _listed(pools, root, ids) if ids is not None else {}
    used: set[Chosen] = set()
    if "" not in listed:
        used.update(*listed.values())
    chosen: dict[str, list[Chosen]] = {}
    for split, count in counts.items():
        own = listed.get(split) or listed.get("")
        if own:
            place = f"dataset.ids={ids}"
            free = [image for image in own if split in listed or image not in used]
        else:
            pool = _pool(pools, split)
            place = f"dataset.root={pool.place}"
            candidates = [(pool, name) for name in pool.first(count + len(used))]
            free = [image for image in candidates if image not in used]
        chosen[split] = free[:count]
        used.update(chosen[split])
        if len(free) < count:
            remedy = _remedy(pools, listed, split, counts)
            raise _too_few(place, len(free), split, chosen, counts, remedy)
    return chosen


def _pool(pools: Pools, split: str) -> Pool:
    """Where the images of a split are."""
    return pools.get("all") or pools["test" if split == "test" else "train"]


def _too_few(
    place: str,
    left: int,
    split: str,
    chosen: Mapping[str, Sequence[Chosen]],
    counts: Mapping[str, int],
    remedy: str,
) -> DclipError:
    others = ""
    for name, part in chosen.items():
        if name != split:
            others += f" after {len(part)} {name}"
    return DclipError(
        f"{place} has {counted(left, 'image')} for {split}, but dataset.{split}={counts[split]} are asked for"
        f"{others}; {remedy}"
    )


def _remedy(
    pools: Pools, listed: Mapping[str, list[Chosen]], split: str, counts: Mapping[str, int]
) -> str:
    """Settings with which there are enough images: each split's share of what there is."""
    if split in listed:
        return f"set dataset.{split}={len(listed[split])}"
    if "" in listed:
        together, total = list(counts), len(listed[""])
    else:
        pool = _pool(pools, split)
        together = [name for name in counts if name not in listed and _pool(pools, name) is pool]
        taken = sum(map(len, listed.values()))  # an id list's images may be of this pool
        names = pool.first(sum(counts.values()) + taken)
        total = len({(pool, name) for name in names}.difference(*listed.values()))
    shares = _shares({name: counts[name] for name in together}, total)
    if not shares:
        return f"at least {len(together)} images are needed; add some, or use dataset=sampled"
    return "set " + " ".join(f"dataset.{name}={share}" for name, share in shares.items())


def _shares(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Counts brought down in proportion to at most ``total``, none to 0; empty if that is too few.

    Validation may be left out.
    """
    wanted = {name: count for name, count in counts.items() if count}
    if len(wanted) > total:
        wanted.pop("validation", None)
    if len(wanted) > total:
        return {}
    asked = sum(wanted.values())
    shares = dict.fromkeys(counts, 0)
    for name, count in wanted.items():
        shares[name] = max(1, count * total // asked)
    while sum(shares.values()) > total:
        largest = max(shares, key=lambda name: shares[name])
        shares[largest] -= 1
    return shares
