"""How far a run is, from what its progress bars print. Imports nothing heavy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dclip.config import Config, SampleTask
from dclip.prepare import plan

BAR = re.compile(r"(?P<what>[^:%]+):\s+\d+%\|.*\|\s*(?P<done>\d+)/(?P<total>\d+) \[")
LEARNING = "fine-tuning"  # the bar of a training
INVERTING = 0.25  # of the calls that a plan counts: fixed points are found before the last sweep
GUIDING = 3.0  # time of a step that CLIP guides, in steps without it

# What a visitor reads in place of a bar's name, which it may only begin with.
WORDS = {
    "inverting train": "inverting the training pictures",
    "inverting validation": "inverting the validation pictures",
    "inverting test": "inverting the test pictures",
    LEARNING: "learning",
    "sampling under guidance": "drawing, guided by the words",
    "sampling": "drawing the same without guidance, to compare",
}


def stages_of(cfg: Config) -> dict[str, float]:
    """The bars that a run shows, in their order -> their work, in forward passes of one image.

    ``""`` stands for all bars after the last that is named.
    """
    work = dict(plan.calls(cfg))
    if isinstance(cfg.task, SampleTask):
        free = work.get("without guidance", 0.0)
        return {"sampling": free, "sampling under guidance": GUIDING * work["sample"]}
    images = plan.image_counts(cfg)
    counts = {"train": images.train, "validation": images.validation, "test": images.test}
    invert, edit = work.pop("invert", 0.0), work.pop("edit", 0.0)
    stages: dict[str, float] = {}
    for split, count in counts.items():
        share = count / max(1, sum(counts.values()))
        stages[f"inverting {split}"] = INVERTING * invert * share
    return {**stages, LEARNING: sum(work.values()), "": edit}


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        stages: as ``stages_of`` gives them.
        what: the bar that moves; empty before the first.
        done, total: its steps.
    """

    stages: Mapping[str, float]
    clock: Callable[[], float] = time.monotonic
    what: str = ""
    done: int = 0
    total: int = 0
    _began: tuple[float, int] = (0.0, 0)  # when this bar was first seen, and at which step
    _pace: float | None = None  # seconds of one forward pass

    def read(self, line: str) -> None:
        """Take in a line of the run's output; one that is no bar says nothing."""
        bar = BAR.match(line.strip())
        if bar is None:
            return
        what, done = bar["what"].strip(), int(bar["done"])
        if what != self.what:
            self.what, self._began = what, (self.clock(), done)
        self.done, self.total = done, int(bar["total"])
        seconds, steps = self.clock() - self._began[0], done - self._began[1]
        work = self.stages.get(self._stage, 0.0) * steps / max(1, self.total)
        if work > 0 and seconds > 0:
            self._pace = seconds / work

    @property
    def _stage(self) -> str:
        """The stage that the moving bar belongs to: the longest that its name begins with."""
        fitting = [stage for stage in self.stages if self.what.startswith(stage)]
        return max(fitting, key=len, default="")

    @property
    def words(self) -> str:
        """What the run is doing."""
        if not self.what:
            return "starting"
        return WORDS.get(self._stage, "editing the test pictures")

    @property
    def _left(self) -> float:
        """Forward passes that are still to come. What was passed over had been done before."""
        order = list(self.stages)
        place = order.index(self._stage) if self._stage in order else 0
        later = sum(self.stages[stage] for stage in order[place + 1 :])
        return later + self.stages.get(self._stage, 0.0) * (1 - self.done / max(1, self.total))

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1."""
        whole = sum(self.stages.values())
        return 1 - self._left / whole if whole and self.what else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the end, at the pace of now; None before that is known."""
        return None if self._pace is None else self._left * self._pace

    def epoch(self, epochs: int) -> int:
        """The epoch that is being learned, the first is 1; 0 before and after learning."""
        if self._stage != LEARNING:
            return 0
        return min(epochs, 1 + self.done * epochs // max(1, self.total))
