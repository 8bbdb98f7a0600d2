"""Weights that others wrote, read safely and unwrapped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dclip.errors import DclipError, need, one_line
from dclip.models.archive import refuse_bomb
from dclip.models.folders import parts, weights_file
from dclip.models.header import is_ours
from dclip.models.inert import Inert

# Names under which the weights lie in a larger object, and under which their running average does.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_AVERAGES = {"ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model"}
_LFS = b"version https://git-lfs"


def first_names(names: Iterable[str], most: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    ordered = sorted(names)
    text = ", ".join(ordered[:most])
    if len(ordered) > most:
        text += f" and {len(ordered) - most} more"
    return text


def is_foreign(path: str | Path) -> bool:
    """Whether a path is a checkpoint that is not one of ours.

    That is a folder, another suffix, or safetensors without our header.
    """
    path = Path(path).expanduser()
    return path.is_dir() or (path.is_file() and not is_ours(path))


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        state: the weights.
        average: their running average, where there is one beside them.
        facts: everything else, by its name: numbers, texts, ``Inert`` objects.
    """

    state: dict[str, Tensor]
    average: dict[str, Tensor] | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


# Modules whose objects lie beside weights as settings and counters: they become ``Inert``.
_SETTINGS = (
    "argparse",
    "omegaconf",
    "pydantic",
    "tensorfn",
    "config",
    "numpy",
    "pathlib",
    "typing",
)
_COUNTERS = ("collections.defaultdict", "builtins.int", "builtins.dict", "builtins.list")


def read_foreign(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a foreign file on the CPU.

    It is a .ckpt, .pth, .pt, .bin, .safetensors, or a diffusers folder. Wrappers such as
    ``{"state_dict": ...}``, ``{"model": ...}`` and the prefix ``module.`` are taken off. Pickles
    are read as tensors only: what would run code is refused. DclipError in one line for a file that
    is damaged, or is something else.
    """
    return read_contents(path).state


def read_contents(path: str | Path) -> Contents:
    """The tensors of a foreign file, as :func:`read_foreign`, with what lies beside them."""
    file = weights_file(path)
    whole: dict[str, Tensor] = {}
    shards = parts(file)
    for shard in shards:
        _refuse_text(shard)
    if shards == [file]:
        return _contents(_content(file), file)
    for shard in shards:
        whole |= _bare(_unwrap(_content(shard), shard), shard)
    return Contents(whole)


def _contents(content: object, file: Path) -> Contents:
    state = _bare(_unwrap(content, file), file)
    if not isinstance(content, Mapping):
        return Contents(state)
    average = None
    facts = {}
    for name, value in content.items():
        if name in _AVERAGES and isinstance(value, Mapping):
            average = _tensors_of(value) or None
        elif not isinstance(value, Tensor | Mapping):
            facts[str(name)] = value
    return Contents(state, average, facts)


def _tensors_of(content: Mapping[object, object]) -> dict[str, Tensor]:
    tensors = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            tensors[key] = value
    return _without_module(tensors)


# ------------------------------------------------------------ read


def _refuse_text(file: Path) -> None:
    """Downloads that went wrong leave a page under the name of the weights."""
    with file.open("rb") as stream:
        head = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    # eight bytes of length, some of them 0, open a safetensors file
    need(
        not head.startswith(b"<") or b"\0" in head[:16],
        f"{file} is a web page (HTML or XML), not weights: "
        "the download was answered with a page; fetch it again",
    )
    need(
        not head.startswith(_LFS),
        f"{file} is a Git LFS pointer, not weights; fetch the file itself with git lfs pull",
    )
    need(bool(head), f"{file} is empty; fetch it again")


def _damaged(file: Path, error: Exception) -> DclipError:
    reason = one_line(error, 120)
    if not reason or "weights_only" in str(error):  # torch advises to open it with its code: no
        reason = type(error).__name__
    return DclipError(
        f"{file} is truncated, damaged or no checkpoint ({reason}); "
        "fetch it again and compare its size"
    )


def _content(file: Path) -> object:
    """What was saved, whatever it is."""
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return _read_pickle(file)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _read_pickle(file: Path) -> object:
    refuse_bomb(file)
    try:
        with torch.serialization.safe_globals(_inert(file)):
            content: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle may raise anything
        raise _refused(file, error) from error
    return content


def _inert(file: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """A stand-in for every class of settings in a pickle, under its name: nothing is imported."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # an old format, or broken: what reads it says so
        return []
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    for name in names:
        if name.split(".")[0] in _SETTINGS or name in _COUNTERS:
            stand_ins.append((Inert, name))
    return stand_ins


def _refused(file: Path, error: Exception) -> DclipError:
    """Whether a whole pickle wants more than tensors, or the file is broken."""
    name = re.search(r"GLOBAL (\S+)", str(error))
    with file.open("rb") as stream:
        pickled = stream.read(1) in (b"P", b"\x80")  # a zip as torch writes it, or a pickle
    if not isinstance(error, UnpicklingError) or not (name or pickled):
        return _damaged(file, error)
    content = "code or other objects than tensors"
    if name:
        content += f" ({name[1]})"
    return DclipError(
        f"{file} carries {content}; it was refused and nothing in it was run; "
        "convert it to safetensors on a machine where you trust it, and give that file"
    )


# ------------------------------------------------------------ unwrap


def _unwrap(content: object, file: Path) -> Mapping[object, object]:
    """The state dict inside what was saved."""
    if isinstance(content, list | tuple) and content:
        # the ddim code saves [model, optimiser, epoch, step(, running average)]
        return _unwrap(content[0], file)
    if not isinstance(content, Mapping):
        raise DclipError(
            f"{file} holds a {type(content).__name__}, no state dict; "
            "give the weights of a diffusion model"
        )
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping):
            return _unwrap(content[name], file)
    return content


def _bare(content: Mapping[object, object], file: Path) -> dict[str, Tensor]:
    """Keys without ``module.``, values nothing but tensors."""
    state = {}
    foreign = []
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            state[key] = value
        else:
            foreign.append(str(key))
    hint = ""
    if _AVERAGES & set(foreign):
        hint = f" ({first_names(_AVERAGES & set(foreign))} is a running average)"
    need(
        not foreign,
        f"{file} holds more than weights: {first_names(foreign)}{hint}; "
        "give a file with the state dict alone",
    )
    need(bool(state), f"{file} holds no tensors; fetch it again")
    return _without_module(state)


def _without_module(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
