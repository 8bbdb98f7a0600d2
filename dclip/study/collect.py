"""``python run.py task=report runs=RUN,RUN``: any set of runs as one page, and a page for each pair.

Runs are told apart by their configuration: of several of one configuration the newest finished one
counts. The page shows every run in a line (``overview``); in the tables, rows are the settings that
differ and cells means over seeds. What did not finish is shown too, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dclip.config import OPTIONS
from dclip.errors import DclipError, choose, need
from dclip.files import write_text
from dclip.metrics.contract import METRICS
from dclip.metrics.names import find, ordered
from dclip.pages.render import picture_of, render
from dclip.prepare.words import parse_words
from dclip.record.runs import Run, by_config, runs_at
from dclip.study.differences import (
    chosen_settings,
    labels_of,
    settings_of,
    short,
    shown,
    task_of,
    telling,
)
from dclip.study.figures import readable, write_figure
from dclip.study.overview import Group, groups_of, remarks, write_pairs
from dclip.study.places import places_of
from dclip.study.tables import (
    Row,
    Table,
    cell_of,
    header_line,
    lines,
    markdown,
    origin_of,
    parts,
    ran_on,
    short_names,
    write_texts,
)

ARGUMENTS = ("runs", "sweep", "by", "columns", "output")

LEAD = 2  # labels before the numbers


# ------------------------------------------------------------------------------------- rows


def chosen(runs: Iterable[Run], sweep: str | None) -> list[Run]:
    """One run a configuration, of one study or sweep if that is given."""
    mine, without_hash = [], []
    for run in runs:
        if sweep in (None, run.sweep) and (run.folder / "config.yaml").is_file():
            mine.append(run)
            if not run.digest:
                without_hash.append(run)
    return [*by_config(mine).values(), *without_hash]


def distinct(runs: Sequence[Run]) -> list[Run]:
    """Runs without those that measured, image by image, just what an earlier one did.

    Nothing in them is random, and their seeds are no sample of anything.
    """
    kept: list[Run] = []
    for run in runs:
        if not run.rows or all(run.rows != other.rows for other in kept):
            kept.append(run)
    return kept


def finished_of(runs: Iterable[Run]) -> list[Run]:
    """The finished of some runs."""
    return [run for run in runs if run.state == "finished"]


# ------------------------------------------------------------------------------------ table


def table_of(runs: Sequence[Run], by: Sequence[str] = (), columns: Sequence[str] = ()) -> Table:
    """The table of runs.

    Runs of several tasks make a part each, with the settings that tell them apart.
    """
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(task_of(run), []).append(run)
    table = Table("", [], list(columns) or _measured(runs), [], lead=LEAD)
    if len(tasks) > 1:
        table.split_by = "task"
    _check_by(runs, by)
    for task in sorted(tasks, key=_place):
        key = {"task": task} if table.split_by else {}
        _add_rows(table, tasks[task], by, key)
    names: dict[str, None] = {}
    for row in table.rows:
        names |= dict.fromkeys(row.key)
    table.names = list(names)
    table.note_spread("run")
    finished = finished_of(runs)
    if finished:
        table.note(ran_on(finished))
    return table


def _place(task: str) -> int:
    """A task's place in the list of options; those of plug-ins come last."""
    order = list(OPTIONS["task"])
    return order.index(task) if task in order else len(order)


def _check_by(runs: Sequence[Run], by: Sequence[str]) -> None:
    """DclipError for a setting that no run has."""
    unknown = set(by)
    for run in runs:
        unknown -= set(chosen_settings(run, by))
    if unknown:
        raise DclipError(
            f"by={','.join(sorted(unknown))}: no run has such a setting; "
            "e.g. by=sampler.t0,edit.name"
        )


def _check_columns(runs: Sequence[Run], columns: Sequence[str]) -> None:
    """DclipError for a column that is no metric, and that none of the finished runs has."""
    had = {name for run in runs for name in run.metrics} or METRICS
    for column in columns:
        there = find(column) or any(run.value(column) is not None for run in runs)
        need(bool(there), f"columns={column}: no run has it{choose(column, ordered(had))}")


def _add_rows(table: Table, runs: Sequence[Run], by: Sequence[str], key: Mapping[str, str]) -> None:
    """Add the rows of one task."""
    settings = []
    for run in runs:
        settings.append(chosen_settings(run, by) if by else settings_of(run))
    names = list(by) or telling(settings, task_of(runs[0]))
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, one in zip(runs, settings, strict=True):
        groups.setdefault(labels_of(one, names), []).append(run)
    titles, ends = short_names(names), shown(list(groups))
    for labels in sorted(groups, key=_order):
        mine = dict(zip(titles, map(short, labels, ends), strict=True)) or {"run": "all"}
        _add_row(table, {**key, **mine}, groups[labels])


def _add_row(table: Table, key: dict[str, str], runs: Sequence[Run]) -> None:
    """Add a row of runs that differ in nothing but what is averaged."""
    finished = distinct(finished_of(runs))
    row = Row(key, {}, seeds=len(finished))
    seeds = [[run] for run in finished]
    for column in table.columns:
        row.cells[column] = cell_of(seeds, column)
    if finished:
        row.n, row.origin = finished[0].images, origin_of(finished)
    else:
        row.state = runs[0].state
    table.rows.append(row)
    for run in runs:
        if run.state != "finished":
            reason = run.reason or "no reason is known"
            table.note(f"{row.label}: {run.folder.name} {run.state}: {reason}")


def _measured(runs: Sequence[Run]) -> list[str]:
    """The known metrics that some run has."""
    measured: set[str] = set()
    for run in runs:
        for name, value in run.metrics.items():
            if isinstance(value, int | float):
                measured.add(name)
    return ordered(measured)


def _order(labels: Sequence[str]) -> list[tuple[int, float, str]]:
    """Numbers by their size, then texts."""
    keys = []
    for label in labels:
        try:
            keys.append((0, float(label), ""))
        except ValueError:
            keys.append((1, 0.0, label))
    return keys


# ------------------------------------------------------------------------------------- page


def page(
    table: Table, groups: Sequence[Group], figures: Sequence[Path], said: Sequence[str] = ()
) -> str:
    """One self-contained HTML page: every run in a line, then the tables and the plots.

    Args:
        said: what the reader must know first.
    """
    return render(
        "runs.html",
        title=table.title,
        said=said,
        groups=groups,
        parts=list(map(_part, tables_of(table))),
        notes=table.notes,
        plots=[picture_of(path) for path in figures],
    )


def tables_of(table: Table) -> list[Table]:
    """The table's parts, where it has some, or the table."""
    if not table.split_by:
        return [table]
    return [part for _, part in parts(table)]


def _part(table: Table) -> dict[str, object]:
    """What the page shows of one table."""
    return {"title": table.title, "header": header_line(table), "lines": lines(table)}


def _write_figures(table: Table, folder: Path) -> list[Path]:
    """A figure a task, where it can be read; returns the files."""
    paths = []
    for part in tables_of(table):
        name = f"figure_{part.title}" if table.split_by else "figure"
        (folder / f"{name}.png").unlink(missing_ok=True)
        if readable(part):
            write_figure(part, folder, name=name)
            paths.append(folder / f"{name}.png")
    return paths


# ---------------------------------------------------------------------------------- command


def main(words: Sequence[str]) -> int:
    """Write the report; the exit code.

    ``runs=RUN[,RUN] [sweep=ID] [by=SETTING,...] [columns=METRIC,...] [output=DIR]``
    """
    args = parse_words(words, ARGUMENTS, "task=report")
    if "runs" not in args:
        raise DclipError(
            "task=report needs runs=RUN[,RUN]: run folders, folders that hold runs (outputs), "
            "patterns (outputs/finetune_*), or names of edits (red_hair)"
        )
    sweep = args.get("sweep")
    found = runs_at(places_of(args["runs"]))
    runs = chosen(found, sweep)
    if not runs:
        sweeps = sorted({run.sweep for run in found} - {""})
        raise DclipError(
            f"sweep={sweep} has no runs there; there are: "
            f"{', '.join(sweeps) or 'runs without a sweep'}"
        )
    columns = _listed(args, "columns")
    _check_columns(finished_of(runs), columns)
    table = table_of(runs, _listed(args, "by"), columns)
    table.title = f"{sweep or 'Report'}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    folder = Path(args.get("output", f"outputs/report/{sweep or 'all'}"))
    write_texts(table, folder)
    groups = groups_of(runs, folder, columns)
    pairs = write_pairs(groups, folder)
    said = remarks(groups, pairs)
    text = page(table, groups, _write_figures(table, folder), said)
    write_text(folder / "report.html", text)
    for line in (markdown(table), *said):
        print(line)
    compared = "1 comparison" if pairs == 1 else f"{pairs} comparisons"
    print(f"written to {folder}: open {folder / 'report.html'} ({compared} of two runs)")
    return 0


def _listed(args: Mapping[str, str], name: str) -> list[str]:
    return list(filter(None, args.get(name, "").split(",")))
