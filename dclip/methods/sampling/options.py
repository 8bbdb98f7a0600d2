"""``method=none``: the model stays as it is, and samples are drawn freely or under guidance."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import MethodOption, option


@option("method", "none")
@dataclass
class NoMethod(MethodOption):
    """Leave the model as it is."""
