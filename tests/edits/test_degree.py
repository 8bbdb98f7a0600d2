"""What gamma = 1 stands for: measured after learning, kept in the file, used when it is applied."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

import dclip
from dclip.data.domains import true_images
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.edits.degree import MEASURED, REACH, AtDegree, between, calibrated
from dclip.edits.edit import Edit
from dclip.edits.saved import described, read_edit
from dclip.encode.encoded import Encoded
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.load import load_edits
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import configure, run, words


class Partly(Edit):
    """An edit that makes a share of a known change."""

    def __init__(self, change, share):
        self.change, self.share = change, share

    def strip(self, run, start, gammas):
        sources = start.sources.pixels
        made = [sources + gamma * self.share * self.change[: len(start)] for gamma in gammas]
        return torch.stack(made, 1)


@pytest.fixture(scope="module")
def faces():
    """(images, how they truly change) of red hair."""
    images = toonfaces("validation", 4, TRUTHS["red_hair"])
    return images, true_images(images, TRUTHS["red_hair"]) - images.pixels


def learned(tiny, faces, share, heldout=None, **settings):
    """The degree to which an edit of that share of the truth is calibrated."""
    images, change = faces
    cfg = configure(*words(tiny, **{"edit__degree": "auto", **settings}))
    start = Encoded(images.ids, images.pixels, images)
    return calibrated(a_run(cfg, None, heldout=heldout), Partly(change, share), start).degree


@pytest.mark.parametrize(
    ("region", "share", "degree"),
    [
        ("none", 0.5, 2.0),
        ("none", 0.8, 1.25),
        ("none", 2.0, 0.5),
        ("auto", 0.5, 2.0),
        ("auto", 1.0, 1.0),
        ("truth", 0.5, 2.0),
    ],
)
def test_an_edit_half_as_strong_as_the_truth_gets_degree_two(tiny, faces, region, share, degree):
    where = {
        "edit__region": region,
        "edit__region_colors": 0,
        "edit__region_gain": 1,
        "edit__region_follow": 0,
    }
    assert learned(tiny, faces, share, **where) == pytest.approx(degree, abs=0.051)


def test_it_is_off_unless_asked_for_and_may_be_given(tiny, faces):
    assert learned(tiny, faces, 0.5, edit__degree="null") == 1
    assert learned(tiny, faces, 0.5, edit__degree=1) == 1
    assert learned(tiny, faces, 0.5, edit__degree=1.4) == 1.4


class Bright:
    """A CLIP that sees how red a picture is, and reads the texts as 1 apart."""

    mean = torch.zeros(1)

    def text_features(self, texts):
        return torch.tensor([[float("hat" in text), 0.0] for text in texts])

    def image_features(self, pixels):
        red = pixels[:, 0].flatten(1).mean(1)
        return torch.stack([red, torch.zeros_like(red)], 1)


OWN = {"edit__name": "hat", "edit__target": "person with a hat", "edit__region": "none"}


@pytest.mark.parametrize(("moved", "degree"), [(REACH / 1.5, 1.5), (REACH * 2, 0.5), (0.01, 2.0)])
def test_without_a_truth_the_held_out_clip_must_see_enough(tiny, faces, moved, degree):
    images, _ = faces
    change = torch.zeros_like(images.pixels)
    change[:, 0] = moved
    told = learned(tiny, (images, change), 1.0, Bright(), **OWN)
    assert told == pytest.approx(degree, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "count", "why"),
    [
        (OWN, 4, "nor a held-out CLIP are known"),
        ({}, 0, "there are no validation images"),
    ],
)
def test_what_cannot_be_calibrated_is_said(tiny, faces, caplog, monkeypatch, settings, count, why):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    images, change = faces
    assert learned(tiny, (images.take(range(count)), change), 0.5, **settings) == 1
    assert "edit.degree=auto: not calibrated" in caplog.text and why in caplog.text


def test_pictures_between_two_degrees_are_on_the_way():
    strip = torch.tensor([[degree**2 for degree in MEASURED]])
    assert float(between(strip, 1.25)) == pytest.approx((1 + 1.5**2) / 2)
    assert float(between(strip, 2.0)) == 4


@pytest.mark.parametrize("degree", ["lots", 0, -1, 3.5, "true"])
def test_what_is_no_degree_is_refused(degree):
    with pytest.raises(DclipError, match=r"edit\.degree=.* is neither auto nor a number above 0"):
        configure(f"edit.degree={degree}")


# ------------------------------------------------------------------------ kept, and then applied


def with_degree(folder, degree):
    """The edit of a folder with this degree in its header."""
    path = folder / "adapter.safetensors"
    header = {**read_edit(str(folder)).header, "degree": degree}
    save_file(load_file(path), str(path), metadata={"dclip": json.dumps(header)})
    return str(folder)


@pytest.fixture
def twice(tiny, nets, tmp_path):
    """Two files of the same edit: as learned, and calibrated to degree 2."""
    where = {"edit__region": "none"}
    for name in ("plain", "strong"):
        write_edit(tmp_path / name, tiny, nets["model16"], "red_hair", 0.3, **where)
    return str(tmp_path / "plain"), with_degree(tmp_path / "strong", 2.0)


def applied(cfg, model, gamma):
    return load_edits(cfg, model).apply(a_run(cfg, model), start_at(images16(2)), gamma)


def test_applying_uses_gamma_times_the_degree(editing, twice, model):
    plain, strong = twice
    once, double = editing(plain), editing(strong)
    assert torch.equal(applied(double, model, 0.7), applied(once, model, 1.4))
    assert torch.equal(
        applied(editing(strong, edit__degree=1), model, 1.0), applied(once, model, 1)
    )
    told = editing(plain, edit__degree=1.5)
    assert torch.equal(applied(told, model, 1.0), applied(once, model, 1.5))
    strip = load_edits(double, model).strip(a_run(double, model), start_at(images16(2)), [0.5, 1])
    assert torch.allclose(strip[:, 0], applied(once, model, 1.0), atol=1e-5)
    assert read_edit(plain).degree == 1
    assert "gamma 1 is degree 2.00 of it" in described(read_edit(strong).card)


@pytest.mark.parametrize("soup", ["true", "false"])
def test_each_of_several_edits_has_its_own_degree(editing, twice, model, soup):
    plain, strong = twice
    mixed = editing(f"[{plain},{strong}]", gamma=1, mix__soup=soup)
    lone = editing(f"[{plain},{plain}]", gamma=1.5, mix__soup=soup)
    assert torch.allclose(applied(mixed, model, 1.0), applied(lone, model, 1.5), atol=1e-4)


def test_the_notebook_uses_it_too(twice, model):
    plain, strong = twice
    pixels = images16(2).pixels
    assert torch.equal(dclip.edit(model, pixels, strong), dclip.edit(model, pixels, plain, gamma=2))


def test_a_run_measures_it_keeps_it_and_says_it(tiny, tmp_path):
    more = {"edit__degree": "auto", "dataset__train": 2, "dataset__test": 2, "metric": "none"}
    folder = run(*words(tiny, output=tmp_path, degrees="[]", **more))
    degree = read_edit(str(folder)).degree
    assert degree != 1 and 0.2 <= degree <= 2
    metrics = read_json(folder / "metrics.json")
    assert metrics["degree"] == degree and metrics["seconds_calibrate"] > 0
    page = (folder / "report.html").read_text("utf-8")
    assert f"gamma = 1 stands for degree {degree:.2f} of the learned change" in page
    assert "nearest to the truth, on 2 validation images" in (folder / "run.log").read_text("utf-8")


def test_a_calibrated_edit_is_named_as_the_edit_is():
    edit = Partly(torch.zeros(1), 1)
    assert AtDegree(edit, 2).name == edit.name
