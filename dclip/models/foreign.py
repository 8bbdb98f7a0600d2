"""Weights that others wrote, read safely and unwrapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from dclip.errors import DclipError
from dclip.models.header import is_ours


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise DclipError(message)


def _first(names: Iterable[str], most: int = 3) -> str:
    found = sorted(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


# ---------------------------------------------------------------------------------------------------- read

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


_EMAS = ("ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model")


_FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


_LFS = b"version https://git-lfs"


def read_foreign(path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """The tensors of a foreign file on the CPU: .ckpt, .pth, .pt, .bin, .safetensors, or a diffusers folder.

    Wrappers such as ``{"state_dict": ...}``, ``{"model": ...}`` and the prefix ``module.`` are taken off. With ``ema`` the
    averaged copy inside the file is read, and must be there. Pickles are read as tensors only: what would run code is
    refused. DclipError in one line for a file that is damaged, or is something else.
    """
    file = weights_file(path)
    _refuse_text(file)
    found = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    return _bare(_unwrap(found, ema, file), file)


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights: the path, or the file inside a diffusers folder (also under ``unet/``)."""
    path = Path(path).expanduser()
    if path.is_dir():
        places = [path / sub / name for sub in ("", "unet") for name in _FOLDER_FILES]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise DclipError(
                f"{path} holds no {' or '.join(_FOLDER_FILES)}, neither there nor in unet/; give a diffusers folder"
            )
        return file
    _need(path.is_file(), f"{path} does not exist; give a checkpoint file or a diffusers folder")
    return path


def _refuse_text(file: Path) -> None:
    """Downloads that went wrong leave a page under the name of the weights."""
    with file.open("rb") as stream:
        head = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if (
        head.startswith(b"<") and b"\0" not in head[:16]
    ):  # eight bytes of length open a safetensors file, some of them 0
        raise DclipError(
            f"{file} is a web page (HTML or XML), not weights: the download was answered with a page; fetch it again"
        )
    _need(
        not head.startswith(_LFS),
        f"{file} is a Git LFS pointer, not weights; fetch the file itself with git lfs pull",
    )
    _need(bool(head), f"{file} is empty; fetch it again")


def _damaged(file: Path, error: Exception) -> DclipError:
    said = " ".join(str(error).split())[:120]
    # torch advises to open it with its code: not from here
    why = type(error).__name__ if not said or "weights_only" in str(error) else said
    return DclipError(
        f"{file} is truncated, damaged or no checkpoint ({why}); fetch it again and compare its size"
    )


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _read_pickle(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle may raise anything
        raise _refused(file, error) from error


def _refused(file: Path, error: Exception) -> DclipError:
    """Whether a whole pickle wants more than tensors, or the file is broken."""
    name = re.search(r"GLOBAL (\S+)", str(error))
    with file.open("rb") as stream:
        pickled = stream.read(2)[:1] in (b"P", b"\x80")  # a zip as torch writes it, or a pickle
    if not (isinstance(error, UnpicklingError) and (name or pickled)):
        return _damaged(file, error)
    what = f"code or other objects than tensors{f' ({name[1]})' if name else ''}"
    remedy = "convert it to safetensors on a machine where you trust it, and give that file"
    return DclipError(f"{file} carries {what}; it was refused and nothing in it was run; {remedy}")


def _unwrap(found: Any, ema: bool, file: Path) -> Any:
    """The state dict inside what was saved."""
    if (
        isinstance(found, list | tuple) and found
    ):  # the ddim code saves [model, optimiser, epoch, step(, EMA)]
        _need(
            not ema or len(found) == 5,
            f"{file} holds no averaged copy (EMA); leave ema out to read the weights themselves",
        )
        return found[-1] if ema else _unwrap(found[0], False, file)
    if not isinstance(found, Mapping):
        raise DclipError(
            f"{file} holds a {type(found).__name__}, no state dict; give the weights of a diffusion model"
        )
    inner = next(
        (
            found[name]
            for name in (_EMAS if ema else _WRAPPERS)
            if isinstance(found.get(name), Mapping)
        ),
        None,
    )
    _need(
        not ema or inner is not None,
        f"{file} holds no averaged copy (EMA); leave ema out to read the weights themselves",
    )
    return found if inner is None else _unwrap(inner, False, file)


def _bare(found: Any, file: Path) -> dict[str, Tensor]:
    """Keys without ``module.``, values nothing but tensors."""
    foreign = [
        str(k) for k, v in found.items() if not (isinstance(k, str) and isinstance(v, Tensor))
    ]
    hint = (
        f" (an averaged copy is there: ema=True reads {_first(set(foreign) & set(_EMAS))})"
        if set(foreign) & set(_EMAS)
        else ""
    )
    _need(
        not foreign,
        f"{file} holds more than weights: {_first(foreign)}{hint}; give a file with the state dict alone",
    )
    _need(bool(found), f"{file} holds no tensors; fetch it again")
    state: dict[str, Tensor] = dict(found)
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def is_foreign(path: str | Path) -> bool:
    """Whether a path is a checkpoint that is not one of ours: a folder, another suffix, or safetensors without our header."""
    path = Path(path).expanduser()
    return path.is_dir() or (path.is_file() and not is_ours(path))
