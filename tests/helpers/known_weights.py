"""Runs on photographs with known networks."""

import ast
import re
import subprocess
import sys

FEW = ("dataset.train=4", "dataset.validation=2", "dataset.test=4")


def published(folder, *more):
    """Settings of a run on photographs with known weights."""
    return [
        "dataset=folder",
        f"dataset.root={folder}",
        "checkpoint=celeba_hq",
        "clip=openai_vit_b_16",
        *FEW,
        *more,
    ]


PROGRAM = """
import sys
sys.argv = ["run.py", *sys.argv[1:]]
from dclip.cli import command as cli
code = 0
try:
    cli.main()
except SystemExit as stop:
    code = stop.code or 0
heavy = {"torch", "torchvision", "torchmetrics", "lightning", "diffusers", "open_clip", "scipy",
         "matplotlib", "wandb"}
print("code", code, "heavy", sorted(set(sys.modules) & heavy))
"""


def in_a_process(*given):
    """A command line in a process: what it printed, its exit code, the heavy modules it imported.

    Without these an answer takes about a second, which a busy machine cannot measure.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, heavy = re.search(r"code (\d+) heavy (\[.*\])", done.stdout).groups()
    return done, int(code), ast.literal_eval(heavy)
