"""What the benchmarks share: arguments, clocks, ratios within rounds, and a table."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

K = TypeVar("K", bound=Hashable)
Round = TypeVar("Round")


def arguments(doc: str | None, script: str) -> argparse.ArgumentParser:
    """A parser with ``--output``; results go beside the script unless it says otherwise."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(script).with_suffix(".json"))
    return parser


def add_threads(parser: argparse.ArgumentParser) -> None:
    """``--threads``, for ``use_threads``."""
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")


def use_threads(args: argparse.Namespace) -> None:
    """Set torch's threads as ``--threads`` says."""
    if args.threads:
        torch.set_num_threads(args.threads)


def timed(run: Callable[[], None]) -> float:
    """Seconds of CPU time: what other processes do counts less than on the clock."""
    return both_times(run)[1]


def both_times(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - cpu


def in_rounds(
    runs: Mapping[K, Callable[[], None]], repeats: int
) -> list[dict[K, tuple[float, float]]]:
    """Both times of every run, which take turns. The first round warms up and does not count."""
    rounds = []
    for _ in range(repeats + 1):
        rounds.append({key: both_times(run) for key, run in runs.items()})
    return rounds[1:]


def median_of(rounds: Sequence[Round], value: Callable[[Round], float]) -> float:
    """The median of something over rounds, such as a ratio within each."""
    return statistics.median(map(value, rounds))


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    rows = ["| " + " | ".join(lines[0]) + " |", "|" + "---|" * len(lines[0])]
    for line in lines:
        rows.append("| " + " | ".join(map(_text, line.values())) + " |")
    return "\n".join(rows)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
