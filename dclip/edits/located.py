"""Measuring where an edit usually acts, after it was learned (``edit.region_prior``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from dclip.config.edit import PRIOR_IMAGES
from dclip.edits.edit import Edit
from dclip.edits.region import change_of
from dclip.edits.usual import mean_map
from dclip.encode.encoded import Encoded
from dclip.run import Run

log = logging.getLogger("dclip")

FEWEST = 4  # images that say where an edit usually acts


@torch.no_grad()
def located(run: Run, edit: Edit, starts: Mapping[str, Encoded]) -> Edit:
    """An edit that was just learned, with where it usually acts on the images that it learned from.

    Those of "validation" say it where the others have no latents. Nothing is measured where
    ``edit.region_prior`` is 0; of fewer than ``FEWEST`` images it is not, which is logged.
    """
    options = run.cfg.edit
    if options.region_prior == 0 or options.region not in ("auto", "quantile"):
        return edit
    train, validation = starts["train"], starts["validation"]
    start = train if len(train.latents) == len(train) else validation
    few = start.take(range(min(PRIOR_IMAGES, len(start))))
    if len(few) < FEWEST:
        log.warning(
            "edit.region_prior=%g: %d images do not say where the edit usually acts, so each "
            "picture's own change does; learn from %d or more",
            options.region_prior,
            len(few),
            FEWEST,
        )
        return edit
    with run.record.timing("locate"):
        plain, edited = edit.strip(run, few, [0.0, 1.0]).unbind(1)
    change = change_of(options, few.sources.pixels, edited, plain)
    edit.usual_change = mean_map(change)
    return edit
