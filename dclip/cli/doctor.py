"""``dclip doctor``: what this machine can run, how long it would take, what to fetch for it.

Every experiment is planned as ``plan=true`` plans it. Imports nothing heavy.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dclip.cli.arguments import Arguments
from dclip.cli.weights import table
from dclip.errors import DclipError, choose, need
from dclip.models import fetch, registry
from dclip.prepare import plan
from dclip.prepare.compose import configured
from dclip.prepare.paths import CONF
from dclip.runtime.durations import duration

OLDEST_PYTHON = (3, 11)
DISK_GB = 2.0  # free where runs are written, for a few runs and their checkpoints
MEMORY_GB = 4.0  # for the cartoon domain


def main(words: Sequence[str]) -> int:
    """Print the machine and a line for each experiment; 1 if the machine itself lacks something."""
    parser = Arguments("dclip doctor", description=__doc__)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all")
    args = parser.parse_args(words)
    known = experiments()
    for name in args.experiments:
        need(name in known, f"experiment {name} does not exist{choose(name, known)}")
    troubles = list(machine(Path("outputs")))
    for line in troubles or ["the machine has what dclip needs"]:
        print(line)
    print(f"device: {plan.device_of(configured([])).name}\n")
    rows: list[tuple[str, ...]] = [("EXPERIMENT", "RUNS HERE", "TIME", "WHAT IS MISSING")]
    for name in args.experiments or known:
        *row, missing = diagnosis(name)
        rows.append((*row, missing if args.experiments else _shortened(missing)))
    print(table(rows))
    print("\nmore of one: dclip doctor NAME, or dclip experiment=NAME plan=true")
    return int(bool(troubles))


def experiments() -> list[str]:
    """Names of all experiments."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def machine(output: Path) -> list[str]:
    """What is wrong with the machine, with its remedy; empty if nothing is."""
    troubles = []
    if sys.version_info < OLDEST_PYTHON:
        troubles.append("Python is older than 3.11; make a new environment with a newer one")
    memory = plan.memory_gb()
    if memory is not None and memory < MEMORY_GB:
        troubles.append(f"memory: {memory:.1f} GB; the cartoon domain needs {MEMORY_GB:.0f}")
    folder = _existing(output)
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        troubles.append(f"disk: {free:.1f} GB free for {output}; make room, or set output=FOLDER")
    if not os.access(folder, os.W_OK):
        troubles.append(f"{folder} is read-only; set output=FOLDER")
    home = registry.home()
    if not os.access(_existing(home), os.W_OK):
        troubles.append(f"{home} is read-only, no weights can be kept; set DCLIP_WEIGHTS")
    return troubles


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    whole = path.absolute()
    for folder in (whole, *whole.parents):
        if folder.is_dir():
            return folder
    return whole


def _shortened(missing: str) -> str:
    """What comes first; all of it is said of an experiment that is asked for."""
    first, more, _ = missing.partition("; ")
    return f"{first}; ..." if more else first


def diagnosis(name: str) -> tuple[str, str, str, str]:
    """One line: the experiment, whether it runs here, how long, what is missing."""
    try:
        contents = plan.plan(configured([f"experiment={name}"]))
    except DclipError as error:
        return name, "no", "-", str(error)
    missing = [*contents["data"], *_to_fetch(contents)]
    blocked = bool(contents["data"])
    if contents["fetch"] and fetch.offline_reason() is not None:
        missing.append(f"nothing may be fetched ({fetch.offline_reason()})")
        blocked = True
    if _too_large(contents):
        missing.append(f"{contents['memory_mb']['counted'] / 1e3:.1f} GB of memory")
        blocked = True
    return name, _verdict(blocked, missing), _time(contents), "; ".join(missing) or "nothing"


def _to_fetch(contents: dict[str, Any]) -> list[str]:
    if not contents["fetch"]:
        return []
    names = " ".join(item["name"] for item in contents["fetch"])
    return [f"{contents['fetch_mb']:,.0f} MB of weights: dclip weights fetch {names}"]


def _too_large(contents: dict[str, Any]) -> bool:
    memory, has = contents["memory_mb"], contents["device"]["memory_gb"]
    return bool(memory and has) and memory["counted"] / 1e3 > has


def _verdict(blocked: bool, missing: Sequence[str]) -> str:
    if blocked:
        return "no"
    return "after fetching" if missing else "yes"


def _time(contents: dict[str, Any]) -> str:
    if not contents["seconds"]:
        return "unknown"
    return duration(sum(contents["seconds"].values()))
