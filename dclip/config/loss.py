"""The fine-tuning loss: ``loss``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import TEMPLATES, check_not_negative, option
from dclip.errors import need


class ClipForm(StrEnum):
    """How the direction's cosine becomes a loss."""

    neg_log = "neg_log"  # published code: -log((1 + cos) / 2)
    cosine = "cosine"  # paper, Eq. 10: 1 - cos


@option("loss", "directional")
@dataclass
class Loss:
    """Weighted sum of the directional CLIP loss, L1 and the identity loss (DiffusionCLIP, Eq. 10-11), and ours: ``shift``."""

    clip: float = 3.0
    l1: float = 1.0
    id: float = 1.0
    shift: float = 0.0  # asks for a length of the change along the text's direction: what an image lacks of ``margin``
    margin: float = 0.3  # in unit features; the true edits of ToonFaces go 0.2 (a smile) to 0.33 (a skin colour) along theirs
    form: ClipForm = ClipForm.neg_log
    templates: str = "none"  # "none", or "imagenet79": the published code's prompt templates

    def __post_init__(self) -> None:
        check_not_negative("loss", clip=self.clip, l1=self.l1, id=self.id, shift=self.shift)
        need(
            self.clip + self.l1 + self.id + self.shift > 0,
            "all weights of loss are 0; there is nothing to learn from",
        )
        need(
            0 < self.margin < 2,
            f"loss.margin={self.margin} is not a length between unit features; choose about 0.2 to 0.4",
        )
        need(
            self.templates in TEMPLATES,
            f"loss.templates={self.templates} does not exist; choose {' or '.join(TEMPLATES)}",
        )
