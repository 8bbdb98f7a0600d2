"""The curves of a training as inline SVG, one plot for what shares an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dclip.metrics.names import find
from dclip.pages.render import render

Curves = Mapping[str, Sequence[tuple[int, float]]]

INK = "#808080"  # is read on white and on black
TOTAL = "total"
NAMES = {
    "lr": "learning rate",
    "images_per_s": "training images a second",
    "mfu": "share of the device's matrix-product rate (MFU)",
    "loss": "training loss",
}


@dataclass(frozen=True)
class Plot:
    """Curves that share an axis, and the levels that they are compared with.

    Attributes:
        levels: ``untouched``, ``truth`` -> where on the axis.
    """

    title: str
    names: Sequence[str]
    levels: Mapping[str, float]


def plots_of(curves: Curves) -> list[Plot]:
    """Losses by term, then every score by itself, then the learning rate and the speed."""
    terms = {name.removeprefix("loss_") for name in curves if name.startswith("loss_")}
    losses, scores, others = [], [], []
    if "loss" in curves:  # of a pretraining
        losses.append(Plot(NAMES["loss"], ["loss"], {}))
    for prefix, title in (("loss_", "training loss"), ("val_", "validation loss")):
        names = [f"{prefix}{term}" for term in sorted(terms) if f"{prefix}{term}" in curves]
        total = [name for name in names if name == f"{prefix}{TOTAL}"]
        single = [name for name in names if name not in total]
        losses += [Plot(title, total, {}), Plot(f"{title} by term", single, {})]
    for name in curves:
        kind, _, stem = name.partition("_")
        if kind == "val" and stem not in terms:
            scores.append(Plot(f"{stem}, validation images", [name], _levels(stem)))
        elif kind not in ("val", "loss"):
            others.append(Plot(NAMES.get(name, name), [name], {}))
    return [*losses, *scores, *others]


def with_mfu(curves: Curves, metrics: Mapping[str, object]) -> Curves:
    """The curves, and how much of the device was used: as the images a second, which cost the same."""
    share, rate = metrics.get("mfu"), metrics.get("images_per_s")
    if not isinstance(share, float) or not isinstance(rate, float) or "images_per_s" not in curves:
        return curves
    used = [(step, share * speed / rate) for step, speed in curves["images_per_s"]]
    return {**curves, "mfu": used}


def _levels(score: str) -> dict[str, float]:
    """What the untouched pictures and the true ones score."""
    quantity = find(score)
    if quantity is None:
        return {}
    levels = {"untouched": quantity.untouched, "truth": quantity.truth}
    return {name: level for name, level in levels.items() if level is not None}


# ------------------------------------------------------------ drawing

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 30, 60  # around the axes; the legend is below them
TICKS = 5
MOST = 600  # points of a curve that are drawn
DOTS = 20  # up to so many points each is drawn as a dot
COLORS = ("#2a7fd4", "#e07b00", "#1f9e6e", "#c0392b", "#8e5bb5", "#8c6d46", "#d45fa0", "#7a7a00")


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is drawn, and what is written at it."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve or a level as it is drawn: ``dash`` is empty for a whole line."""

    name: str
    points: str
    color: str
    dash: str = ""
    dots: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """From numbers to places between two ends of the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a number is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, whole: bool = False) -> list[Tick]:
        """Marks at round numbers; ``whole`` for integers only."""
        step = _round_step((self.high - self.low) / TICKS)
        if whole:
            step = max(step, 1.0)
        marks = []
        for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1):
            marks.append(Tick(self.place(k * step), f"{k * step:.6g}"))
        return marks


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that is at least this."""
    power: float = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5):
        if factor * power >= least * (1 - 1e-9):
            return factor * power
    return 10 * power


def _axis(values: Sequence[float], start: float, end: float, margin: float = 0.0) -> Axis:
    """An axis that holds all values, with a margin of that share of their spread."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    return Axis(low - margin * spread, high + margin * spread, start, end)


def svg_of(curves: Curves, plot: Plot) -> str:
    """A plot as inline SVG, readable on light and dark pages; empty where there is nothing to see."""
    plotted = {}
    for name in plot.names:
        points = [point for point in curves.get(name, ()) if math.isfinite(point[1])]
        if len(points) > 1:
            plotted[name] = _thinned(points)
    if not plotted:
        return ""
    steps = [step for points in plotted.values() for step, _ in points]
    values = [value for points in plotted.values() for _, value in points]
    across = _axis(steps, LEFT, WIDTH - RIGHT)
    up = _axis([*values, *plot.levels.values()], HEIGHT - BOTTOM, TOP, 0.06)
    lines = []
    for k, (name, points) in enumerate(plotted.items()):
        lines.append(_curve(name, points, COLORS[k % len(COLORS)], across, up))
    for k, (name, level) in enumerate(plot.levels.items()):
        y = up.place(level)
        lines.append(Line(name, f"{LEFT},{y} {WIDTH - RIGHT},{y}", INK, ("6 4", "2 3")[k % 2]))
    return render(
        "plot.svg",
        plot=plot,
        lines=lines,
        across=across.ticks(whole=True),
        up=up.ticks(),
        box=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        legend=_legend(lines),
    )


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every k-th point of a long curve, and the last one."""
    every = math.ceil(len(points) / MOST)
    return [*points[:-1:every], points[-1]]


def _curve(
    name: str, points: Sequence[tuple[int, float]], color: str, across: Axis, up: Axis
) -> Line:
    places = [(across.place(step), up.place(value)) for step, value in points]
    text = " ".join(f"{x},{y}" for x, y in places)
    return Line(name, text, color, dots=places if len(places) <= DOTS else ())


def _legend(lines: Sequence[Line]) -> list[tuple[Line, float, float]]:
    """Where the name of every line is written: left to right, in two rows if need be."""
    entries, x, y = [], float(LEFT), float(HEIGHT - 18)
    for line in lines:
        width = 24 + 6.2 * len(line.name)
        if x + width > WIDTH and x > LEFT:
            x, y = float(LEFT), y + 13
        entries.append((line, x, y))
        x += width
    return entries
