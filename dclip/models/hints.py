"""What the names and shapes of a foreign checkpoint cannot tell. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dclip.config.networks import Checkpoint


@dataclass(frozen=True)
class Hints:
    """How to read a foreign diffusion checkpoint; null where the file or what is known decides.

    Attributes:
        head_dim: channels per attention head.
        image_size: height and width, in pixels.
        heads: attention heads of every layer, in place of ``head_dim``.
        label: the class that a class-conditional network draws.
        prediction: ``epsilon``, ``v`` or ``x0``.
        schedule: the kind of noise schedule, a key of ``dclip.diffusion.schedule.KINDS``.
        timesteps: length of the schedule.
    """

    head_dim: int = 64
    image_size: int | None = None
    heads: int | None = None
    label: int | None = None
    prediction: str | None = None
    schedule: str | None = None
    timesteps: int | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not the default."""
        default = asdict(NO_HINTS)
        return {key: value for key, value in asdict(self).items() if value != default[key]}


NO_HINTS = Hints()


def hints_of(checkpoint: Checkpoint) -> Hints:
    """The hints that ``checkpoint=`` gives."""
    return Hints(
        checkpoint.head_dim,
        checkpoint.image_size,
        checkpoint.heads,
        checkpoint.label,
        checkpoint.prediction and checkpoint.prediction.value,
        checkpoint.schedule and checkpoint.schedule.value,
        checkpoint.timesteps,
    )
