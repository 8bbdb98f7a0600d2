"""The words in which metrics say what they are. Imports nothing heavy."""

from typing import Literal

Better = Literal["higher", "lower"]

ReaderName = Literal["edits", "folders", "samples", "translations"]
"""Who measures: a run that edits, ``dclip metrics``, a run that samples, one that translates."""

Switch = Literal["", "clip", "identity", "parts", "pixels", "lpips", "judge"]
"""Settings of ``metric`` that turn metrics off; the empty one: only ``metric=none`` does."""

Role = Literal["clip", "heldout", "identity"]
"""The networks whose features metrics compare."""

Need = Literal[
    "clip",
    "heldout",
    "identity",
    "judge",
    "parts",
    "direction",
    "texts",
    "truth",
    "goal",
    "distractors",
    "true_pictures",
    "region",
]
"""What a metric cannot do without: a network, or something that is known of the edit."""

Beside = Literal["true_pictures", "region"]
"""What comes with the pictures: how they truly look edited, and where the edit may act."""
