"""The table and the figure of a search: its trials, the best first, and how each setting did."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.record.runs import Run, by_config, find_runs
from dclip.runtime.typed import typed
from dclip.study.figures import save_figure
from dclip.study.search import Search, command
from dclip.study.tables import (
    Cell,
    Row,
    Table,
    cell_of,
    origin_of,
    ran_on,
    short_names,
    write_texts,
)
from dclip.study.trials import Trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial


def write_table(trials: Trials) -> Path:
    """table.md, .csv and .tex, and figure.png where a trial is finished; the Markdown's path."""
    path = write_texts(search_table(trials), trials.folders.table)
    done = trials.finished()
    if done:
        save_figure(figure(trials.search, done), trials.folders.table)
    return path


def ordered(trials: Trials) -> list[FrozenTrial]:
    """Finished trials, the best first; then those that were given up, run, or failed."""
    states = trials.states
    ranks = [states.COMPLETE, states.PRUNED, states.RUNNING, states.FAIL]
    return sorted(
        trials.counted(), key=lambda trial: (ranks.index(trial.state), trials.rank(trial))
    )


def search_table(trials: Trials) -> Table:
    """One row a trial. Trials are numbered in the order in which they count."""
    search = trials.search
    runs = by_config(find_runs([trials.folders.runs]))
    numbers = {trial.number: k for k, trial in enumerate(trials.counted())}
    columns = {search.goal: search.goal, **search.columns}
    names = dict(zip(search.space, short_names(list(search.space)), strict=True))
    better = {search.goal: search.maximize}
    table = Table(search.title, ["trial", *names.values()], list(columns), [], better=better)
    finished: list[Run] = []
    for trial in ordered(trials):
        key = {"trial": str(numbers[trial.number])}
        for name, axis in search.space.items():
            if name in trial.params:
                key[names[name]] = axis.label(trial.params[name])
        run = runs.get(trial.user_attrs.get("digest", ""))
        if trial.state == trials.states.COMPLETE and run:
            finished.append(run)
        table.rows.append(_row(trials, trial, key, columns, run))
        if trial.state == trials.states.FAIL:
            table.note(f"trial {key['trial']} failed: {trial.user_attrs['reason']}")
    _add_notes(trials, table, finished)
    return table


def _row(
    trials: Trials,
    trial: FrozenTrial,
    key: dict[str, str],
    columns: dict[str, str],
    run: Run | None,
) -> Row:
    states = trials.states
    row = Row(key, dict.fromkeys(columns, Cell()))
    if trial.state == states.COMPLETE:
        row.seeds = 1
        if run:
            row.n, row.origin = run.images, origin_of([run])
            row.cells = {name: cell_of([[run]], source) for name, source in columns.items()}
        row.cells[trials.search.goal] = Cell(trial.value)
        return row
    reports = trial.intermediate_values
    if reports:
        row.cells[trials.search.goal] = Cell(reports[max(reports)])
    texts = {states.PRUNED: "given up", states.RUNNING: "running", states.FAIL: "failed"}
    row.state = texts.get(trial.state, "")
    return row


def _add_notes(trials: Trials, table: Table, finished: Sequence[Run]) -> None:
    search, best = trials.search, trials.best
    if search.about:
        table.note(search.about)
    goal = f"{search.goal}: what is {'maximized' if search.maximize else 'minimized'}"
    if search.by_epoch:
        goal += ", on the validation images after the last epoch"
    table.note(goal)
    given_up = [row.state for row in table.rows].count("given up")
    if given_up:
        table.note(
            f"given up: {given_up} trials that were worse at an epoch than half of the others; "
            "their value is that epoch's"
        )
    if best:
        table.note(f"best: {command(search, best.params)}")
    if finished:
        table.note(ran_on(finished))
    table.note(f"search: {typed(search.words)}; every trial: {' '.join(search.base)}")


# ------------------------------------------------------------------------------------ figure


def figure(search: Search, done: Sequence[FrozenTrial]) -> Figure:
    """The goal by trial, with the best so far, and by every setting."""
    from matplotlib.figure import Figure

    values = [trial.value or 0.0 for trial in done]
    panels = 1 + len(search.space)
    across = min(4, panels)
    down = math.ceil(panels / across)
    drawing = Figure(figsize=(3 * across, 2.5 * down + 0.4), layout="constrained")
    first, *others = drawing.subplots(down, across, squeeze=False).ravel()
    _by_trial(first, search, values)
    for panel, (name, axis) in zip(others, search.space.items(), strict=False):
        settings = [trial.params[name] for trial in done]
        panel.scatter(settings, values, c=range(len(values)), cmap="viridis", s=12)
        panel.set_xlabel(name)
        if axis.log:
            panel.set_xscale("log")
        panel.grid(alpha=0.3)
    for panel in others[len(search.space) :]:
        panel.set_axis_off()
    drawing.suptitle(search.title, fontsize=9)
    return drawing


def _by_trial(panel: Axes, search: Search, values: Sequence[float]) -> None:
    better = max if search.maximize else min
    best = list(itertools.accumulate(values, better))
    panel.plot(range(len(values)), values, "o", markersize=3)
    panel.step(range(len(values)), best, where="post", linewidth=1, label="best so far")
    panel.set(xlabel="finished trial", ylabel=search.goal)
    panel.legend(fontsize=7)
