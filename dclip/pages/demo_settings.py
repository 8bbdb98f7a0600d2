"""What the sliders of the demo page are as settings of ``task=edit``. Imports nothing heavy.

========  ============================================================================
slider    settings
========  ============================================================================
gamma     ``gamma``: the slider times the sum of the weights
weight    ``mix.weights``: the edit's share of that sum, so that weight 1 at gamma = 1
          is the whole edit, however many others there are
region    ``edit.region_low``, with ``edit.region=clip`` 1 - ``edit.region_share``, 0:
          ``edit.region=none``; of several edits in ``edit.regions``. A slider that was not
          moved leaves all as it was learned.
========  ============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from dclip.config import Config
from dclip.config.edit import REGION_SETTINGS
from dclip.config.edit import Edit as EditOptions
from dclip.errors import need

# Ends of the page's sliders.
LEAST_GAMMA, MOST_GAMMA, MOST_WEIGHT, MOST_LOW = -1.0, 2.0, 1.5, 0.95


@dataclass(frozen=True)
class Sliders:
    """Where the sliders are.

    Attributes:
        gamma: of all edits, ``LEAST_GAMMA`` to ``MOST_GAMMA``.
        weights: one an edit, 0 to ``MOST_WEIGHT``; empty: 1 each.
        lows: one ``edit.region_low`` an edit (a soup uses the first), 0: everywhere, None: as it
            was learned; empty: all as they were learned.
    """

    gamma: float = 1.0
    weights: Sequence[float] = ()
    lows: Sequence[float | None] = ()

    def check(self) -> None:
        """Refuse what the page cannot show. DclipError in one line."""
        need(
            LEAST_GAMMA <= self.gamma <= MOST_GAMMA,
            f"gamma={self.gamma} is out of range; choose {LEAST_GAMMA:g} (the opposite) to "
            f"{MOST_GAMMA:g}, 0 is the original",
        )
        for weight in self.weights:
            need(
                0 <= weight <= MOST_WEIGHT,
                f"weight {weight} is out of range; choose 0 (without it) to {MOST_WEIGHT:g}",
            )
        for low in self.lows:
            need(
                low is None or 0 <= low <= MOST_LOW,
                f"edit.region_low={low} is out of range; choose 0 (everywhere) to {MOST_LOW:g}",
            )


def regions_of(cfg: Config) -> list[EditOptions]:
    """Where each of the run's edits may act, by its settings. A soup has one region."""
    if cfg.mix.soup:
        return [cfg.edit]
    return cfg.edit.each or [cfg.edit] * max(1, len(cfg.edit.adapters))


def low_of(own: EditOptions) -> float:
    """Where the region's slider stands."""
    if own.region == "clip":
        return max(0.01, round(1 - own.region_share, 2))  # 0 stands for everywhere
    return own.region_low if own.confined else 0.0


def set_regions(node: DictConfig, now: Sequence[EditOptions], lows: Sequence[float | None]) -> None:
    """Put the regions' sliders into settings that hold the regions ``now``."""
    if not lows:
        return
    moved = [_moved(own, low) for own, low in zip(now, lows, strict=False)]
    if moved == list(now):
        return
    if len(moved) == 1:
        for key, value in _region(moved[0]).items():
            node.edit[key] = value
        return
    node.edit.regions = [_region(own) for own in moved]


def _moved(own: EditOptions, low: float | None) -> EditOptions:
    if low is None or low == low_of(own):
        return own
    if low == 0:
        return replace(own, region="none", regions=None)
    if own.region == "clip":
        return replace(own, region_share=1 - low, regions=None)
    high = max(own.region_high, low)
    return replace(own, region="auto", region_low=low, region_high=high, regions=None)


def _region(own: EditOptions) -> dict[str, Any]:
    settings = {key: vars(own)[key] for key in REGION_SETTINGS}
    settings["region"] = settings["region"] or "none"
    return settings


def whole(cfg: Config, count: int, weights: Sequence[float]) -> float:
    """The run's gamma where the page's is 1: the sum of the weights, unless they were told.

    Args:
        cfg: the page's own settings.
        count, weights: of the edits; no weights: 1 each.
    """
    if count < 2 or cfg.mix.weights is not None:
        return 1.0
    return sum(weights) if weights else float(count)


def shares(weights: Sequence[float]) -> list[float] | None:
    """Weights as ``mix.weights``, which sum to one; None where they are equal."""
    total = sum(weights)
    if total == 0 or len(set(weights)) < 2:
        return None
    return [weight / total for weight in weights]
