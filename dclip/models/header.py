"""The header of a safetensors file, read without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dclip.errors import DclipError

_MOST = 100_000_000  # bytes; safetensors' own limit for a header


def read_header(path: Path) -> dict[str, Any]:
    """The JSON document under ``dclip`` in the file's header. DclipError if the file is something else or damaged."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length < _MOST else {}
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        whole = bool(ends) and path.stat().st_size == 8 + length + max(ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DclipError(
            f"{path} is not a safetensors file, or it is damaged ({error}); fetch or make it again"
        ) from error
    if not whole:
        raise DclipError(
            f"{path} is not a whole safetensors file: it is {path.stat().st_size} bytes; fetch or make it again"
        )
    document = header.get("__metadata__", {}).get("dclip")
    if document is None:
        raise DclipError(
            f"{path} was not written by dclip: its header does not say what network it is"
        )
    content: dict[str, Any] = json.loads(document)
    return content


def t0_from_name(path: str | Path) -> int | None:
    """The t0 that a published fine-tuned file carries in its name (``human_tanned_t201.pth`` -> 201), else None."""
    match = re.search(r"_t(\d{1,3})$", Path(path).stem)
    return int(match[1]) if match and int(match[1]) else None


def is_ours(path: Path) -> bool:
    """Whether a file was written by dclip, or is a safetensors file too damaged to tell. Without torch."""
    if path.suffix != ".safetensors":
        return False
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length < _MOST else {}
        return not header or "dclip" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError):
        return True  # for read_header to refuse
