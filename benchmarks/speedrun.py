"""``make demo`` from nothing, at several commits: how long, and how many faces come closer.

    python benchmarks/speedrun.py COMMIT [COMMIT ...]    # newest first; HEAD is the current line

Every commit runs its own code on its own default for ``experiment=toonfaces_red_hair
preset=quick``, in a checkout of its own with nothing cached, one after the other, with the
packages of this environment. Its seconds are those of the clock for the whole run (learning,
editing and measuring 20 test faces, the report), so run it on an idle machine. A face counts as
``closer`` when the edit is nearer to the true picture than the untouched face is: the judge's word
can be had by paint, this cannot.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, table
from dclip.files import write_json
from dclip.record.machine import environment

ROOT = Path(__file__).resolve().parent.parent
DEMO = ["experiment=toonfaces_red_hair", "preset=quick", "logger=csv"]
GOAL = 0.85  # of the faces come closer


def git(*words: str) -> str:
    """What git says in this checkout."""
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def demo(checkout: Path) -> Path:
    """Run a checkout's demo with nothing cached; the folder of its run."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "HF_HUB_OFFLINE": "1",
        "DCLIP_CACHE": str(checkout / "cache"),
    }
    log = checkout / "demo.log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "run.py", *DEMO],
            cwd=checkout,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        sys.exit(f"the demo failed in {checkout}:\n{log.read_text()[-2000:]}")
    return (checkout / "outputs" / "latest").resolve()


def line(commit: str, folder: Path) -> dict[str, Any]:
    """What a run took and reached."""
    status = json.loads((folder / "status.json").read_text())
    scores = json.loads((folder / "metrics.json").read_text())
    with (folder / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    distances = [(float(r["truth_distance"]), float(r["truth_distance_untouched"])) for r in rows]
    closer = sum(edited < untouched for edited, untouched in distances) / len(distances)
    return {
        "commit": commit,
        "date": git("show", "-s", "--format=%cs", commit),
        "seconds": status["seconds"],
        "learning": scores["seconds_adapt"],
        "closer": closer,
        "ratio": scores["counterfactual_ratio"],
        "judge": scores["judge_success"],
        "reached": "yes" if closer >= GOAL else "no",
        "what": git("show", "-s", "--format=%s", commit),
    }


def main() -> None:
    """Run the demo of every commit, print the table, write the JSON file."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("commits", nargs="+")
    args = parser.parse_args()
    commits = [git("rev-parse", "--short", commit) for commit in args.commits]
    lines = []
    for commit in commits:
        with tempfile.TemporaryDirectory() as parent:
            checkout = Path(parent) / commit
            git("worktree", "add", "--detach", str(checkout), commit)
            try:
                lines.append(line(commit, demo(checkout)))
            finally:
                git("worktree", "remove", "--force", str(checkout))
        print(table(lines[-1:]), flush=True)
    print(f"\n{table(lines)}")
    write_json(args.output, {"goal": GOAL, "lines": lines, "machine": environment()})


if __name__ == "__main__":
    main()
