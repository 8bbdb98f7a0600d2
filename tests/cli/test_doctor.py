"""``dclip doctor``: what this machine can run."""

import shutil
from collections import namedtuple

import pytest

from dclip.cli import doctor
from dclip.errors import DclipError
from dclip.prepare import plan


def test_the_cartoons_run_with_what_is_here(nowhere):
    runs, time, missing = doctor.diagnosis("toonfaces_red_hair")[1:]
    assert (runs, missing) == ("yes", "nothing") and time != "unknown"


def test_photographs_lack_data_and_weights(nowhere):
    name, runs, _, missing = doctor.diagnosis("celeba_tanned")
    assert (name, runs) == ("celeba_tanned", "no")
    assert "dataset.root" in missing and "dclip weights fetch celeba_hq" in missing
    assert "nothing may be fetched" in missing


def test_weights_that_may_be_fetched_are_no_obstacle(nowhere, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert doctor.diagnosis("cifar10")[1] == "after fetching"


def test_a_network_too_large_for_the_memory_is_named(nowhere, monkeypatch):
    monkeypatch.setattr(plan, "memory_gb", lambda: 8.0)
    assert "GB of memory" in doctor.diagnosis("imagenet_watercolor")[3]


def test_an_experiment_that_needs_something_first_says_what(nowhere):
    runs, _, missing = doctor.diagnosis("apply_mix")[1:]
    assert runs == "no" and "first learn it" in missing


def test_it_prints_a_table_and_says_what_the_machine_lacks(nowhere, monkeypatch, capsys):
    assert doctor.main(["toonfaces_red_hair", "apply_mix"]) == 0
    said = capsys.readouterr().out
    assert "the machine has what dclip needs" in said
    assert said.index("apply_mix") > said.index("toonfaces_red_hair")
    usage = namedtuple("Usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1e8))
    monkeypatch.setattr(plan, "memory_gb", lambda: 2.0)
    assert doctor.main(["toonfaces_red_hair"]) == 1
    said = capsys.readouterr().out
    assert "disk: 0.1 GB free" in said and "memory: 2.0 GB" in said


def test_a_misspelt_experiment_is_answered_with_the_right_one():
    with pytest.raises(DclipError, match="did you mean toonfaces_red_hair"):
        doctor.main(["toonface_red_hair"])


def test_all_experiments_are_known():
    assert {"toonfaces_red_hair", "celeba_tanned"} <= set(doctor.experiments())
