"""The error map as a picture: where an edit is right, where it spilled, what it missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.metrics.counterfactual import ERROR_COLORS, error_map
from dclip.record.pictures import grid_picture, with_legend
from dclip.types import Edited

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 12  # pictures a row
WIDEST = 1536  # pixels a row


def error_picture(edited: Edited, label: str) -> Image | None:
    """The truth, the edit and its errors, one column a picture; None where no truth is known."""
    if edited.truth is None:
        return None
    count, _, _, side = edited.result.shape
    most = max(1, min(MOST, count, WIDEST // side))
    result, truth = edited.result[:most].cpu(), edited.truth[:most].cpu()
    errors = error_map(result, edited.source.pixels[:most].cpu(), truth)
    rows = [("the truth", truth), (label, result), ("errors", errors)]
    return with_legend(grid_picture(rows, most), ERROR_COLORS)
