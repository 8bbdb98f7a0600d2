"""Weights that others wrote, read safely and unwrapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dclip.errors import DclipError, need, one_line
from dclip.models.header import is_ours

# Names under which the weights lie in a larger object, and under which their running average does.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_AVERAGES = {"ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model"}
_FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
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


def read_foreign(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a foreign file on the CPU.

    It is a .ckpt, .pth, .pt, .bin, .safetensors, or a diffusers folder. Wrappers such as
    ``{"state_dict": ...}``, ``{"model": ...}`` and the prefix ``module.`` are taken off. Pickles
    are read as tensors only: what would run code is refused. DclipError in one line for a file that
    is damaged, or is something else.
    """
    file = weights_file(path)
    _refuse_text(file)
    return _bare(_unwrap(_content(file), file), file)


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights: the path, or the file inside a diffusers folder."""
    path = Path(path).expanduser()
    if not path.is_dir():
        need(path.is_file(), f"{path} does not exist; give a checkpoint file or a diffusers folder")
        return path
    for folder in (path, path / "unet"):
        for name in _FOLDER_FILES:
            if (folder / name).is_file():
                return folder / name
    raise DclipError(
        f"{path} holds no {' or '.join(_FOLDER_FILES)}, neither there nor in unet/; "
        "give a diffusers folder"
    )


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
    try:
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle may raise anything
        raise _refused(file, error) from error
    return content


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
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
