"""The table of a study, as far as it has been run, beside the paper's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dclip.record.runs import NOT_MEASURED, Run
from dclip.runtime.typed import typed
from dclip.study.figures import write_figure
from dclip.study.grid import Job, Key, Study
from dclip.study.paper import PaperRow, paper_note, paper_rows, paper_tables
from dclip.study.progress import PlannedRun, Progress
from dclip.study.sheets import write_sheets
from dclip.study.sources import BASELINE
from dclip.study.tables import (
    Cell,
    Row,
    Table,
    cell_of,
    origin_of,
    ran_on,
    read_csv,
    write_texts,
)


def write_table(progress: Progress) -> Path:
    """Write a study's table, figure and pictures; returns the Markdown's path."""
    study, folders = progress.study, progress.folders
    table = study_table(progress)
    path = write_texts(table, folders.table)
    if study.figure is not None:
        write_figure(table, folders.table, study.figure)
    if study.pictures is not None:
        write_sheets(progress, study.pictures)
    return path


def study_table(progress: Progress) -> Table:
    """The table of a study.

    In experiments/, rows that have not been run again stay as an earlier table has them.
    """
    study = progress.study
    paper = paper_rows(study.paper) if study.paper else []
    table = Table(study.title, _names(study, paper), list(study.columns), [])
    table.split_by = study.split_by
    jobs: dict[Key, list[Job]] = {}
    for job in study.jobs:
        jobs.setdefault(job.row, []).append(job)
    for key, mine in jobs.items():
        table.rows.append(_row(progress, table, {**study.ours, **dict(key)}, mine))
    kept: list[Row] = []
    if progress.folders.published:
        kept = _keep_earlier(table, progress.folders.table / "table.csv")
    _add_ratios(table, study)
    _add_paper(table, paper)
    table.note_spread("seed")
    if study.paper and study.paper in paper_tables():
        table.note(paper_note(study.paper))
    _note_origins(progress, table, kept)
    return table


def _names(study: Study, paper: Sequence[PaperRow]) -> list[str]:
    """Names of all labels that rows have, ours and the paper's."""
    names = dict.fromkeys(study.ours)
    for printed in paper:
        names |= dict.fromkeys(printed.key)
    for key in study.rows:
        names |= dict.fromkeys(dict(key))
    return list(names)


def _row(progress: Progress, table: Table, key: dict[str, str], jobs: Sequence[Job]) -> Row:
    """One row from its runs; what is wrong with them goes into the table's notes."""
    row = Row(key, {})
    by_seed: dict[int, list[PlannedRun]] = {}
    for job in sorted(jobs, key=lambda job: job.seed):
        by_seed.setdefault(job.seed, []).append(progress.of(job))
    finished: list[list[Run]] = []
    failed: list[PlannedRun] = []
    counted: set[tuple[Path, ...]] = set()
    for seed, planned in by_seed.items():
        done = []
        for one in planned:
            if one.done:
                done.append(one.done)
            elif one.failed:
                failed.append(one)
        folders = tuple(run.folder for run in done)
        if len(done) == len(planned):
            if folders in counted:  # where nothing is random, seeds share their runs
                row.once = True
            else:
                finished.append(done)
            counted.add(folders)
        elif done:
            table.note(
                f"{row.label}, seed {seed}: only {len(done)} of the {len(planned)} runs "
                "that are averaged are finished"
            )
    for one in failed:
        table.note(f"{row.label}: {one.state}: {one.reason or 'no reason is known'}")
    for column, source in progress.study.columns.items():
        row.cells[column] = _cell(table, column, source, finished)
    if finished:
        row.seeds = len(finished)
        row.origin = origin_of(list(itertools.chain.from_iterable(finished)))
        for run in finished[0]:
            row.n += run.images
    elif failed:
        row.state = failed[0].state
    return row


def _cell(table: Table, column: str, source: str, seeds: Sequence[Sequence[Run]]) -> Cell:
    if not seeds or source.endswith(BASELINE):
        return Cell()
    cell = cell_of(seeds, source)
    reason = seeds[0][0].why_absent(source)
    # parts of a table have columns of their own
    if cell.value is None and not (table.split_by and reason == NOT_MEASURED):
        table.note(f"{column}: {reason}")
    return cell


def _keep_earlier(table: Table, path: Path) -> list[Row]:
    """Put back rows of an earlier table that were not run, or with fewer seeds; returns them."""
    earlier = {row.labels(table.names): row for row in read_csv(path, table)}
    kept = []
    for k, row in enumerate(table.rows):
        old = earlier.get(row.labels(table.names))
        if old and old.has_numbers and old.seeds > row.seeds and not (row.state or row.once):
            table.rows[k] = old
            kept.append(old)
    return kept


def _add_ratios(table: Table, study: Study) -> None:
    """Fill columns whose source is ``COLUMN / baseline``."""
    for column, source in study.columns.items():
        if not source.endswith(BASELINE):
            continue
        of = source.removesuffix(BASELINE).strip()
        rows = {row.labels(table.names): row for row in table.rows}
        for row in table.rows:
            key = Row({**row.key, **study.baseline}, {}).labels(table.names)
            if key in rows:
                row.cells[column] = _ratio(row.cells[of], rows[key].cells[of])


def _ratio(cell: Cell, base: Cell) -> Cell:
    if not isinstance(cell.value, float) or not isinstance(base.value, float) or not base.value:
        return Cell()
    return Cell(cell.value / base.value)


def _add_paper(table: Table, paper: Sequence[PaperRow]) -> None:
    """Put the paper's numbers beside ours, and its other rows below."""
    ours = list(table.rows)
    for printed in paper:
        rows = [row for row in ours if printed.is_of(row.key)]
        if not rows:
            rows = [Row(printed.key, dict.fromkeys(table.columns, Cell()))]
            table.rows += rows
        for row in rows:
            for column in table.columns:
                row.cells[column] = replace(row.cells[column], paper=printed.values.get(column))


def _note_origins(progress: Progress, table: Table, kept: Sequence[Row]) -> None:
    """Say which runs, of which machines and revisions, made the numbers, and by which command."""
    runs = [planned.done for planned in progress.unique() if planned.done]
    if runs:
        table.note(ran_on(runs))
    origins: dict[str, int] = {}
    for row in kept:
        origin = row.origin or "origin not recorded"
        origins[origin] = origins.get(origin, 0) + 1
    for origin, count in origins.items():
        table.note(f"{count} rows kept from an earlier table: {origin}")
    first = " ".join(progress.study.jobs[0].settings)
    command = typed(progress.study.words)
    table.note(f"command: {command}; first job: {first}")
