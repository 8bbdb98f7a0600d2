"""What a data set lacks, said before a run starts. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from dclip.config import Config, Dataset, SampleTask
from dclip.data.domains import domain_named
from dclip.errors import DclipError, need


def missing(data: Dataset) -> list[str]:
    """A line for everything not on disk: what, the layout expected, where it is documented."""
    return [*missing_alignment(data), *data.missing()]


def missing_alignment(data: Dataset) -> list[str]:
    """What ``dataset.align`` needs and has not."""
    if data.landmarks is not None and not Path(data.landmarks).is_file():
        return [
            f"dataset.landmarks={data.landmarks} does not exist; "
            "give a CSV or JSON file, or leave it out for the detector"
        ]
    if data.align and data.landmarks is None and find_spec("facenet_pytorch") is None:
        return [
            "dataset.align=true needs a face detector: "
            "pip install 'dclip[align]', or give dataset.landmarks=FILE"
        ]
    return []


def images_needed(cfg: Config) -> dict[str, int]:
    """How many images of which split the run needs; none where they come from ``input``.

    Sampling needs test images to start from, or true pictures to compare its own with.
    """
    data = cfg.dataset
    if isinstance(cfg.task, SampleTask):
        starts = cfg.task.from_images and cfg.input is None
        compares = cfg.metric.kid and data.compares and not cfg.task.from_images
        return {"test": data.test} if starts or compares else {}
    if cfg.input:
        return {}
    return {split: data.count(split) for split in cfg.task.splits}


def missing_data(cfg: Config) -> list[str]:
    """Lines for all the data that this run needs and that is neither here nor may be fetched."""
    data = cfg.dataset
    lines = missing_alignment(data)
    if images_needed(cfg):
        lines += data.missing(data.downloads and not cfg.offline)
        if lines and isinstance(cfg.task, SampleTask) and not cfg.task.from_images:
            lines[-1] += "; they are only compared with: metric.kid=false does without"
    return lines


def data_to_fetch(cfg: Config) -> str:
    """The data that this run would fetch; empty where it needs none, or all is on disk."""
    data = cfg.dataset
    if not images_needed(cfg) or not data.downloads or cfg.offline:
        return ""
    return data.to_download


def check_data(cfg: Config) -> None:
    """Refuse a run whose images are too few, or do not go with its other settings."""
    data, counts = cfg.dataset, images_needed(cfg)
    need(
        not (data.align and data.drawn) or cfg.input is not None,
        "dataset.align=true is for photographs; this data set is drawn, and has nothing to align",
    )
    if data.align and data.landmarks is not None and Path(data.landmarks).is_file():
        _check_landmarks(data.landmarks)
    # what is missing is listed by dclip.prepare.needs, with the weights
    if not counts or missing_data(cfg):
        return
    _check_clip(cfg)
    data.check(counts)


def _check_landmarks(path: str) -> None:
    """DclipError for a file that holds none."""
    from dclip.data.align import read_landmarks

    read_landmarks(Path(path))


def _check_clip(cfg: Config) -> None:
    clip = domain_named(cfg.clip.name)
    if cfg.dataset.photographs and clip.drawn and cfg.task.learns:
        raise DclipError(
            f"clip={clip.name} has only ever seen {clip.pictures}; "
            "choose clip=openai_vit_b_16 for photographs"
        )
