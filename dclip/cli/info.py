"""``dclip info``: one block to paste into a bug report. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from dclip import __version__
from dclip.cli.arguments import Arguments
from dclip.models import fetch, registry
from dclip.prepare.plan import gpu, memory_gb
from dclip.record.machine import git_revision, versions
from dclip.record.runs import Run, find_runs

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "DCLIP_CACHE",
    "DCLIP_MIRROR",
    "DCLIP_OFFLINE",
    "DCLIP_WEIGHTS",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "WANDB_MODE",
)
"""What changes how dclip behaves; none of them holds a secret."""

FAILED = ("failed", "killed")


def main(words: Sequence[str]) -> int:
    """Print the block; returns the exit code."""
    parser = Arguments("dclip info", description="A block for a bug report.")
    parser.add_argument("--output", default="outputs", help="where runs are (default: outputs)")
    args = parser.parse_args(words)
    for name, value in lines(Path(args.output)):
        print(f"{name + ':':12} {value}")
    return 0


def lines(output: Path) -> Iterator[tuple[str, str]]:
    """What is said, by its name."""
    revision = git_revision()
    yield "dclip", f"{__version__} ({revision})" if revision else __version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in versions().items())
    yield "processor", f"{os.cpu_count()} cores, {_gigabytes(memory_gb())} of memory"
    yield "gpu", _card()
    yield "variables", _variables()
    yield "network", fetch.offline_reason() or "may be used"
    yield "weights", ", ".join(_weights()) or "none but those of the package"
    yield "last error", last_error(output)


def _gigabytes(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.1f} GB"


def _card() -> str:
    card = gpu()
    if card is None:
        return "no NVIDIA GPU was found"
    name, memory = card
    return f"{name}, {_gigabytes(memory)}"


def _variables() -> str:
    found = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return ", ".join(found) or "none set"


def _weights() -> list[str]:
    """Published weights that are here."""
    fetched = [entry for entry in registry.TABLE.values() if not entry.shipped]
    return [entry.name for entry in fetched if registry.located(entry)]


def last_error(output: Path) -> str:
    """The newest run that did not finish, why, and its command."""
    runs = [run for run in find_runs([output]) if run.state in FAILED] if output.is_dir() else []
    if not runs:
        return f"no failed run below {output}"
    run: Run = max(runs, key=lambda one: one.folder.name)
    words = " ".join(run.command) or "not kept"
    return f"{run.folder.name} {run.state}: {run.reason} (settings: {words})"
