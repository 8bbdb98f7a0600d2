"""``dataset=sampled``: images that the checkpoint draws itself, for who has none of its images.

They are drawn in ``dclip/encode/source.py``. Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Dataset, option
from dclip.errors import need


@option("dataset", "sampled")
@dataclass
class Sampled(Dataset):
    """No data at all: images drawn by the checkpoint itself, each from its own noise.

    ``invert=false`` is cheaper: the drawing's own state at ``sampler.t0`` is the latent, and the
    image what it becomes.
    """

    drawn = True
    needs_model = True
    random = True

    train: int = 50
    test: int = 50
    steps: int = 50
    clip_x0: bool = True
    invert: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        need(2 <= self.steps <= 1000, f"dataset.steps={self.steps} is impossible; choose 2 to 1000")
