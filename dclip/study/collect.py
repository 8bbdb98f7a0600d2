"""``python run.py task=report runs=DIR,DIR``: any set of runs as a table a task and one page.

Runs are told apart by their configuration: rows are the settings that differ, cells means over
seeds. Of several runs of one configuration the newest finished one counts. What did not finish is a
row too, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dclip.config import OPTIONS, Task
from dclip.errors import DclipError
from dclip.files import atomic_save
from dclip.pages.render import Picture, picture_of, render
from dclip.prepare.words import parse_words, paths_in
from dclip.record.identity import NOT_IDENTITY
from dclip.record.runs import Run, by_config, runs_at
from dclip.study.figures import readable, write_figure
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

# settings that make no row
ASIDE = (*NOT_IDENTITY, "seed", "name", "trainer", "offline")

# of settings that tell the same runs apart, these come first
FIRST = (
    "task.name",
    "edit.name",
    "sampler.t0",
    "sampler.s_for",
    "sampler.s_gen",
    "method.objective",
)

Settings = dict[str, str]  # of a run: dotted name -> value


# ------------------------------------------------------------------------------------- rows


def settings_of(run: Run) -> Settings:
    """The settings of a run that can make a difference, by dotted name."""
    settings: Settings = {}
    for group, node in run.config.items():
        if group not in ASIDE:
            settings.update(_flat(node, group))
    return {name: value for name, value in settings.items() if _matters(name, run)}


def _matters(name: str, run: Run) -> bool:
    """Whether a run depends on a setting. Its edit is idle where its task looks at none."""
    if not name.startswith("edit."):
        return True
    if name == "edit.target" and run.setting("guidance.kind") not in (None, "none"):
        return run.setting("guidance.targets") is None
    return _named_by_edit(task_of(run))


def task_of(run: Run) -> str:
    """The name of a run's task."""
    return str(run.setting("task.name") or "run")


def _named_by_edit(task: str) -> bool:
    option = OPTIONS["task"].get(task)
    return option is None or not issubclass(option, Task) or option.named_by_edit


def _flat(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}")
    else:
        yield path, str(node)


def chosen_settings(run: Run, by: Sequence[str]) -> Settings:
    """The settings of a run that ``by`` names."""
    settings: Settings = {}
    for name in by:
        value = run.setting(name)
        if value is not None:
            settings[name] = str(value)
    return settings


def labels_of(settings: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    """The values of some settings; ``-`` for those that a run does not have."""
    return tuple(settings.get(name, "-") for name in names)


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """As few settings as tell these apart: one that only follows another is left out."""
    names = dict.fromkeys(FIRST)
    for one in settings:
        names |= dict.fromkeys(one)
    kept: list[str] = []
    groups = 1
    for name in names:
        keys = {labels_of(one, [*kept, name]) for one in settings}
        if len(keys) > groups:
            kept.append(name)
            groups = len(keys)
    return kept


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


def table_of(
    runs: Sequence[Run], by: Sequence[str] = (), columns: Sequence[str] = ()
) -> tuple[Table, dict[str, Run]]:
    """The table of runs, and the first finished run of every row by the row's label.

    Runs of several tasks make a part each, with the settings that tell them apart.
    """
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(task_of(run), []).append(run)
    table = Table("", [], list(columns) or _measured(runs), [], lead=LEAD)
    if len(tasks) > 1:
        table.split_by = "task"
    _check_by(runs, by)
    pictured: dict[str, Run] = {}
    for task in sorted(tasks, key=_place):
        key = {"task": task} if table.split_by else {}
        pictured |= _add_rows(table, tasks[task], by, key)
    names: dict[str, None] = {}
    for row in table.rows:
        names |= dict.fromkeys(row.key)
    table.names = list(names)
    table.note_spread("run")
    finished = finished_of(runs)
    if finished:
        table.note(ran_on(finished))
    return table, pictured


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


def _add_rows(
    table: Table, runs: Sequence[Run], by: Sequence[str], key: Mapping[str, str]
) -> dict[str, Run]:
    """Add the rows of one task; returns the first finished run of each by the row's label."""
    settings = []
    for run in runs:
        settings.append(chosen_settings(run, by) if by else settings_of(run))
    names = list(by) or _telling(settings, task_of(runs[0]))
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, one in zip(runs, settings, strict=True):
        groups.setdefault(labels_of(one, names), []).append(run)
    titles, shown = short_names(names), _shown(list(groups))
    pictured: dict[str, Run] = {}
    for labels in sorted(groups, key=_order):
        mine = dict(zip(titles, map(_short, labels, shown), strict=True)) or {"run": "all"}
        row = _row(table, {**key, **mine}, groups[labels])
        finished = finished_of(groups[labels])
        if finished:
            pictured[row.label or "all"] = finished[0]
    return pictured


def _telling(settings: Sequence[Settings], task: str) -> list[str]:
    """The settings that tell runs of one task apart; of tasks that have an edit, that first."""
    names = differing(settings)
    if _named_by_edit(task) and "edit.name" not in names:
        names.insert(0, "edit.name")
    return names


Tails = Mapping[str, str]  # a label -> what is shown of it


def _short(label: str, tails: Tails) -> str:
    return tails.get(label, label)


def _shown(groups: Sequence[tuple[str, ...]]) -> list[Tails]:
    """What is shown of every label, by its place: of paths, the ends in which they differ."""
    if not groups:
        return []
    return [tails(set(column)) for column in zip(*groups, strict=True)]


def tails(labels: set[str]) -> Tails:
    """Paths -> the shortest ends that tell them apart; long texts -> their beginnings."""
    paths = sorted(label for label in labels if "/" in label)
    most = max((label.count("/") for label in paths), default=0)
    for length in range(1, most + 2):
        short = {path: _tail(path, length) for path in paths}
        if len(set(short.values())) == len(paths):
            return short
    return {}


def _tail(path: str, length: int) -> str:
    parts = path.strip("[]'").removesuffix("/adapter.safetensors").split("/")
    return "/".join(parts[-length:])


def _row(table: Table, key: dict[str, str], runs: Sequence[Run]) -> Row:
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
    return row


def _measured(runs: Sequence[Run]) -> list[str]:
    """The known metrics that some run has."""
    from dclip.metrics.names import ordered

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


def page(table: Table, pictured: Mapping[str, Run], figures: Sequence[Path]) -> str:
    """One self-contained HTML page: the tables, the plots, every row's pictures."""
    return render(
        "study.html",
        title=table.title,
        parts=list(map(_part, tables_of(table))),
        notes=table.notes,
        plots=list(filter(None, map(_picture, figures))),
        runs=list(map(_section, pictured, pictured.values())),
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


def _section(label: str, run: Run) -> dict[str, object]:
    """What the page shows below the table of one row."""
    picture = _picture(run.folder / "samples" / "before_after.png")
    return {"label": label, "folder": run.folder, "picture": picture}


def _picture(path: Path) -> Picture | None:
    return picture_of(path) if path.is_file() else None


# ---------------------------------------------------------------------------------- command


def main(words: Sequence[str]) -> int:
    """Write the report; the exit code.

    ``runs=DIR[,DIR] [sweep=ID] [by=SETTING,...] [columns=METRIC,...] [output=DIR]``
    """
    args = parse_words(words, ARGUMENTS, "task=report")
    if "runs" not in args:
        raise DclipError(
            "task=report needs runs=DIR[,DIR]: run folders, or folders that hold runs, "
            "such as outputs"
        )
    sweep = args.get("sweep")
    found = runs_at(paths_in(args["runs"]))
    runs = chosen(found, sweep)
    if not runs:
        sweeps = sorted({run.sweep for run in found} - {""})
        raise DclipError(
            f"sweep={sweep} has no runs there; there are: "
            f"{', '.join(sweeps) or 'runs without a sweep'}"
        )
    table, pictured = table_of(runs, _listed(args, "by"), _listed(args, "columns"))
    table.title = f"{sweep or 'Report'}: {len(runs)} runs"
    folder = Path(args.get("output", f"outputs/report/{sweep or 'all'}"))
    write_texts(table, folder)
    text = page(table, pictured, _write_figures(table, folder))
    atomic_save(folder / "report.html", lambda p: p.write_text(text, "utf-8"))
    print(f"{markdown(table)}\nwritten to {folder}")
    return 0


def _listed(args: Mapping[str, str], name: str) -> list[str]:
    return list(filter(None, args.get(name, "").split(",")))
