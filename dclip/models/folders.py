"""Where a diffusers folder keeps its weights, whole, in halves or in shards, and its scheduler."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dclip.errors import DclipError, need
from dclip.models.scheduler import FILE as SCHEDULER

STEM = "diffusion_pytorch_model"
INDEX = ".index"  # part of the name of a list of shards
_SUFFIXES = (".safetensors", ".bin")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_PLACES = ("", "unet", "unet_ema")


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights: the path, or the file inside a diffusers folder.

    Of a network in shards it is the list of them. DclipError where there is none, or several that
    differ in more than their format.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        need(path.is_file(), f"{path} does not exist; give a checkpoint file or a diffusers folder")
        return path
    for place in _PLACES:
        file = _in_folder(path / place)
        if file is not None:
            return file
    raise DclipError(
        f"{path} holds no {STEM}.safetensors or {STEM}.bin, neither there nor in unet/ or "
        "unet_ema/; give a diffusers folder"
    )


def _in_folder(folder: Path) -> Path | None:
    """Plain weights first, then a list of shards, then the one variant that is there (fp16)."""
    for suffix in _SUFFIXES:
        for name in (f"{STEM}{suffix}", f"{STEM}{suffix}.index.json"):
            if (folder / name).is_file():
                return folder / name
    variants: dict[str, Path] = {}
    for suffix in reversed(_SUFFIXES):  # safetensors win
        for file in sorted(folder.glob(f"{STEM}.*{suffix}")):
            if not _SHARD.search(file.name):
                variants[file.name.removesuffix(suffix)] = file
    for file in sorted(folder.glob(f"{STEM}.*{INDEX}.*.json")):  # ...safetensors.index.fp16.json
        variants.setdefault(file.name.removesuffix(".json"), file)
    need(
        len(variants) <= 1,
        f"{folder} holds several variants ({', '.join(sorted(variants))}); give one by its path",
    )
    return next(iter(variants.values()), None)


def is_index(file: Path) -> bool:
    """Whether a file is a list of shards."""
    return file.suffix == ".json" and INDEX in file.name


def parts(file: Path) -> list[Path]:
    """The files with a network's tensors: the file itself, or the shards that it lists.

    DclipError naming the shards that are not there.
    """
    if not is_index(file):
        need(not _SHARD.search(file.name), f"{file} is one of several shards; give its folder")
        return [file]
    listed = read_object(file) or {}
    shards = listed.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise DclipError(f"{file} lists no shards; fetch it again")
    files = [file.parent / name for name in sorted(set(map(str, shards.values())))]
    missing = [shard.name for shard in files if not shard.is_file()]
    need(not missing, f"{file.parent} lacks {', '.join(missing)}; fetch the whole folder")
    return files


def config_file(file: Path) -> Path:
    """The config.json of the network in this file."""
    return file.with_name("config.json")


def scheduler_file(file: Path) -> Path | None:
    """The scheduler's configuration that goes with a network's weights."""
    for folder in _scheduler_folders(file.parent):
        if (folder / SCHEDULER).is_file():
            return folder / SCHEDULER
    return None


def _scheduler_folders(folder: Path) -> Iterator[Path]:
    """Beside the weights, in the pipeline that they are part of, or in the run they were kept by.

    Runs of diffusers' training keep ``checkpoint-500/unet_ema`` beside the pipeline's own folders.
    """
    folder = folder.absolute()
    yield folder
    yield folder / "scheduler"
    yield folder.parent / "scheduler"
    run = folder.parent.parent
    if (run / "model_index.json").is_file():
        yield run / "scheduler"


def read_object(file: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DclipError(f"{file} is not JSON ({error}); fetch it again") from error
    need(isinstance(content, dict), f"{file} holds no settings; fetch it again")
    return dict(content)
