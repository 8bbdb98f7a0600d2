"""The table and the picture of a search (``study=tune_...``): its trials, the best first, and how each setting did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dclip.files import atomic_save
from dclip.metrics.names import HIGHER_IS_BETTER
from dclip.record.runs import Run, by_config, find_runs
from dclip.study.tables import Cell, Row, Table, cell_of, ran_on, write_texts

if TYPE_CHECKING:
    from dclip.study.search import Search, Trials


def write_table(trials: Trials) -> Path:
    """table.md, .csv and .tex, and figure.png where a trial is finished; the Markdown's path."""
    HIGHER_IS_BETTER.setdefault(trials.search.goal, trials.search.maximize)
    write_texts(search_table(trials), trials.place.table)
    done = [trial for trial in trials.counted() if trial.state == trials.states.COMPLETE]
    if done:
        picture = figure(trials.search, done)
        atomic_save(
            trials.place.table / "figure.png", lambda p: picture.savefig(p, format="png", dpi=110)
        )
    return trials.place.table / "table.md"


def ordered(trials: Trials) -> list[Any]:
    """Finished trials, the best first; then those that were given up, run, or failed."""
    states, sign = trials.states, -1 if trials.search.maximize else 1
    ranks = [states.COMPLETE, states.PRUNED, states.RUNNING, states.FAIL]
    counted = [trial for trial in trials.counted() if trial.state in ranks]
    return sorted(counted, key=lambda t: (ranks.index(t.state), sign * (t.value or 0), t.number))


def search_table(trials: Trials) -> Table:
    """One row a trial. Trials are numbered in the order in which they count."""
    search, states = trials.search, trials.states
    runs = by_config(find_runs([trials.place.runs]))
    last = [name.rsplit(".", 1)[-1] for name in search.space]
    short = {
        name: end if last.count(end) == 1 else name
        for name, end in zip(search.space, last, strict=True)
    }
    numbers = {trial.number: k for k, trial in enumerate(trials.counted())}
    columns = {
        search.goal: search.goal,
        **{k: v for k, v in search.columns.items() if k != search.goal},
    }
    table = Table(search.title, ["trial", *short.values()], list(columns), [])
    done: list[Run] = []
    for trial in ordered(trials):
        run = runs.get(trial.user_attrs.get("digest", ""))
        finished = trial.state == states.COMPLETE and run is not None
        done += [run] if finished and run else []
        labels = {
            name: axis.label(trial.params[name])
            for name, axis in search.space.items()
            if name in trial.params
        }
        cells = {
            name: cell_of([[run]], source) if finished and run else Cell()
            for name, source in columns.items()
        }
        if finished:
            cells[search.goal] = Cell(float(trial.value))
        elif trial.intermediate_values:
            cells[search.goal] = Cell(
                float(trial.intermediate_values[max(trial.intermediate_values)])
            )
        state = {states.PRUNED: "given up", states.RUNNING: "running", states.FAIL: "failed"}.get(
            trial.state, ""
        )
        key = {
            "trial": str(numbers[trial.number]),
            **{short[name]: label for name, label in labels.items()},
        }
        table.rows.append(
            Row(key, cells, run.images if finished and run else 0, 1 if finished else 0, state)
        )
        if trial.state == states.FAIL:
            table.notes.append(
                f"trial {numbers[trial.number]} failed: {trial.user_attrs['reason']}"
            )
    _notes(trials, table, done)
    return table


def _notes(trials: Trials, table: Table, done: Sequence[Run]) -> None:
    from dclip.study.search import command

    search, given_up = trials.search, sum(row.state == "given up" for row in table.rows)
    table.notes += [search.about] if search.about else []
    table.notes.append(f"{search.goal}: what is {'maximized' if search.maximize else 'minimized'}"
                       + (", on the validation images after the last epoch" if search.by_epoch else ""))  # fmt: skip
    if given_up:
        table.notes.append(
            f"given up: {given_up} trials that at an epoch were worse than half of the others; the value is of then"
        )
    if done:
        table.notes.append(f"best: {command(trials)}")
        table.notes.append(ran_on(done))
    table.notes.append(
        f"search: python run.py study={search.name} trials={search.trials}; every trial: {' '.join(search.base)}"
    )


def figure(search: Search, done: Sequence[Any]) -> Any:
    """The goal by trial, with the best so far, and by every setting."""
    from matplotlib.figure import Figure

    values = [float(trial.value) for trial in done]
    panels = 1 + len(search.space)
    across = min(4, panels)
    down = math.ceil(panels / across)
    drawing = Figure(figsize=(3 * across, 2.5 * down + 0.4), layout="constrained")
    first, *others = drawing.subplots(down, across, squeeze=False).ravel()
    best = [(max if search.maximize else min)(values[: k + 1]) for k in range(len(values))]
    first.plot(range(len(values)), values, "o", markersize=3)
    first.step(range(len(values)), best, where="post", linewidth=1, label="best so far")
    first.set(xlabel="finished trial", ylabel=search.goal)
    first.legend(fontsize=7)
    for panel, (name, axis) in zip(others, search.space.items(), strict=False):
        settings = [trial.params[name] for trial in done]
        panel.scatter(settings, values, c=range(len(values)), cmap="viridis", s=12)
        panel.set_xlabel(name)
        if getattr(axis, "log", False):
            panel.set_xscale("log")
        panel.grid(alpha=0.3)
    for panel in others[len(search.space) :]:
        panel.set_axis_off()
    drawing.suptitle(search.title, fontsize=9)
    return drawing
