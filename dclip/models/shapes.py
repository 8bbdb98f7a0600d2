"""Shapes of the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dclip.errors import DclipError


def axis_length(
    state: Mapping[str, Tensor], key: str, axis: int = 0, weights: str = "weights"
) -> int:
    """Length of one axis of a tensor that must be there. DclipError if it is not.

    ``weights`` is what the message calls them.
    """
    value = state.get(key)
    if value is None or value.ndim <= axis:
        raise DclipError(
            f"these {weights} are not a whole diffusion model: {key} is missing or misshapen; "
            "fetch the file again"
        )
    return int(value.shape[axis])
