"""The strip of degrees as a page shows it: one picture, of which a slider shows one row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from dclip.pages.render import picture_of

STEM = "degree_of_change"


@dataclass(frozen=True)
class Strip:
    """A picture with one row for the sources and one for each degree.

    Attributes:
        width, height: of one row, in pixels.
        first: the place of the degree that is shown first: 1, or the largest below.
    """

    address: str
    gammas: list[float]
    width: int
    height: int
    first: int

    @property
    def rows(self) -> int:
        """How many rows the picture has."""
        return len(self.gammas) + 1


def strip_of(folder: Path) -> Strip | None:
    """The strip of a run; None where it has none, or where its rows do not fit its settings."""
    path, gammas = folder / "samples" / f"{STEM}.png", _gammas(folder / "config.yaml")
    if not path.is_file() or len(gammas) < 2:
        return None
    with Image.open(path) as picture:
        width, height = picture.size
    if height % (len(gammas) + 1):
        return None
    below = [k for k, gamma in enumerate(gammas) if gamma <= 1]
    first = max(below, key=lambda k: gammas[k], default=0)
    row = height // (len(gammas) + 1)
    return Strip(picture_of(path).address, gammas, width, row, first)


def _gammas(config: Path) -> list[float]:
    """The degrees of a run's settings."""
    settings = yaml.safe_load(config.read_text("utf-8")) if config.is_file() else {}
    values = settings.get("degrees") if isinstance(settings, dict) else None
    if not isinstance(values, list) or not all(isinstance(one, int | float) for one in values):
        return []
    return [float(one) for one in values]
