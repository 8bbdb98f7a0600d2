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
import sys, time
sys.argv = ["run.py", *sys.argv[1:]]
from dclip.cli import command as cli
try:
    cli.main()
except SystemExit as stop:
    heavy = sorted(set(sys.modules) & {"torch", "lightning", "diffusers", "open_clip"})
    print("code", stop.code, "heavy", heavy, "cpu", time.process_time())
"""


def in_a_process(*given):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, heavy, cpu = re.search(r"code (\d+) heavy (\[.*\]) cpu ([\d.]+)", done.stdout).groups()
    return done, int(code), ast.literal_eval(heavy), float(cpu)
