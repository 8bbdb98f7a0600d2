"""What a metric is, and the one list of them. Imports nothing heavy.

A metric is registered once, with everything that anybody needs to know of it. A run, two folders,
samples and translations are readers of the list; ``dclip.metrics.names`` is how tables, reports
and command lines see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from dclip.errors import DclipError
from dclip.metrics.words import Better, Need, ReaderName, Switch

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.metrics.distribution import FeatureSets
    from dclip.metrics.presets import Choices
    from dclip.metrics.scorers import Scorers
    from dclip.types import Edited

ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass
class Scores:
    """What has been measured.

    Attributes:
        values: one number (or a reason) a metric.
        rows: one number an image and metric; nan where it means nothing for an image.
        ratios: metrics that are the mean of one row over that of another: its name -> both names.
    """

    values: dict[str, float | str] = field(default_factory=dict)
    rows: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: str, per_image: Tensor) -> None:
        """A metric from its values per image: their mean, without those that are nan."""
        self.row(name, per_image)
        if bool(per_image.isnan().all()):
            self.absent(name, "it means nothing for any of these pictures")
        else:
            self.values[name] = float(per_image.double().nanmean())

    def ratio(self, name: str, of: str, to: str, above: Tensor, below: Tensor) -> None:
        """A metric that is the ratio of the means of two rows, which are called ``of`` and ``to``."""
        self.row(of, above)
        self.row(to, below)
        self.ratios[name] = of, to
        base = float(below.double().mean())
        if base == 0:
            self.absent(name, "there is nothing to change in any of these pictures")
        else:
            self.values[name] = float(above.double().mean()) / base

    def row(self, name: str, per_image: Tensor) -> None:
        """Values per image whose mean is no metric."""
        self.rows[name] = [round(float(value), 6) for value in per_image]

    def absent(self, name: str, reason: str) -> None:
        """A metric that cannot be computed, and why."""
        self.values[f"{name}_absent"] = reason

    def take(self, name: str, result: Tensor | Scores | str) -> None:
        """Whatever a metric has returned."""
        if isinstance(result, str):
            self.absent(name, result)
        elif isinstance(result, Scores):
            self.merge(result)
        else:
            self.add(name, result)

    def merge(self, other: Scores) -> None:
        """Everything that other scores hold."""
        self.values |= other.values
        self.rows |= other.rows
        self.ratios |= other.ratios


Compute = Callable[["Edited", "Scorers"], "Tensor | Scores | str"]

CompareSets = Callable[["FeatureSets"], "Scores | str"]

Details = Callable[["Choices", str], str]  # choices and domain -> words


@dataclass(frozen=True)
class Quantity:
    """A number that runs report.

    Attributes:
        better: which way is better, ``higher`` or ``lower``.
        meaning: one plain sentence, for reports and documentation.
        untouched: what the pictures before the edit score; None where that is not plain.
        truth: what the true edited pictures score; None where that is not plain.
    """

    name: str
    better: Better
    meaning: str
    module: str = "dclip"
    untouched: float | None = None
    truth: float | None = None

    @property
    def arrow(self) -> str:
        """Which way is better, as a character."""
        return ARROWS[self.better]


@dataclass(frozen=True, kw_only=True)
class Metric(Quantity):
    """A number of edited images.

    Attributes:
        compute: one number an image [N]; the reason (a text) where it cannot be computed; or
            ``Scores`` where there are several numbers, or one of all images together.
        needs: without these it is absent, with the reader's reason.
        readers: who measures it.
        switch: the setting ``metric.SWITCH`` that turns it off in runs; empty: only
            ``metric=none`` does.
        details: how exactly it is computed, for ``dclip metrics``; empty: ``meaning`` says it.
    """

    compute: Compute
    needs: tuple[Need, ...] = ()
    readers: tuple[ReaderName, ...] = ("edits", "folders")
    switch: Switch = ""
    details: Details | None = None


@dataclass(frozen=True, kw_only=True)
class SetMetric(Quantity):
    """A distance between two sets of images, from their features.

    Attributes:
        compare: the distance, with an interval where there is one; or why there is none.
        sized: whether it is reported once for every subset size, under the sizes' names.
        readers, details: as for ``Metric``.
    """

    compare: CompareSets
    readers: tuple[ReaderName, ...] = ("folders", "samples")
    details: Details | None = None
    sized: bool = False

    def columns(self, sizes: Iterable[str]) -> list[str]:
        """Its names in the results, given those of the subset sizes."""
        return list(sizes) if self.sized else [self.name]


METRICS: dict[str, Quantity] = {}  # by name, in the order of reports


def register(quantity: Quantity) -> None:
    """Put a quantity on the list. DclipError where another module's has its name."""
    known = METRICS.get(quantity.name)
    if known is not None and known.module != quantity.module:
        raise DclipError(
            f"metric {quantity.name!r} of {quantity.module} exists already, in {known.module}; "
            "choose another name"
        )
    _check(quantity, "better", [quantity.better], get_args(Better))
    if isinstance(quantity, Metric):
        _check(quantity, "needs", quantity.needs, get_args(Need))
        _check(quantity, "switch", [quantity.switch], get_args(Switch))
    if isinstance(quantity, Metric | SetMetric):
        _check(quantity, "readers", quantity.readers, get_args(ReaderName))
    METRICS[quantity.name] = quantity


def _check(quantity: Quantity, what: str, words: Iterable[str], choices: tuple[str, ...]) -> None:
    """DclipError for a word that is none of the choices."""
    for word in words:
        if word not in choices:
            there = ", ".join(choice for choice in choices if choice)
            raise DclipError(f"metric {quantity.name!r}: {what} has {word!r}; choose {there}")


def metric(
    name: str,
    better: Better,
    meaning: str,
    *,
    needs: Iterable[Need] = (),
    readers: Iterable[ReaderName] = ("edits", "folders"),
    switch: Switch = "",
    details: Details | None = None,
    untouched: float | None = None,
    truth: float | None = None,
) -> Callable[[Compute], Compute]:
    """Make a function a metric. The arguments are the attributes of :class:`Metric`.

    The function gets the images before and after an edit and the networks that score. It returns
    one number an image [N] or, where it cannot, the reason as a text.
    """

    def decorate(compute: Compute) -> Compute:
        register(
            Metric(
                name,
                better,
                meaning,
                compute.__module__,
                untouched,
                truth,
                compute=compute,
                needs=tuple(needs),
                readers=tuple(readers),
                switch=switch,
                details=details,
            )
        )
        return compute

    return decorate


def set_metric(
    name: str,
    better: Better,
    meaning: str,
    *,
    readers: Iterable[ReaderName] = ("folders", "samples"),
    details: Details | None = None,
    sized: bool = False,
) -> Callable[[CompareSets], CompareSets]:
    """Make a function of two sets of features a metric; arguments as for ``SetMetric``."""

    def decorate(compare: CompareSets) -> CompareSets:
        register(
            SetMetric(
                name,
                better,
                meaning,
                compare.__module__,
                compare=compare,
                readers=tuple(readers),
                details=details,
                sized=sized,
            )
        )
        return compare

    return decorate
