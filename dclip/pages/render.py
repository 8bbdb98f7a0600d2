"""HTML pages that need no other file, from the templates beside this module."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("dclip.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """A template filled in; texts in ``values`` are escaped."""
    return _templates().get_template(template).render(values)


def data_address(content: bytes, kind: str) -> str:
    """The content of a picture as an address; ``kind`` is ``png``, ``gif`` or the like."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Picture:
    """A picture as a page shows it."""

    name: str
    address: str


def picture_of(path: Path) -> Picture:
    """A picture file with its content."""
    return Picture(path.stem, data_address(path.read_bytes(), path.suffix[1:]))
