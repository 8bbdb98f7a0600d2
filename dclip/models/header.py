"""The header of a safetensors file, read without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dclip.errors import DclipError

KEY = "dclip"  # of our JSON document in the file's metadata


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "numpy") as file:
        return file.metadata() or {}


def read_header(path: Path) -> dict[str, Any]:
    """Our document in the file's metadata. DclipError if the file is something else or damaged."""
    try:
        metadata = _metadata(path)
    except (OSError, SafetensorError) as error:
        raise DclipError(
            f"{path} is not a whole safetensors file ({error}); fetch or make it again"
        ) from error
    if KEY not in metadata:
        raise DclipError(
            f"{path} was not written by dclip: its header does not say what network it is"
        )
    return _document(metadata[KEY], path)


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise DclipError(f"{path} has a damaged header; fetch or make it again")
    return document


def is_ours(path: Path) -> bool:
    """Whether dclip wrote a file, or it is a safetensors file too damaged to tell."""
    if path.suffix != ".safetensors":
        return False
    try:
        return KEY in _metadata(path)
    except (OSError, SafetensorError):
        return True  # for read_header to refuse


def t0_from_name(path: str | Path) -> int | None:
    """The t0 in the name of a published fine-tuned file (``human_tanned_t201.pth`` -> 201)."""
    match = re.search(r"_t(\d{1,3})$", Path(path).stem)
    if match is None:
        return None
    return int(match[1]) or None
