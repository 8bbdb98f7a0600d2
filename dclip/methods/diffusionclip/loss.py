"""The fine-tuning loss of a run's images, for whatever is tuned under it."""

from __future__ import annotations

from dclip.errors import DclipError
from dclip.methods.diffusionclip.module import Objective
from dclip.run import Run
from dclip.text.direction import direction_of
from dclip.types import Images


def edit_loss(run: Run, images: Images) -> Objective:
    """The weighted loss of ``loss=`` for edits of these images, along the direction of ``edit``.

    Call it with edited images [n,3,H,W] and their positions among ``images``; it returns the loss
    terms and their ``total`` (DiffusionCLIP, Eq. 10-11).

    Raises:
        DclipError: no CLIP was built.
    """
    clip = run.networks.clip
    if clip is None:
        raise DclipError(
            "loss.clip is 0 and metric.clip is off, so no CLIP guides the edit; "
            "set loss.clip above 0"
        )
    texts = direction_of(run.cfg, images)
    direction = texts(clip) if callable(texts) else texts
    return Objective.prepare(run.cfg.loss, clip, run.networks.identity, images, direction)
