"""``python run.py task=report runs=DIR,DIR``: any set of runs as one table, one plot and one page of pictures.

Runs are told apart by their configuration: rows are the settings that differ, cells means over seeds. Of several runs of one
configuration the newest finished one counts. What did not finish is a row too, with its reason.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dclip.errors import DclipError
from dclip.files import atomic_save
from dclip.prepare.words import told
from dclip.record.identity import NOT_IDENTITY
from dclip.record.runs import Run, by_config, runs_at

MINE = ("runs", "sweep", "by", "columns", "output")


ASIDE = (*NOT_IDENTITY, "seed", "name", "trainer", "offline")  # settings that make no row


FIRST = (
    "task.name",
    "edit.name",
    "sampler.t0",
    "sampler.s_for",
    "sampler.s_gen",
    "method.objective",
)  # where several would do


def settings_of(run: Run) -> dict[str, str]:
    """The settings of a run that can make a difference, by dotted name."""
    flat: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                if path or key not in ASIDE:
                    walk(value, f"{path}.{key}".lstrip("."))
        else:
            flat[path] = str(node)

    walk(run.config, "")
    return flat


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """As few names of settings as tell these apart: a setting that only follows another is left out."""
    names = dict.fromkeys([*FIRST, *(name for one in settings for name in one)])
    kept: list[str] = []
    groups = 1
    for name in names:
        found = len({tuple(one.get(key, "-") for key in [*kept, name]) for one in settings})
        if found > groups:
            kept, groups = [*kept, name], found
    return kept


def chosen(runs: Iterable[Run], sweep: str | None) -> list[Run]:
    """One run a configuration, of one study or sweep if that is given."""
    mine = [
        run for run in runs if sweep in (None, run.sweep) and (run.folder / "config.yaml").is_file()
    ]
    best = list(by_config(mine).values())
    return [*best, *(run for run in mine if not run.digest)]


def table_of(
    runs: Sequence[Run], by: Sequence[str] = (), columns: Sequence[str] = ()
) -> tuple[Any, dict[str, Run]]:
    """The table of runs, and the first finished run of every row by the row's label."""
    from dclip.metrics.names import HIGHER_IS_BETTER
    from dclip.study.tables import Row, Table, cell_of, ran_on

    every = [settings_of(run) for run in runs]
    if by:
        every = [
            {name: str(found) for name in by if (found := run.setting(name)) is not None}
            for run in runs
        ]
    names = list(by) or differing(every)
    unknown = [name for name in names if not any(name in one for one in every)]
    if unknown:
        raise DclipError(
            f"by={','.join(unknown)}: no run has such a setting; e.g. by=sampler.t0,edit.name"
        )
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, settings in zip(runs, every, strict=True):
        groups.setdefault(tuple(settings.get(name, "-") for name in names), []).append(run)
    measured = {
        name
        for run in runs
        for name, value in run.metrics.items()
        if isinstance(value, int | float)
    }
    shown = list(columns) or [name for name in HIGHER_IS_BETTER if name in measured]
    short = [name.rsplit(".", 1)[-1] for name in names]
    titles = [
        name if short.count(last) > 1 else last for name, last in zip(names, short, strict=True)
    ]
    table, pictured = Table("", titles or ["run"], shown, []), {}
    for key, members in sorted(groups.items(), key=lambda group: tuple(map(_order, group[0]))):
        done = [run for run in members if run.state == "finished"]
        label = " ".join(f"{k}={v}" for k, v in zip(titles, key, strict=True)) or "all"
        cells = {column: cell_of([[run] for run in done], column) for column in shown}
        state = "" if done else members[0].state
        named = dict(zip(titles, key, strict=True)) or {"run": "all"}
        table.rows.append(Row(named, cells, done[0].images if done else 0, len(done), state))
        table.notes += [
            f"{label}: {run.folder.name} {run.state}: {run.reason or 'no reason is known'}"
            for run in members
            if run not in done
        ]
        if done:
            pictured[label] = done[0]
    table.by_seeds = any(row.seeds > 1 for row in table.rows)
    spreads = [
        cell.std for row in table.rows for cell in row.cells.values() if cell.std is not None
    ]
    if spreads:
        table.notes.append(
            f"±: standard deviation over {'seeds' if table.by_seeds else 'images'}; n: images of one run"
        )
    finished = [run for run in runs if run.state == "finished"]
    table.notes += [ran_on(finished)] if finished else []
    return table, pictured


def _order(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), "")
    except ValueError:
        return (1, 0.0, label)


def page(table: Any, pictured: Mapping[str, Run], figure: Path) -> str:
    """One self-contained HTML page: the table, the plot, every row's pictures."""
    from dclip.pages.report import CSS, embedded
    from dclip.study.tables import heads, lines

    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>"
        for line in lines(table)
    )
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads(table))
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(table.title)}</title><style>{CSS}</style>",
        f"<h1>{html.escape(table.title)}</h1><table><tr>{head}</tr>{body}</table>",
        "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in table.notes) + "</ul>",
        embedded(figure) if figure.is_file() else "",
    ]
    for label, run in pictured.items():
        picture = run.folder / "samples" / "before_after.png"
        where = f"<p class=sub>{html.escape(str(run.folder))}</p>"
        parts.append(
            f"<h2>{html.escape(label)}</h2>{embedded(picture) if picture.is_file() else ''}{where}"
        )
    return "\n".join(parts)


def main(words: Sequence[str]) -> int:
    """``runs=DIR[,DIR] [sweep=ID] [by=SETTING,...] [columns=METRIC,...] [output=DIR]``; the exit code."""
    asked = told(words, MINE, "task=report")
    if "runs" not in asked:
        raise DclipError(
            "task=report needs runs=DIR[,DIR]: run folders, or folders that hold runs, such as outputs"
        )
    runs = chosen(runs_at(asked["runs"].split(",")), asked.get("sweep"))
    if not runs:
        sweeps = sorted({run.sweep for run in runs_at(asked["runs"].split(",")) if run.sweep})
        raise DclipError(
            f"sweep={asked.get('sweep')} has no runs there; there are: {', '.join(sweeps) or 'runs without a sweep'}"
        )
    from dclip.study.tables import markdown, write_files

    split = {
        name: [part for part in asked.get(name, "").split(",") if part]
        for name in ("by", "columns")
    }
    table, pictured = table_of(runs, split["by"], split["columns"])
    table.title = f"{asked.get('sweep') or 'Report'}: {len(runs)} runs"
    folder = Path(asked.get("output", f"outputs/report/{asked.get('sweep') or 'all'}"))
    write_files(table, folder)
    atomic_save(
        folder / "report.html",
        lambda p: p.write_text(page(table, pictured, folder / "figure.png"), "utf-8"),
    )
    print(f"{markdown(table)}\nwritten to {folder}")
    return 0
