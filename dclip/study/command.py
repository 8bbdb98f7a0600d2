"""``study=NAME`` on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from dclip.errors import DclipError
from dclip.study import jobs_page, search
from dclip.study.cost import dry_run
from dclip.study.document import flag, number, read_document, split_args
from dclip.study.execute import run_study
from dclip.study.grid import Key, Study, choose_rows, read_study
from dclip.study.jobs import Folders
from dclip.study.leaderboard import check_faces, check_labels, write_leaderboard
from dclip.study.progress import Progress
from dclip.study.snapshot import has_changed
from dclip.study.sources import check_columns
from dclip.study.watch import Watch, watch_for

Args = Mapping[str, str]


def main(words: Sequence[str]) -> int:
    """Run a study or a search; the exit code.

    ``study=NAME [dry_run=true] [collect=true] [output=DIR] [workers=N] [fail_fast=N]
    [setting=value ...]``;
    of a grid also ``[seeds=0,1] [rows=LABEL,LABEL]``, of a search (``tune_NAME``) ``[trials=N]``.
    """
    args, settings = split_args(words)
    for word in settings:
        if word.startswith("plan="):
            raise DclipError(
                f"{word} is for one run; what a study would run and cost: dry_run=true"
            )
    if "space" in read_document(args["study"])[1]:
        return _search(args, settings)
    return _grid(args, settings)


def _say(line: str) -> None:
    print(line, flush=True)


def _say_where(folders: Folders, settings: Sequence[str], args: Args) -> None:
    """Say that a study with settings of one's own leaves the published table alone."""
    changes = [*settings]
    for name in ("seeds", "trials"):
        if name in args:
            changes.append(f"{name}={args[name]}")
    if changes and "output" not in args:
        _say(f"with {' '.join(changes)} the table goes to {folders.table}, not into experiments/")


def _workers(args: Args) -> int:
    return number("workers", args.get("workers", "1"), 1)


def _fail_fast(args: Args) -> int:
    return number("fail_fast", args["fail_fast"], 1) if "fail_fast" in args else 0


def _watch(folders: Folders, title: str, columns: Iterable[str]) -> Watch:
    """What shows the jobs while they run; says where the page is, and whether the code has changed."""
    if has_changed(folders.runs):
        _say(
            "the code has changed since this study was last run; what is finished stays as it is "
            f"(delete {folders.runs} to run all of it again)"
        )
    _say(f"page: {folders.runs / jobs_page.NAME}")
    return watch_for(jobs_page.page_of(folders.runs, title, columns))


def _grid(args: Args, settings: Sequence[str]) -> int:
    name = args["study"]
    if "trials" in args:
        raise DclipError(
            f"trials={args['trials']} is for a search (study=tune_...); "
            f"{name} is a grid, which runs all its jobs"
        )
    seeds = []
    for word in settings:
        if word.startswith("seed="):
            raise DclipError(f"{word} sets one job; a study takes {word.replace('=', 's=', 1)}")
    if "seeds" in args:
        seeds = [number("seeds", seed, 0) for seed in args["seeds"].split(",")]
    study = read_study(name, settings, seeds)
    rows = choose_rows(study, args["rows"]) if "rows" in args else None
    workers, fail_fast = _workers(args), _fail_fast(args)
    planning = flag("dry_run", args)
    collecting = flag("collect", args) and not planning
    if study.leaderboard:
        check_labels(study)
    folders = Folders.of(study.name, args.get("output"), bool(settings or seeds))
    _say_where(folders, settings, args)
    progress = Progress(study, folders, collecting)
    if not collecting:
        cfgs = [cfg for job in study.jobs if (cfg := progress.of(job).cfg) is not None]
        check_columns(study.columns, cfgs)
        if study.leaderboard:
            check_faces(study, cfgs)
    if planning:
        print(dry_run(progress, rows))
        return 0
    if not collecting:
        watch = _watch(folders, study.title, study.columns.values())
        run_study(progress, workers, watch, rows, fail_fast)
    return _collect(progress, study, rows, collecting)


def _collect(progress: Progress, study: Study, rows: set[Key] | None, collecting: bool) -> int:
    """Write and print the table; 1 if a job that was to run is not finished."""
    from dclip.study.study_table import write_table

    table = write_table(progress)
    print(f"\n{table.read_text('utf-8')}\nwritten to {progress.folders.table}")
    if study.leaderboard:
        _say_leaderboard(progress)
    if study.claims:
        _say_claims(progress)
    failed = [one for one in progress.unique(rows) if one.state not in ("finished", "new")]
    for planned in failed:
        print(f"{planned.state}: {planned.labels[0]}: {planned.reason}", file=sys.stderr)
    if not failed or collecting:
        return 0
    print("the same command runs what is missing or failed", file=sys.stderr)
    return 1


def _say_leaderboard(progress: Progress) -> None:
    board = write_leaderboard(progress)
    if board is not None:
        print(f"\n{board.path.read_text('utf-8')}\nwritten to {board.path.parent}")
        for line in board.said:
            print(line)


def _say_claims(progress: Progress) -> None:
    from dclip.study.claims_table import write_claims

    path = write_claims(progress)
    if path is not None:
        print(f"\n{path.read_text('utf-8')}\nwritten to {path.parent}")


def _search(args: Args, settings: Sequence[str]) -> int:
    for name in ("seeds", "rows"):
        if name in args:
            raise DclipError(
                f"{name}={args[name]} is for a grid; a search has one seed for all trials (seed=N) "
                "and no rows"
            )
    count = number("trials", args["trials"], 1) if "trials" in args else None
    wanted = search.read_search(args["study"], settings, count)
    workers, fail_fast = _workers(args), _fail_fast(args)
    search.check(wanted)
    from dclip.study import trials as running

    folders = Folders.of(wanted.name, args.get("output"), bool(settings or "trials" in args))
    _say_where(folders, settings, args)
    trials = running.Trials(wanted, folders)
    if flag("dry_run", args):
        print(running.dry_run(trials))
        return 0
    if not flag("collect", args):
        watch = _watch(folders, wanted.title, wanted.columns.values())
        running.run_search(trials, workers, watch, fail_fast)
    from dclip.study.search_table import write_table

    table = write_table(trials)
    print(f"\n{table.read_text('utf-8')}\nwritten to {folders.table}")
    if trials.best is None:
        print("\nno trial is finished yet")
        return 1
    print(f"\n{search.command(wanted, trials.best.params)}")
    return 0
