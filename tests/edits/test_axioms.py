"""Composition and reversibility, of edits whose arithmetic is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.edits import axioms
from dclip.encode.encoded import Encoded
from dclip.metrics.benchmark.tasks import AXIOMS
from dclip.record.record import Record
from dclip.run import Run
from dclip.types import Images
from helpers.runs import configure

DRIFT, CHANGE = 4 / 127.5, 40 / 127.5  # whole bytes


def drifting(run, start, gamma):
    """An edit that loses a little whatever it does: 4 bytes, and 40 of change a degree."""
    return start.latents + DRIFT + gamma * CHANGE


@pytest.fixture
def start():
    pixels = torch.full((3, 3, 8, 8), 50 / 127.5 - 1)
    return Encoded(("a", "b", "c"), pixels, Images(pixels, ("a", "b", "c")))


@pytest.fixture
def encoded(monkeypatch):
    """Latents that are the pictures themselves; the encoded pictures are listed."""
    seen = []

    def encode(run, images, what):
        assert not run.cfg.trainer.cache and not run.record.writes
        seen.append(images)
        return Encoded(images.ids, images.pixels, images)

    monkeypatch.setattr(axioms, "encode_to_edit", encode)
    return seen


def run_of(*words):
    cfg = configure(*words)
    return Run(cfg, None, Record.quiet(cfg))


def test_what_is_lost_adds_up_and_a_change_can_be_taken_back(start, encoded):
    scores = axioms.measure_axioms(run_of("metric.axioms=2"), drifting, start)
    assert scores.values["composition_1"] == pytest.approx(4 / 255)
    assert scores.values["composition_10"] == pytest.approx(40 / 255)
    assert scores.values["reversibility"] == pytest.approx(8 / 255)
    assert len(scores.rows["composition_10"]) == 2
    assert scores.values["composition_1_low"] == pytest.approx(4 / 255, abs=1e-6)
    assert len(encoded) == 10  # nine between ten edits, and one before the way back
    assert all(images.ids == ("a", "b") for images in encoded)


def test_the_way_back_is_as_far_as_the_way_there(start, encoded):
    degrees = []

    def note(run, now, gamma):
        degrees.append(gamma)
        return now.latents

    axioms.measure_axioms(run_of("metric.axioms=1", "gamma=0.5"), note, start)
    assert degrees == [0] * 10 + [0.5, -0.5]


def test_of_edits_in_turn_the_last_is_undone_first(start, encoded):
    """Doubling and adding do not commute, but each can be taken back."""

    def double(x, gamma):
        return x * 2.0**gamma

    def add(x, gamma):
        return x + gamma * CHANGE

    def one(run, now, gamma):
        return add(double(now.latents, gamma), gamma)

    def other(run, now, gamma):
        return double(add(now.latents, gamma), gamma)

    pixels = torch.full((1, 3, 8, 8), 20 / 127.5)
    start = Encoded(("a",), pixels, Images(pixels, ("a",)))
    scores = axioms.measure_axioms(run_of("metric.axioms=1"), one, start, other)
    assert scores.values["reversibility"] == pytest.approx(0, abs=2 / 255)
    assert scores.values["commutativity"] == pytest.approx(40 / 255, abs=1 / 255)
    unedited = axioms.measure_axioms(run_of("metric.axioms=1", "gamma=0"), one, start, other)
    assert "commutativity" not in unedited.values


def test_a_run_keeps_the_pictures_as_the_benchmark_reads_them(start, encoded, tmp_path):
    cfg = configure("metric.axioms=2")
    run = Run(cfg, None, Record(tmp_path / "run", cfg, False))
    axioms.measure_axioms(run, drifting, start)
    folder = run.record.folder / "axioms"
    assert {path.name for path in folder.iterdir()} == set(AXIOMS)
    assert sorted(path.name for path in (folder / "reversibility").iterdir()) == [
        "image_a.png",
        "image_b.png",
    ]
    picture = np.asarray(Image.open(folder / "composition_10" / "image_a.png"))
    assert np.unique(picture).tolist() == [90]  # 50 of the source, and ten times 4


def test_nothing_is_measured_unless_it_is_asked_for(start, encoded):
    scores = axioms.measure_axioms(run_of("metric.axioms=0"), drifting, start)
    assert scores.values == {} and encoded == []


def test_a_round_trip_has_a_composition_and_nothing_to_take_back(start, encoded):
    scores = axioms.measure_composition(run_of("metric.axioms=3"), drifting, start)
    assert scores.values["composition_10"] == pytest.approx(40 / 255)
    assert "reversibility" not in scores.values
