"""What a data set on disk lacks, said before a run starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from dclip.config import (
    Cifar10,
    Config,
    Dataset,
    Folder,
    Photographs,
    Sampled,
    Start,
    TaskName,
    ToonFaces,
)
from dclip.data.pools import pools
from dclip.data.splits import SPLITS, deal
from dclip.errors import DclipError

# ---------------------------------------------------------------------------------------------------- what is missing


def missing(data: Dataset) -> list[str]:
    """One line for everything that is not on disk: what, the layout expected there, where it is documented."""
    lines = missing_alignment(data)
    if not isinstance(data, Photographs):
        return lines
    try:
        there = bool(data.root) and bool(pools(data))
        images = [] if there else [_missing_images(data)]
    except DclipError as error:
        images = [str(error)]
    return [*lines, *_missing_ids(data), *images]


def _missing_ids(data: Photographs) -> list[str]:
    absent = data.ids is not None and not Path(data.ids).is_file()
    return (
        [f"dataset.ids={data.ids} does not exist; give a text file with one image a line"]
        if absent
        else []
    )


def _missing_images(data: Photographs) -> str:
    root = Path(data.root)
    state = "holds no such images" if root.is_dir() else "is not a folder"
    category = getattr(data, "category", None)
    what = f"{type(data).__name__}{f' ({category})' if category else ''}"
    own = (
        ""
        if type(data) is Folder
        else "; or use your own images (dataset=folder dataset.root=DIR), or none (dataset=sampled)"
    )
    return f"{what}: dataset.root={data.root} {state} ({root.absolute()}); put there {data.LAYOUT}; from {data.SOURCE}{own}"


def missing_alignment(data: Dataset) -> list[str]:
    """Lines for what ``dataset.align`` needs and has not."""
    if data.landmarks is not None and not Path(data.landmarks).is_file():
        return [
            f"dataset.landmarks={data.landmarks} does not exist; give a CSV or JSON file, or leave it out for the detector"
        ]
    if data.align and data.landmarks is None and find_spec("facenet_pytorch") is None:
        return [
            "dataset.align=true needs a face detector: pip install 'dclip[align]', or give dataset.landmarks=FILE"
        ]
    return []


def asked(cfg: Config) -> dict[str, int]:
    """How many images of which split the run needs; none where they come from ``input``.

    Sampling needs test images to start from, or true pictures to compare its photographs with.
    """
    if cfg.task.name is TaskName.sample:
        starts = getattr(cfg.task, "start", None) is Start.images and cfg.input is None
        compares = cfg.metric.kid and isinstance(cfg.dataset, Photographs)
        return {"test": cfg.dataset.test} if starts or compares else {}
    return (
        {}
        if cfg.input
        else {split: int(getattr(cfg.dataset, split)) for split in SPLITS.get(cfg.task.name, ())}
    )


def missing_data(cfg: Config) -> list[str]:
    """Lines for all the data that this run needs and that is neither here nor may be fetched."""
    data = cfg.dataset
    if not asked(cfg) or not isinstance(data, Photographs):
        return missing_alignment(data)
    fetched = isinstance(data, Cifar10) and data.fetch and not cfg.offline
    return [*missing_alignment(data), *_missing_ids(data)] if fetched else missing(data)


def check_data(cfg: Config) -> None:
    """Refuse a run whose images are too few, or do not go with its other settings."""
    data, lines = cfg.dataset, missing_data(cfg)
    if data.align and isinstance(data, ToonFaces | Sampled) and cfg.input is None:
        raise DclipError(
            "dataset.align=true is for photographs; this data set is drawn, and has nothing to align"
        )
    if lines:  # dclip.prepare.needs says these together with the weights that are missing
        return
    if isinstance(data, Photographs) and asked(cfg):
        _needs_clip(cfg)
        found = pools(data)
        if found:  # else it will be fetched
            deal(data, asked(cfg), found)


def _needs_clip(cfg: Config) -> None:
    named = type(cfg.dataset) is not Folder  # a folder may hold cartoons
    if named and cfg.clip.name == "toonfaces" and cfg.task.name is TaskName.finetune:
        raise DclipError(
            "clip=toonfaces has only ever seen cartoon faces; choose clip=openai_vit_b_16 for photographs"
        )
