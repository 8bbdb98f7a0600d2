"""The tensors of a TorchScript archive, read without running it.

Such an archive is a zip with a pickle of its modules, their storages, and code. ``torch.jit.load``
would run some of that code; here only the pickle is read, by an unpickler that knows tensors and
turns every module into an ``Inert`` object.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.errors import DclipError, one_line
from dclip.models.archive import refuse_bomb
from dclip.models.inert import Inert

_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(file: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with constants beside its pickle."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    return "constants.pkl" in names and "data.pkl" in names


def read_torchscript(file: Path) -> dict[str, Tensor]:
    """Every tensor of a TorchScript archive's modules, under its dotted name.

    Raises:
        DclipError: it is damaged, or holds more than modules and tensors.
    """
    refuse_bomb(file)
    try:
        with zipfile.ZipFile(file) as archive:
            root = next(n for n in archive.namelist() if n.endswith("data.pkl"))[: -len("data.pkl")]
            with archive.open(f"{root}data.pkl") as stream:
                module = _Modules(stream, archive, root).load()
    except Exception as error:  # a broken pickle may raise anything
        raise DclipError(
            f"{file} is a TorchScript archive that cannot be read ({one_line(error, 120)}); "
            "fetch it again, or give weights as safetensors"
        ) from error
    return dict(_tensors(module, ""))


def _tensors(value: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Inert):
        value = value.held
    if isinstance(value, Tensor):
        yield prefix.removesuffix("."), value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _tensors(part, f"{prefix}{name}.")


class _Modules(pickle.Unpickler):
    """An unpickler that knows tensors, and no other class or function."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle."""
        if module.startswith("__torch__"):
            return Inert
        if module == "torch._utils" and name.startswith("_rebuild_tensor"):
            return _rebuilt
        if module == "torch.jit._pickle" or (module, name) == (
            "torch._utils",
            "_rebuild_parameter",
        ):
            return _first
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, as a flat tensor: ("storage", type, name, device, length)."""
        _, dtype, name, _, length = pid
        data = bytearray(self.archive.read(f"{self.root}data/{name}"))
        if not length:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(data, dtype=dtype, count=length)


def _first(value: Any, *rest: object) -> Any:
    """Lists with a type, and parameters."""
    return value


def _rebuilt(storage: Tensor, offset: int, size: Any, stride: Any, *rest: object) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset).clone()
