"""How an edit is made: what every option of ``method=`` is, and the low-rank updates that several may use.

The methods themselves lie in :mod:`dclip.methods`, each with its option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dclip.config.options import Kind, check_not_negative, check_positive
from dclip.errors import need


@dataclass
class MethodOption(Kind):
    """An option of ``method=``. What it does is its contract in :mod:`dclip.methods.contract`.

    Attributes:
        follows_prompts: whether it follows ``guidance.targets`` without a guidance.
        published: the preset that computes as its published code does (``preset=faithful``).
    """

    follows_prompts: ClassVar[bool] = False
    published: ClassVar[str] = "faithful"


@dataclass
class Lora:
    """Low-rank updates in place of full weights: ``rank`` 0 is off.

    Of the base's size, rank 4 takes 1.2 % for the published 256x256 networks, and 4.8 % (rank 8: 9.6 %) for ToonFaces.
    """

    rank: int = 0
    alpha: float | None = None  # the update is scaled by alpha / rank; null: alpha = rank
    attention: bool = True  # which layers get one: attention's projections,
    conv: bool = True  # convolutions,
    time: bool = True  # and projections of the time embedding
    decoder_from: int | None = (
        None  # only in the decoder's blocks from this one on; edits then share all that comes before
    )

    def __post_init__(self) -> None:
        check_not_negative("method.lora", rank=self.rank)
        need(
            self.decoder_from is None or (self.rank > 0 and self.decoder_from >= 0),
            f"method.lora.decoder_from={self.decoder_from} must be a block's number from 0 on, and needs method.lora.rank above 0",
        )
        if self.alpha is not None:
            check_positive("method.lora", alpha=self.alpha)
        need(
            self.rank == 0 or self.attention or self.conv or self.time,
            "method.lora has a rank but no layers; set method.lora.attention, conv or time",
        )
