"""What the page of a pretraining says: its network's scores beside those of the shipped one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dclip.models.registry import package_folder
from dclip.pages.summary import Answer
from dclip.record.runs import Run, read_curves

LINE = re.compile(r"^\| (\w+) \| ([\d.]+) \|$", re.MULTILINE)  # of a card's table
LOWER = ("mae_", "eps_loss_", "other_mean")  # such scores are better when they are lower
NEAR = 0.01  # by how much scores of two trainings of one kind differ anyway


@dataclass(frozen=True)
class Beside:
    """A score of the trained network and of the shipped one; ``gain`` is above 0 where it is better."""

    name: str
    own: float
    shipped: float

    @property
    def gain(self) -> float:
        """By how much the trained network is better."""
        return self.shipped - self.own if self.name.startswith(LOWER) else self.own - self.shipped

    @property
    def mood(self) -> str:
        """``good`` or ``bad`` where the two differ by more than trainings do."""
        if abs(self.gain) <= NEAR:
            return ""
        return "good" if self.gain > 0 else "bad"


def is_training(run: Run) -> bool:
    """Whether a run trained a network."""
    return (run.folder / "config.yaml").is_file() and run.setting("task.name") == "pretrain"


def card_scores(name: str) -> dict[str, float]:
    """The scores on the card of a network of the package; empty where it has none."""
    path = package_folder() / f"{name}.md"
    if not path.is_file():
        return {}
    return {score: float(value) for score, value in LINE.findall(path.read_text("utf-8"))}


def weights_of(run: Run) -> str:
    """The name of the network that a run wrote; empty where it wrote none."""
    return next((path.stem for path in sorted(run.folder.glob("*.safetensors"))), "")


def beside_shipped(run: Run) -> list[Beside]:
    """The scores that the trained and the shipped network have."""
    shipped, found = card_scores(weights_of(run)), []
    for name, value in run.metrics.items():
        if name in shipped and isinstance(value, int | float):
            found.append(Beside(name, value, shipped[name]))
    return found


def trained(run: Run) -> Answer:
    """How good a trained network is, in one sentence."""
    beside = beside_shipped(run)
    if beside:
        return _against_shipped(beside, weights_of(run))
    said = [*_loss(read_curves(run.folder / "curves.jsonl")), *_scores(run.metrics)]
    return Answer("plain", "Trained", f"{'; '.join(said) or 'its scores are below'}.")


def _against_shipped(beside: Sequence[Beside], name: str) -> Answer:
    worst = min(beside, key=lambda one: one.gain)
    better = [one for one in beside if one.mood == "good"]
    worse = [one for one in beside if one.mood == "bad"]
    words = (
        f"of {len(beside)} scores on the test split, {len(better)} are better and {len(worse)} worse "
        f"than those of the network that comes with dclip ({name})"
    )
    if worse:
        words += (
            f"; the furthest behind is {worst.name}, {worst.own:.3f} (there {worst.shipped:.3f})"
        )
    if not worse:
        short = "Better than the shipped network" if better else "As good as the shipped network"
        return Answer("good", short, f"{words}.")
    return Answer("open" if better else "bad", "Behind the shipped network", f"{words}.")


def _loss(curves: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    """Where the loss came from, and to."""
    points = curves.get("loss", ())
    if len(points) < 2:
        return []
    (_, first), (step, last) = points[0], points[-1]
    return [f"the training loss fell from {first:.3g} to {last:.3g} in {step + 1:,} steps"]


def _scores(metrics: Mapping[str, object]) -> list[str]:
    """The first scores on the test split."""
    found = []
    for name, value in metrics.items():
        if isinstance(value, float) and not name.startswith("seconds_"):
            found.append(f"{name} {value:.3g}")
    return [f"on the test split: {', '.join(found[:3])}"] if found else []
