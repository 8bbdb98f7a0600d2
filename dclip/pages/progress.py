"""How far a run is, from what its progress bars print. Imports nothing heavy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dclip.config import Config, SampleTask
from dclip.models.sizes import size_of
from dclip.prepare import plan

BAR = re.compile(r"(?P<what>[^:%]+):\s+\d+%\|.*\|\s*(?P<done>\d+)/(?P<total>\d+) \[")
LEARNING = "fine-tuning"  # the bar of a training
AFTER = ("calibrate", "locate", "edit")  # what follows it, of a plan's parts
INVERTING = 0.25  # of the calls that a plan counts: fixed points are found before the last sweep
GUIDING = 3.0  # time of a step that CLIP guides, in steps without it
EXPECTED = 0.1  # of all the work: how much measured work outweighs what was expected

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
    invert = work.pop("invert", 0.0)
    after = sum(work.pop(part, 0.0) for part in AFTER)
    stages: dict[str, float] = {}
    for split, count in counts.items():
        share = count / max(1, sum(counts.values()))
        stages[f"inverting {split}"] = INVERTING * invert * share
    return {**stages, LEARNING: sum(work.values()), "": after}


def pace_of(cfg: Config) -> float | None:
    """Seconds of one forward pass, as a plan expects; None where it cannot tell."""
    device, size = plan.device_of(cfg), size_of(cfg)
    if size is None or device.gflops is None:
        return None
    return size.gflop / device.gflops


@dataclass
class Progress:
    """Where a run stands, and one estimate for all of it.

    How many bars come after the last named stage is not known: each takes half of what is left.

    Attributes:
        stages: as ``stages_of`` gives them.
        expected: seconds of one forward pass, before any is measured.
        what: the bar that moves; empty before the first.
        done, total: its steps.
    """

    stages: Mapping[str, float]
    expected: float | None = None
    clock: Callable[[], float] = time.monotonic
    what: str = ""
    done: int = 0
    total: int = 0
    _reached: str | None = None  # the stage that was reached
    _rest: float = 1.0  # of it: what was left when its last bar began
    _bar: tuple[str, int] = ("", 0)  # that bar and its step
    _share: float = 0.0  # of that rest: what is done
    _last: tuple[float, float] = (0.0, 0.0)  # when work was last seen, and what was left
    _measured: tuple[float, float] = (0.0, 0.0)  # seconds, and the forward passes they took

    def read(self, line: str) -> None:
        """Take in a line of the run's output; one that is no bar says nothing."""
        bar = BAR.match(line.strip())
        if bar is None:
            return
        what, done, total = bar["what"].strip(), int(bar["done"]), int(bar["total"])
        self.what, self.done, self.total = what, done, total
        if self._counts:
            begins = what != self._bar[0] or done < self._bar[1]
            if begins:
                self._begin()
            self._bar = what, done
            self._share = done / max(1, total) * (1 if self._stage else 0.5)
            if begins:
                self._last = self.clock(), self._left
            self._measure()

    @property
    def _counts(self) -> bool:
        """Whether the bar is of the stage that was reached, or a later one."""
        order, stage = [None, *self.stages], self._stage
        learned = self._reached == LEARNING and self._share == 1
        if stage == "" and not learned and self._reached != "":
            return False  # it prepares what has a name
        return stage in self.stages and order.index(stage) >= order.index(self._reached)

    def _begin(self) -> None:
        """A bar begins, in its stage or after others of it."""
        if self._stage != self._reached:
            self._reached, self._rest = self._stage, 1.0
        else:
            self._rest *= 1 - self._share

    def _measure(self) -> None:
        """Take in how long it took to do what was done since the last line that did something."""
        now, (then, before) = self.clock(), self._last
        work = before - self._left
        if work > 0:
            seconds, passes = self._measured
            self._measured = seconds + now - then, passes + work
            self._last = now, self._left

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
        after = "editing the test pictures" if self._reached == "" else "preparing"
        return WORDS.get(self._stage, after)

    @property
    def _left(self) -> float:
        """Forward passes that are still to come. What was passed over had been done before."""
        if self._reached is None:
            return sum(self.stages.values())
        order = list(self.stages)
        later = sum(self.stages[stage] for stage in order[order.index(self._reached) + 1 :])
        return later + self.stages[self._reached] * self._rest * (1 - self._share)

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1."""
        whole = sum(self.stages.values())
        return 1 - self._left / whole if whole else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the end, at the pace that was measured; None where nothing tells.

        At the beginning, what was expected counts as so much work that was measured.
        """
        seconds, passes = self._measured
        if self.expected is not None:
            trusted = EXPECTED * sum(self.stages.values())
            seconds, passes = seconds + self.expected * trusted, passes + trusted
        return self._left * seconds / passes if passes else None

    def epoch(self, epochs: int) -> int:
        """The epoch that is being learned, the first is 1; 0 before and after learning."""
        if self._stage != LEARNING:
            return 0
        return min(epochs, 1 + self.done * epochs // max(1, self.total))
