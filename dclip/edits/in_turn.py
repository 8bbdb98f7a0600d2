"""Several edits one after the other, each applied to the pictures that the last one made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dclip.config.edit import Edit as EditOptions
from dclip.edits.axioms import again, alone, as_saved
from dclip.edits.edit import Edit
from dclip.edits.region import union
from dclip.encode.encoded import Encoded
from dclip.run import Run


@dataclass(frozen=True)
class Turn:
    """One of the edits.

    Attributes:
        edit: in its region, where it has one.
        weight: its share of gamma.
        options: the settings of its region; None: the run's.
    """

    edit: Edit
    weight: float
    options: EditOptions | None = None


class InTurn(Edit):
    """Edits in a row, at the cost of all of them: ``mix.in_turn``.

    Between two edits a picture has 8 bits, as in a file, and is encoded anew. So what two commands
    make one after the other, this makes in one.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = list(turns)
        self.parts = [part for turn in turns for part in turn.edit.parts]

    def apply(self, run: Run, start: Encoded, gamma: float) -> Tensor:
        """Edited images [N,3,H,W] in [-1, 1], each edit at ``gamma`` times its weight."""
        now, result = start, start.sources.pixels
        for place, turn in enumerate(self.turns):
            if place > 0:
                now = again(alone(run), start, as_saved(result))
            own = replace(run, cfg=replace(run.cfg, edit=turn.options or run.cfg.edit))
            result = turn.edit.apply(own, now, gamma * turn.weight)
        return result

    @property
    def other_order(self) -> Edit:
        """The last edit first."""
        return InTurn(self.turns[::-1])

    def regions(self, start: Encoded) -> list[Tensor]:
        """Where each edit acted last; empty if all of them act everywhere."""
        found = [turn.edit.region(start) for turn in self.turns]
        if all(region is None for region in found):
            return []
        everywhere = torch.ones_like(start.sources.pixels[:, :1])
        return [everywhere if region is None else region for region in found]

    def region(self, start: Encoded) -> Tensor | None:
        """Where any of them acted last."""
        regions = self.regions(start)
        return union(regions) if regions else None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "several edits one after the other"
