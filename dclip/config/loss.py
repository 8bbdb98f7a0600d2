"""The fine-tuning loss: ``loss``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dclip.config.options import TEMPLATES, check_not_negative, option
from dclip.errors import choose, need


class ClipForm(StrEnum):
    """How the direction's cosine becomes a loss."""

    neg_log = "neg_log"  # published code: -log((1 + cos) / 2)
    cosine = "cosine"  # paper, Eq. 10: 1 - cos


@option("loss", "directional")
@dataclass
class Loss:
    """Weighted sum of the directional CLIP loss, L1 and the identity loss (DiffusionCLIP, Eq. 10-11)."""

    clip: float = 3.0
    l1: float = 1.0
    id: float = 1.0
    form: ClipForm = ClipForm.neg_log
    # "none", or "imagenet79": the published code's prompt templates
    templates: str = "none"

    def __post_init__(self) -> None:
        check_not_negative("loss", **self.weights)
        need(
            sum(self.weights.values()) > 0,
            "all weights of loss are 0; there is nothing to learn from",
        )
        need(
            self.templates in TEMPLATES,
            f"loss.templates={self.templates} does not exist{choose(self.templates, TEMPLATES)}",
        )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every term."""
        return {"clip": self.clip, "l1": self.l1, "id": self.id}

    def uses(self, term: str) -> bool:
        """Whether a term counts; one that this loss does not have does not."""
        return self.weights.get(term, 0) > 0

    @property
    def needs_clip(self) -> bool:
        """Whether a term looks through CLIP."""
        return self.clip > 0


@option("loss", "directional_shift")
@dataclass
class ShiftLoss(Loss):
    """With a term that asks for a length of the change along the text's direction, and then is silent.

    Attributes:
        shift: its weight.
        margin: the length, in unit features; the true edits of ToonFaces go 0.2 (a smile) to 0.33
            (a skin colour) along their texts.
        contrast: weight of the target's share among texts that name something else of the same kind
            (``edit.against``): -log of its probability, which is silent once CLIP is sure.
        keep: weight of what must stay in words (``edit.keep``): the change of CLIP's features
            along their directions.
        outside: weight of the L1 distance outside of where the edit acts most.
        prior: weight of the L1 distance to what the original network makes of the edited picture.
    """

    shift: float = 0.0
    margin: float = 0.3
    contrast: float = 0.0
    keep: float = 0.0
    outside: float = 0.0
    prior: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            0 < self.margin < 2,
            f"loss.margin={self.margin} is not a length between unit features; "
            "choose about 0.2 to 0.4",
        )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every term."""
        ours = {"shift": self.shift, "contrast": self.contrast, "keep": self.keep}
        ours |= {"outside": self.outside, "prior": self.prior}
        return {**super().weights, **ours}

    @property
    def needs_clip(self) -> bool:
        """Whether a term looks through CLIP."""
        return self.clip + self.shift + self.contrast + self.keep > 0
