"""How long until something happens: imports, a run's start, help, a plan, a refusal.

Each in a process of its own, in turns.

    python benchmarks/startup.py [--repeats 3]

CPU time of the process (user and system) counts, the best of the repeats; the clock beside it is
what one waits on this machine. ``heavy`` says whether torch was imported.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, table
from dclip.files import write_json
from dclip.record.machine import environment

ROOT = Path(__file__).resolve().parent.parent
PLAN = ["run.py", "experiment=toonfaces_red_hair", "task=plan"]
FIRST_CALL = """
import os, sys
from dclip.cli.command import main
from dclip.models.unet import DiffusionModel
DiffusionModel.predict = lambda *_: os._exit(0)
few = ["dataset.train=4", "dataset.validation=2", "dataset.test=4"]
sys.argv = ["run.py", "experiment=toonfaces_red_hair", *few, "trainer.cache=false", "logger=csv"]
main()
"""
COMMANDS: dict[str, list[str]] = {
    "python alone": ["-c", "pass"],
    "import dclip": ["-c", "import dclip"],
    "import torch": ["-c", "import torch"],
    "import dclip.pipeline": ["-c", "import dclip.pipeline"],
    "dclip.load_model('toonfaces')": ["-c", "import dclip; dclip.load_model('toonfaces')"],
    "a run, to its first network call": ["-c", FIRST_CALL],
    "run.py --help": ["run.py", "--help"],
    "run.py experiment=... task=plan": PLAN,
    "run.py with a typo, refused": ["run.py", "experiment=toonfaces_red_hair", "sampler.t0=2000"],
}
GOAL = {  # seconds
    "a run, to its first network call": 3.0,
    "run.py --help": 1.0,
    "run.py experiment=... task=plan": 1.0,
    "run.py with a typo, refused": 1.0,
}


REFUSED = 2  # what run.py ends with where a setting is wrong


def once(words: list[str], folder: str) -> tuple[float, float]:
    """(CPU seconds, seconds on the clock) of one process, started in ``folder``."""
    before, clock = os.times(), time.perf_counter()
    _python(words, folder)
    after = os.times()
    user = after.children_user - before.children_user
    system = after.children_system - before.children_system
    return user + system, time.perf_counter() - clock


def _python(words: list[str], folder: str) -> str:
    """Run Python in ``folder``; what it wrote to stderr. ``run.py`` is this checkout's."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else dclip is compiled anew every time
    command = [sys.executable]
    for word in words:
        command.append(str(ROOT / word) if word == "run.py" else word)
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, REFUSED):
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stderr


def heavy(words: list[str], folder: str) -> bool:
    """Whether a process imports torch: asked of Python's own list of imports."""
    imports = _python(["-X", "importtime", *words], folder)
    return any(line.split("|")[-1].strip() == "torch" for line in imports.splitlines())


def measure(repeats: int) -> list[dict[str, Any]]:
    """One line a command."""
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, words in COMMANDS.items():  # this warms the file cache, too
            imports = heavy(words, folder)
            both = dict.fromkeys(("cpu_seconds", "seconds"), math.inf)
            lines.append({"command": name, **both, "heavy": imports, "goal": GOAL.get(name, "-")})
        for _ in range(repeats):
            for line in lines:
                cpu, clock = once(COMMANDS[line["command"]], folder)
                line["cpu_seconds"] = min(cpu, line["cpu_seconds"])
                line["seconds"] = min(clock, line["seconds"])
    return lines


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args(words)
    lines = measure(args.repeats)
    print(table(lines))
    write_json(args.output, {"repeats": args.repeats, "lines": lines, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
