"""How long until something happens: imports, help, a plan, a refusal. Each in a process of its own, in turns.

    python benchmarks/startup.py [--repeats 3]

CPU time of the process (user and system) counts, the best of the repeats; the clock beside it is what one waits on this machine.
``heavy`` says whether torch was imported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dclip.files import write_json
from dclip.record.machine import environment

ROOT = Path(__file__).resolve().parent.parent
PLAN = ["run.py", "experiment=toonfaces_red_hair", "task=plan"]
COMMANDS: dict[str, list[str]] = {
    "python alone": ["-c", "pass"],
    "import dclip": ["-c", "import dclip"],
    "import torch": ["-c", "import torch"],
    "import dclip.pipeline": ["-c", "import dclip.pipeline"],
    "dclip.load_model('toonfaces')": ["-c", "import dclip; dclip.load_model('toonfaces')"],
    "run.py --help": ["run.py", "--help"],
    "run.py experiment=... task=plan": PLAN,
    "run.py with a typo, refused": ["run.py", "experiment=toonfaces_red_hair", "sampler.t0=2000"],
}
GOAL = {"run.py experiment=... task=plan": 3.0}  # seconds


def once(words: list[str], folder: str) -> tuple[float, float]:
    """(CPU seconds, seconds on the clock) of one process, started in ``folder``."""
    words = [str(ROOT / word) if word == "run.py" else word for word in words]
    before, clock = os.times(), time.perf_counter()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, *words], cwd=folder, env=environ, capture_output=True, check=False
    )
    after = os.times()
    used = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return used, time.perf_counter() - clock


def heavy(words: list[str], folder: str) -> bool:
    """Whether a process imports torch: asked of Python's own list of imports."""
    words = [str(ROOT / word) if word == "run.py" else word for word in words]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())


def measure(repeats: int) -> list[dict[str, Any]]:
    """One line a command."""
    with tempfile.TemporaryDirectory() as folder:
        imports = {
            name: heavy(words, folder) for name, words in COMMANDS.items()
        }  # warms the file cache, too
        rounds = [
            {name: once(words, folder) for name, words in COMMANDS.items()} for _ in range(repeats)
        ]
    return [
        {
            "command": name,
            "cpu_seconds": min(r[name][0] for r in rounds),
            "seconds": min(r[name][1] for r in rounds),
            "heavy": imports[name],
            "goal": GOAL.get(name, "-"),
        }
        for name in COMMANDS
    ]


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    told = parser.parse_args(words)
    lines = measure(told.repeats)
    from finetuning import table

    print(table(lines))
    write_json(told.output, {"repeats": told.repeats, "lines": lines, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
