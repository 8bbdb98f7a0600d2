"""Measuring what an edit usually does, after it was learned."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from dclip.edits.confined import region_of
from dclip.edits.edit import Edit
from dclip.edits.region import acting_in, change_of, found_region
from dclip.edits.usual import Usual, mean_color, mean_map, mean_region, origin_map, share_map
from dclip.encode.encoded import Encoded
from dclip.run import Run

log = logging.getLogger("dclip")

CHANGED = 0.35  # of the largest usual change: no origin of the colour that is drawn there
FEWEST = 4  # images that say where an edit usually acts


@torch.no_grad()
def located(run: Run, edit: Edit, starts: Mapping[str, Encoded]) -> Edit:
    """An edit that was just learned, with what it usually does to the images that it learned from.

    Those of "validation" say it where the others have no latents. It is measured where
    ``edit.region_prior``, ``edit.region_tint`` or ``edit.region_palette`` asks for it, and not of fewer
    than ``FEWEST`` images, which is logged.
    """
    options = run.cfg.edit
    if not options.needs_usual:
        return edit
    train, validation = starts["train"], starts["validation"]
    start = train if len(train.latents) == len(train) else validation
    few = start.take(range(min(options.usual_images, len(start))))
    if len(few) < FEWEST:
        log.warning(
            "edit.region_prior=%g edit.region_tint=%g edit.region_palette=%g: %d images do not say "
            "what the edit usually does, so each picture stands for itself; learn from %d or more",
            options.region_prior,
            options.region_tint,
            options.region_palette,
            len(few),
            FEWEST,
        )
        return edit
    with run.record.timing("locate"):
        plain, edited = edit.strip(run, few, [0.0, 1.0]).unbind(1)
    source = few.sources.pixels
    change = change_of(options, source, edited, plain)
    if options.region == "clip":
        edit.usual = Usual(seen=mean_region(region_of(run, options, few, change, edit)))
        return edit
    where = mean_map(change)
    region = found_region(options, source, change, where)
    drawn = acting_in(options, region, source, edited, plain)
    origin = share = None
    if options.region_palette > 0:
        origin = origin_map(source, change, where >= CHANGED)
        share = share_map(source, change, origin, options.region_palette)
    edit.usual = Usual(where, mean_color(drawn, region), origin, share)
    return edit
