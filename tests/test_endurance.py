"""A fine-tuning that is killed at twenty random moments ends as one that nobody disturbed."""

import random
import time

import pytest
import torch
from safetensors.torch import load_file

from dclip.files import read_json
from helpers.processes import run_apart
from helpers.runs import words

KILLS = 20


def status_of(output):
    """The status of the only run below ``output``; None before there is one."""
    found = list(output.glob("*/*/status.json"))
    assert len(found) <= 1
    return read_json(found[0])["status"] if found else None


def edit_of(output):
    """The weights that the only run below ``output`` has learned."""
    [path] = output.glob("*/*/adapter.safetensors")
    return load_file(str(path))


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_weight(tiny, tmp_path):
    """They hit inversion, the writing of the cache, learning, checkpoints, scores and the report."""
    few = {"method.epochs": 6, "method.batch": 2, "dataset.train": 6, "trainer.threads": 1}
    settings = words({**tiny, **few}, resume="true")
    draw, killed, finished = random.Random(0), 0, []

    def start(name):
        return run_apart([*settings, f"output={tmp_path / name}"], tmp_path / f"{name}_cache")

    first = start("whole")
    first.join()  # with the imports
    began = time.monotonic()
    again = start("timed")
    again.join()
    seconds = time.monotonic() - began
    assert first.exitcode == again.exitcode == 0
    while killed < KILLS or status_of(tmp_path / str(len(finished))) is not None:
        name = str(len(finished))
        process = start(name)
        process.join(draw.uniform(0, seconds) if killed < KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        else:
            assert process.exitcode == 0
        if status_of(tmp_path / name) == "finished":
            finished.append(name)
    weights = edit_of(tmp_path / "whole")
    for name in ["timed", *finished]:
        edit = edit_of(tmp_path / name)
        assert all(torch.equal(edit[key], value) for key, value in weights.items())
