"""``dclip benchmark export | score``: ToonFaces-CF for anybody's method, from the command line.

Imports torch only once the command is understood.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.cli.arguments import Arguments
from dclip.errors import DclipError, counted
from dclip.metrics.benchmark.tasks import FACES, NAME, TEXTS, VERSION, tasks_named

if TYPE_CHECKING:
    from dclip.metrics.benchmark.score import Measures, ScoredResults, TaskScores

EPILOG = """\
export DIR writes EDIT/source/ID.png, EDIT/mask/ID.png and manifest.json with the texts. Edit the
sources, write the results as RESULTS/EDIT/ID.png, and score RESULTS draws the true pictures and
scores them. docs/benchmark.md has the protocol and what else RESULTS may hold. Exit code of score:
0 everything that is there was scored; 1 something was left out (missing, surplus, misnamed,
resized or broken files: listed); 2 nothing can be scored."""

SHOWN = 20  # troubles on the console


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = build_parser().parse_args(words)
    if not 1 <= args.faces <= FACES:
        raise DclipError(f"--faces {args.faces} is impossible; choose 1 to {FACES}")
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def build_parser() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = Arguments(
        "dclip benchmark",
        description=f"{NAME} {VERSION}: edits of faces whose true pictures are known.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="export | score")
    export = commands.add_parser("export", help="write sources, texts and masks for any method")
    export.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    _add_part(export)
    export.set_defaults(run=_export)
    score = commands.add_parser("score", help="score what a method made of them")
    score.add_argument("folder", type=Path, metavar="RESULTS", help="a folder of results")
    _add_part(score)
    score.add_argument("--output", type=Path, metavar="DIR", help="default: outputs/benchmark/NAME")
    board = "a folder with a leaderboard (experiments/benchmark, or a new one) that gets a line"
    score.add_argument("--leaderboard", type=Path, metavar="DIR", help=board)
    draws = "draws behind the intervals; 0 leaves them out"
    score.add_argument("--bootstrap", type=int, default=1000, metavar="N", help=draws)
    score.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    score.set_defaults(run=_score)
    return parser


def _add_part(parser: argparse.ArgumentParser) -> None:
    """How much of the benchmark."""
    names = ", ".join(TEXTS)
    parser.add_argument(
        "--edits", nargs="+", default=[], metavar="EDIT", help=f"only these of: {names}"
    )
    faces = f"only the first N faces of every edit (1 to {FACES})"
    parser.add_argument("--faces", type=int, default=FACES, metavar="N", help=faces)


# --------------------------------------------------------------------------------- the commands


def _export(args: argparse.Namespace) -> int:
    from dclip.metrics.benchmark.export import export, scoring

    tasks = tasks_named(args.edits)
    manifest = export(args.folder, tasks, args.faces)
    pairs = sum(task.is_pair for task in tasks)
    print(
        f"{NAME} {VERSION}: {counted(len(tasks) - pairs, 'edit')} and "
        f"{counted(pairs, 'pair')} of edits, {counted(manifest['faces'], 'face')} each, "
        f"in {args.folder}\n"
        f"write the results as RESULTS/EDIT/ID.png, then: {scoring(tasks, args.faces)}"
    )
    return 0


def _score(args: argparse.Namespace) -> int:
    from dclip.cli.metrics import device_named
    from dclip.metrics.benchmark.results import read_results
    from dclip.metrics.benchmark.score import Measures, score
    from dclip.pages.benchmark import write_outcome

    if args.bootstrap < 0:
        raise DclipError(
            f"--bootstrap {args.bootstrap} is impossible; choose 0 (no intervals) or more"
        )
    tasks = tasks_named(args.edits)
    results = read_results(args.folder)
    measures = Measures.load(device_named(args.device))
    outcome = score(results, tasks, args.faces, args.bootstrap, measures)
    folder = args.output
    if folder is None:
        folder = Path("outputs") / "benchmark" / results.path.resolve().name
    page = write_outcome(folder, outcome)
    print(text_of(outcome))
    print(f"\n  written to {folder}; look at {page}")
    if args.leaderboard is not None:
        _add_line(args.leaderboard, outcome, measures)
    return 1 if results.troubles else 0


def _add_line(folder: Path, outcome: ScoredResults, measures: Measures) -> None:
    """Add a line for the results to a leaderboard."""
    from dclip.pages.leaderboard import add

    written = add(folder, outcome, measures)
    for line in written.said:
        print(f"  {line}")
    print(f"  added to {written.path}")


# --------------------------------------------------------------------------------- the console

SAID = ("truth_score", "closer", "judge_success", "judge_preservation", "edit_iou")


def text_of(outcome: ScoredResults) -> str:
    """The scores for the console, and what was left out."""
    from dclip.pages.benchmark import mean_named

    width = max(len(name) for name in [*TEXTS, "mean of one of the edits"])
    head = "".join(f"{name:>22}" for name in SAID)
    lines = [f"{NAME} {VERSION}: {outcome.results.name}", f"  {'':{width}} {head}   faces"]
    for one in outcome.tasks:
        lines.append(_line(one.task.name, one.values, width) + f"   {_count(one)}")
    for kind, values in (("edits", outcome.edits), ("pairs", outcome.pairs)):
        if values:
            lines.append(_line(mean_named(values, kind), values, width))
    if outcome.absent:
        lines.append(f"  no results for: {', '.join(outcome.absent)}")
    troubles = outcome.results.troubles
    if troubles:
        lines.append(f"  left out: {len(troubles)}")
        lines += [f"    {trouble}" for trouble in troubles[:SHOWN]]
    if len(troubles) > SHOWN:
        lines.append(f"    and {len(troubles) - SHOWN} more (summary.json)")
    return "\n".join(lines)


def _line(name: str, values: Mapping[str, float | str], width: int) -> str:
    cells = ""
    for column in SAID:
        cells += f"{_cell(column, values):>22}"
    return f"  {name:{width}} {cells}"


def _cell(column: str, values: Mapping[str, float | str]) -> str:
    if column not in values:
        return "–"
    low, high = values.get(f"{column}_low"), values.get(f"{column}_high")
    if low is None or high is None:
        return f"{values[column]:.3f}"
    return f"{values[column]:.3f} [{low:.2f}, {high:.2f}]"


def _count(one: TaskScores) -> str:
    return f"{one.count} of {one.expected}"
