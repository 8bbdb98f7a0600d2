"""The one stable face for plug-ins: what ``docs/extend.md`` imports. Imports nothing heavy."""

from dclip.config import Dataset, Guided, Sampler, option
from dclip.data.photographs import Folder
from dclip.errors import DclipError
from dclip.metrics.names import metric

__all__ = ["Dataset", "DclipError", "Folder", "Guided", "Sampler", "metric", "option"]
