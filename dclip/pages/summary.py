"""What a report's first screen says of a run: did it work, what did it cost, what now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dclip.edits.named import EPOCHS, FILE
from dclip.metrics.names import interval
from dclip.record.runs import Run
from dclip.runtime.durations import duration
from dclip.runtime.typed import typed

Metrics = Mapping[str, Any]

# ------------------------------------------------------------ did it work?


@dataclass(frozen=True)
class Answer:
    """The verdict in one sentence.

    Attributes:
        mood: ``good``, ``open``, ``bad``, or ``plain`` where nothing is judged.
    """

    mood: str
    short: str
    words: str


def answer(metrics: Metrics, doubt: bool = False, running: bool = False) -> Answer:
    """Whether a run worked and how well, with the 95 % interval.

    Args:
        doubt: whether something else speaks against it (``report.verdict``).
        running: whether it is still at work.
    """
    for say in (_by_truth, _by_clip, _by_words, _round_trip):
        said = say(metrics)
        if said is not None:
            return _doubted(said) if doubt else said
    if running:
        return Answer("plain", "Running", "its numbers are not there yet.")
    return Answer("plain", "Finished", "its numbers and pictures are below.")


def _doubted(said: Answer) -> Answer:
    """What else is known speaks against a good result."""
    if said.mood != "good":
        return said
    return Answer("open", "It worked in part", said.words)


def _by_truth(metrics: Metrics) -> Answer | None:
    """By the distance to the true pictures."""
    ratio = metrics.get("counterfactual_ratio")
    if not isinstance(ratio, int | float):
        return None
    low, high = interval("counterfactual_ratio", metrics) or (ratio, ratio)
    pictures = _pictures(metrics, "edited ")
    if high < 1:
        bounds = _bounds("counterfactual_ratio", metrics, _gain)
        words = (
            f"the {pictures} come {_gain(ratio)} nearer to the true pictures than the untouched "
            f"ones{bounds}."
        )
        return Answer("good", "It worked", words)
    bounds = _bounds("counterfactual_ratio", metrics, "{:.2f}".format)
    words = (
        f"the {pictures} are at {ratio:.2f} times the untouched ones' distance to the true "
        f"pictures{bounds}; below 1 is nearer."
    )
    if low > 1:
        return Answer("bad", "It did not work", words)
    return Answer("open", "Undecided", words)


def _gain(ratio: float) -> str:
    """How much nearer a ratio of distances is than 1."""
    return f"{100 * (1 - ratio):.0f} %"


def _by_clip(metrics: Metrics) -> Answer | None:
    """By how far pictures moved along the words' direction, where no truth is known."""
    for name, reader in (
        ("s_dir_heldout", "a CLIP that only scores"),
        ("s_dir", "the CLIP that guided"),
    ):
        value = metrics.get(name)
        if not isinstance(value, int | float):
            continue
        bounds = _bounds(name, metrics, "{:.2f}".format)
        words = (
            f"to {reader}, the {_pictures(metrics, 'edited ')} changed along the words' direction "
            f"by {value:.2f}{bounds}; 0 is not at all, 1 exactly. The true pictures are not known, "
            "so look at these."
        )
        bound = interval(name, metrics)
        if bound is None:
            return Answer("open", "Too few pictures to say", words)
        if bound[0] > 0:
            return Answer("good", "The edit shows", words)
        if bound[1] <= 0:
            return Answer("bad", "The edit does not show", words)
        return Answer("open", "Undecided", f"{words} The interval holds 0: it may be chance.")
    return None


def _by_words(metrics: Metrics) -> Answer | None:
    """By the probability of the words, of samples."""
    value = metrics.get("p_target_heldout")
    if not isinstance(value, int | float):
        return None
    bounds = _bounds("p_target_heldout", metrics, _percent)
    words = (
        f"a CLIP that only scores gives the words a probability of {100 * value:.0f} % on the "
        f"{_pictures(metrics, '')}{bounds}."
    )
    if metrics.get("clip_calls") == 0 and "optimiser_steps" not in metrics:
        return Answer("plain", "Finished", f"nothing guided; {words}")
    if value >= 0.5:
        return Answer("good", "The samples show the words", words)
    return Answer("bad", "Most samples do not show the words", words)


def _round_trip(metrics: Metrics) -> Answer | None:
    """By what is left of pictures that nothing should change."""
    value = metrics.get("psnr")
    if not isinstance(value, int | float):
        return None
    bounds = _bounds("psnr", metrics, "{:.1f} dB".format)
    words = f"the {_pictures(metrics, '')} are as they were up to a PSNR of {value:.1f} dB{bounds}."
    return Answer("plain", "Finished", words)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _pictures(metrics: Metrics, kind: str) -> str:
    """How many pictures a number is a mean of."""
    count = metrics.get("images", metrics.get("count"))
    if not isinstance(count, int):
        return f"{kind}pictures"
    return f"{count} {kind}picture" if count == 1 else f"{count} {kind}pictures"


def _bounds(name: str, metrics: Metrics, form: Any) -> str:
    """The 95 % interval in brackets, the smaller end first as it is shown."""
    bounds = interval(name, metrics)
    if bounds is None:
        return ""
    low, high = bounds
    if form is _gain:
        low, high = high, low
    return f" (95 % interval {form(low)} to {form(high)})"


# ------------------------------------------------------------ what did it cost?


@dataclass(frozen=True)
class Fact:
    """A number in words."""

    name: str
    value: str


SECONDS = {
    "seconds_adapt": "learning",
    "seconds_invert": "inversion (what was not cached)",
    "seconds_edit": "editing",
    "seconds_optimise": "optimising latents",
    "seconds_translate": "translation",
}


def costs(metrics: Metrics, status: Mapping[str, Any]) -> list[Fact]:
    """Time, memory and machine, as far as a run kept them."""
    facts = []
    if isinstance(status.get("seconds"), int | float):
        facts.append(Fact("whole run", duration(status["seconds"])))
    for name, words in SECONDS.items():
        value = metrics.get(name)
        if isinstance(value, int | float):
            facts.append(Fact(words, duration(value)))
    speed = metrics.get("images_per_s")
    if isinstance(speed, int | float):
        facts.append(Fact("training images a second", f"{speed:.3g}"))
    used = metrics.get("mfu")
    if isinstance(used, int | float):
        facts.append(Fact("of the device's matrix-product rate (MFU)", f"{100 * used:.0f} %"))
    memory = metrics.get("peak_memory_mb")
    if isinstance(memory, int | float):
        facts.append(Fact("most memory", f"{memory / 1000:.2g} GB"))
    machine = _machine(status)
    if machine:
        facts.append(Fact("to run on", machine))
    return facts


def _machine(status: Mapping[str, Any]) -> str:
    """The GPU, else the processor's cores."""
    environment = status.get("environment")
    if not isinstance(environment, dict):
        return ""
    if environment.get("gpu"):
        return str(environment["gpu"])
    cores = environment.get("cpus")
    return f"{cores} CPU cores" if cores else ""


# ------------------------------------------------------------ what now?


@dataclass(frozen=True)
class Step:
    """What one may do next, and the command that does it."""

    words: str
    command: str


def next_steps(folder: Path, learn_more: bool) -> list[Step]:
    """How to apply what was learned, weaker, earlier, or learned longer; empty where nothing was."""
    if not (folder / FILE).is_file():
        return []
    run = Run(folder)
    apply = ["task=edit", f"edit.adapter={folder}"]
    steps = [
        Step("Apply the edit to a picture of yours", typed([*apply, "input=your_picture.png"]))
    ]
    if learn_more and run.command:
        epochs = run.setting("method.epochs")
        steps.insert(0, _longer(run.command, epochs))
    steps.append(Step("The same at half its strength (2 is twice)", typed([*apply, "gamma=0.5"])))
    kept = len(list((folder / EPOCHS).glob("epoch_*.safetensors")))
    if kept > 1:
        steps.append(
            Step(f"As it was after an earlier epoch, of {kept}", typed([*apply, "epoch=1"]))
        )
    steps.append(Step("Try it in the browser", typed(["task=demo", f"edit.adapter={folder}"])))
    compare = typed(["task=report", f"runs={folder.parent}"])
    steps.append(Step("Compare all runs of this edit in a table", compare))
    return steps


def _longer(command: list[str], epochs: float | str | None) -> Step:
    """The same run with twice as many epochs."""
    words = [word for word in command if not word.startswith("method.epochs=")]
    more = 2 * epochs if isinstance(epochs, int) else 10
    return Step("Learn it longer", typed([*words, f"method.epochs={more}"]))
