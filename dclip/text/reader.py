"""The former names of :mod:`dclip.text.features`."""

from torch import Tensor

from dclip.text.features import PromptFeatures as Reader
from dclip.text.features import read_prompts as read


def target_probability(reader: Reader, features: Tensor) -> Tensor:
    """See :meth:`PromptFeatures.target_probability`."""
    return reader.target_probability(features)


__all__ = ["Reader", "read", "target_probability"]
