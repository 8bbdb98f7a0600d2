"""What a safetensors file of ours says about itself, read without torch: its first bytes are JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dclip.config import DclipError

_MOST = 100_000_000  # bytes; safetensors' own limit for a header


def read_header(path: Path) -> dict[str, Any]:
    """The JSON document under ``dclip`` in the file's header. DclipError if the file is something else or damaged."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length < _MOST else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = bool(ends) and path.stat().st_size == 8 + length + max(ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DclipError(f"{path} is not a safetensors file, or it is damaged ({error}); fetch or make it again") from error
    if not whole:
        raise DclipError(f"{path} is not a whole safetensors file: it is {path.stat().st_size} bytes; fetch or make it again")
    document = header.get("__metadata__", {}).get("dclip")
    if document is None:
        raise DclipError(f"{path} was not written by dclip: its header does not say what network it is")
    content: dict[str, Any] = json.loads(document)
    return content


def read_edit_header(name: str) -> tuple[Path, dict[str, Any]]:
    """Path and header of a fine-tuned edit: its file, or the one in a run's folder. DclipError if there is none."""
    path = Path(name).expanduser()
    path = path / "adapter.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise DclipError(f"edit.adapter={name}: there is no {path.name}; give the folder of a finished fine-tuning run")
    header = read_header(path)
    if header.get("kind") != "edit":
        raise DclipError(f"edit.adapter={path} holds a network of kind {header.get('kind')!r}, not an edit")
    return path, header
