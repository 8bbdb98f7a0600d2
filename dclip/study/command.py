"""``study=NAME`` on the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from dclip.errors import DclipError
from dclip.study import grid, search
from dclip.study.grid import Board, read_study, run_study
from dclip.study.jobs import Place, document, number, stoppable, yes
from dclip.study.search import Trials, check, command, read_search, search_on


def _search(told: Mapping[str, str], more: Sequence[str]) -> int:
    """``study=tune_NAME [trials=N] [workers=N] [dry_run=true] [collect=true] [output=DIR] [setting=value ...]``; the exit code."""
    if "seeds" in told:
        raise DclipError(
            f"seeds={told['seeds']} is for a grid; a search has one seed for all trials: seed=N"
        )
    found = read_search(
        told["study"], more, number("trials", told["trials"], 1) if "trials" in told else None
    )
    place = Place.of(found.name, told.get("output"), bool(more or "trials" in told))
    check(found)
    trials = Trials(found, place)
    if yes("dry_run", told):
        print(search.dry_run(trials))
        return 0
    if not yes("collect", told):
        with stoppable():
            search_on(
                trials,
                number("workers", told.get("workers", "1"), 1),
                lambda line: print(line, flush=True),
            )
    from dclip.study.search_table import write_table

    table = write_table(trials)
    print(f"\n{table.read_text('utf-8')}\nwritten to {place.table}")
    print(f"\n{command(trials)}" if trials.best else "\nno trial is finished yet")
    return 0 if trials.best else 1


def main(words: Sequence[str]) -> int:
    """``study=NAME [dry_run=true] [collect=true] [output=DIR] [workers=N] [seeds=0,1] [setting=value ...]``; the exit code."""
    told, more = _told(words)
    name = told["study"]
    for word in more:
        if "=" not in word or word.startswith(("+", "~", "-")):
            raise DclipError(
                f"{word}: with study= only settings can be given, as name=value; a study is a sweep by itself"
            )
    if "space" in document(name)[1]:
        return _search(told, more)
    if "trials" in told:
        raise DclipError(
            f"trials={told['trials']} is for a search (study=tune_...); {name} is a grid, which runs all its jobs"
        )
    seeds = (
        [number("seeds", seed, 0) for seed in told["seeds"].split(",")] if "seeds" in told else []
    )
    study = read_study(name, more, seeds)
    collecting = yes("collect", told) and not yes("dry_run", told)
    board = Board(study, Place.of(study.name, told.get("output"), bool(more or seeds)), collecting)
    if yes("dry_run", told):
        print(grid.dry_run(board))
        return 0
    if not collecting:
        with stoppable():
            run_study(
                board,
                number("workers", told.get("workers", "1"), 1),
                lambda line: print(line, flush=True),
            )
    from dclip.study.tables import write_table

    table = write_table(board)
    print(f"\n{table.read_text('utf-8')}\nwritten to {board.place.table}")
    failed = [task for task in board.unique() if task.state not in ("finished", "new")]
    for task in failed:
        print(f"{task.state}: {task.labels[0]}: {task.reason}", file=sys.stderr)
    if failed and not collecting:
        print("the same command runs what is missing or failed", file=sys.stderr)
        return 1
    return 0


def _told(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What is said to the study, and what is said to its jobs."""
    mine = ("study", "dry_run", "collect", "output", "workers", "seeds", "trials")
    told = {
        word.split("=")[0]: word.split("=", 1)[1]
        for word in words
        if word.split("=")[0] in mine and "=" in word
    }
    return told, [word for word in words if word.split("=")[0] not in mine]
