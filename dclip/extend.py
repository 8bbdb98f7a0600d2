"""The one stable face for plug-ins: what ``docs/extend.md`` imports, from wherever it lies.

Options, methods and metrics are imported at once, and nothing heavy with them. What computes is
imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dclip.config import Config, Dataset, option
from dclip.data.photographs import Folder
from dclip.diffusion.options import Sampler, pairs_of
from dclip.errors import DclipError, need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts, Method
from dclip.methods.diffusionclip.options import DiffusionClip, NetworkCalls
from dclip.methods.sampling.guidances import ClipGuidance
from dclip.metrics.names import Scores, metric, set_metric

if TYPE_CHECKING:
    from dclip.diffusion.noise import ImageNoise
    from dclip.diffusion.sampler import Evaluate, Prediction, Solver, Step, predict_x0, sample
    from dclip.diffusion.schedule import Schedule
    from dclip.diffusion.solvers import euler
    from dclip.diffusion.timesteps import CLEAN
    from dclip.edits.edit import DenoiserEdit, Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.methods.diffusionclip.loss import Terms, edit_loss
    from dclip.methods.diffusionclip.objectives import Work
    from dclip.metrics.distribution import FeatureSets
    from dclip.metrics.scorers import Scorers
    from dclip.models.saved import read_weights, save_weights
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run
    from dclip.text.features import PromptFeatures
    from dclip.types import Edited, Images

LATER = {
    "CLEAN": "dclip.diffusion.timesteps",
    "DenoiserEdit": "dclip.edits.edit",
    "DiffusionModel": "dclip.models.unet",
    "Edit": "dclip.edits.edit",
    "Edited": "dclip.types",
    "Encoded": "dclip.encode.encoded",
    "Evaluate": "dclip.diffusion.sampler",
    "FeatureSets": "dclip.metrics.distribution",
    "ImageNoise": "dclip.diffusion.noise",
    "Images": "dclip.types",
    "PromptFeatures": "dclip.text.features",
    "Prediction": "dclip.diffusion.sampler",
    "Run": "dclip.run",
    "SavedEdit": "dclip.edits.saved",
    "Schedule": "dclip.diffusion.schedule",
    "Scorers": "dclip.metrics.scorers",
    "Solver": "dclip.diffusion.sampler",
    "Step": "dclip.diffusion.sampler",
    "Terms": "dclip.methods.diffusionclip.loss",
    "Work": "dclip.methods.diffusionclip.objectives",
    "edit_loss": "dclip.methods.diffusionclip.loss",
    "euler": "dclip.diffusion.solvers",
    "predict_x0": "dclip.diffusion.sampler",
    "read_weights": "dclip.models.saved",
    "sample": "dclip.diffusion.sampler",
    "save_weights": "dclip.models.saved",
}

__all__ = [
    "BACKWARD",
    "CLEAN",
    "ClipGuidance",
    "Config",
    "Cost",
    "Dataset",
    "DclipError",
    "DenoiserEdit",
    "DiffusionClip",
    "DiffusionModel",
    "Edit",
    "Edited",
    "Encoded",
    "Evaluate",
    "FeatureSets",
    "Folder",
    "ImageCounts",
    "ImageNoise",
    "Images",
    "Method",
    "NetworkCalls",
    "Prediction",
    "PromptFeatures",
    "Run",
    "Sampler",
    "SavedEdit",
    "Schedule",
    "Scorers",
    "Scores",
    "Solver",
    "Step",
    "Terms",
    "Work",
    "edit_loss",
    "euler",
    "metric",
    "need",
    "option",
    "pairs_of",
    "predict_x0",
    "read_weights",
    "sample",
    "save_weights",
    "set_metric",
]


def __getattr__(name: str) -> object:
    if name not in LATER:
        raise AttributeError(f"dclip.extend has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(LATER[name]), name)
