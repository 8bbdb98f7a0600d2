"""An edit that acts in its region only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config
from dclip.data.domains import true_images, truth_of
from dclip.diffusion.sampler import EpsFn
from dclip.edits.edit import Edit
from dclip.edits.region import acting_in, change_of, drawn_region, found_region, true_region
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.models.unet import DiffusionModel
from dclip.run import Run


class Confined(Edit):
    """Any edit that can be applied by degrees, within a region; the rest of an image stays.

    Where latents have no images behind them (noise), the edit acts everywhere.
    """

    def __init__(self, edit: Edit) -> None:
        self.edit, self.parts = edit, edit.parts
        self._found: tuple[tuple[str, ...], Tensor] | None = None

    def denoiser(self, gamma: float) -> EpsFn:
        """The edit's own, which acts everywhere."""
        return self.edit.denoiser(gamma)

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W]."""
        if start.images is None:
            return self.edit.apply(run, start, gamma)
        return self.strip(run, start, [gamma])[:, 0]

    def strip(self, run: Run, start: Encoded, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]. The region is that of the whole edit, whatever the degree."""
        if start.images is None:
            return self.edit.strip(run, start, gammas)
        asked = [0.0, 1.0, *(gamma for gamma in gammas if gamma not in (0.0, 1.0))]
        pictures = dict(zip(asked, self.edit.strip(run, start, asked).unbind(1), strict=True))
        options, source, plain = run.cfg.edit, start.images.pixels, pictures[0.0]
        region = region_of(run, start, change_of(options, source, pictures[1.0], plain))
        self._found = start.ids, region
        edited = [acting_in(options, region, source, pictures[gamma], plain) for gamma in gammas]
        return torch.stack(edited, 1)

    def region(self, start: Encoded) -> Tensor | None:
        """The region [N,1,H,W] in which these images were edited last; None if they were not."""
        if self._found is None or self._found[0][: len(start)] != start.ids:
            return None
        return self._found[1][: len(start)]

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """The edit; its header says where it acts."""
        self.edit.save(path, header)

    def add_to(self, merged: DiffusionModel, weight: float) -> None:
        """As the edit does."""
        self.edit.add_to(merged, weight)


def region_of(run: Run, start: Encoded, change: Tensor) -> Tensor:
    """Where an edit may act, as ``edit.region`` says: [N,1,H,W] in [0, 1].

    Args:
        change: of the whole edit (gamma = 1), [N,3,H,W].

    Raises:
        DclipError: ``edit.region`` is the truth, and that is not known, or no picture.
    """
    options, source = run.cfg.edit, start.sources
    if options.region in ("auto", "quantile"):
        return found_region(options, change)
    if options.region == "truth":
        truth = true_images(source, truth_of(run.cfg))
        if truth is None:
            raise DclipError(
                "edit.region=truth needs the true edited pictures, which only ToonFaces knows, "
                "for its own edits; choose edit.region=auto"
            )
        return true_region(source.pixels, truth, options.region_feather)
    return drawn_region(str(options.region), len(start), change.shape[-1])


def confined(cfg: Config, edit: Edit) -> Edit:
    """The edit, in its region where ``edit.region`` names one."""
    if cfg.edit.region in (None, "none"):
        return edit
    return Confined(edit)
