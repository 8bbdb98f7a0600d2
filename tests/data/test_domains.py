"""What pictures show: the table of domains, and what ToonFaces know of theirs."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.config import DomainName, EditTask
from dclip.data.domains import DOMAINS, UNKNOWN, domain_named, domain_of, networks_of, truth_of
from dclip.data.photographs import Ffhq, Folder
from dclip.data.toonfaces.domain import TOONFACES
from dclip.data.toonfaces.images import class_images
from dclip.data.toonfaces.options import ToonFaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.models import registry
from helpers.runs import ROOT, configure


def test_every_domain_that_a_setting_or_the_registry_names_is_known():
    shown = {entry.domain for entry in registry.TABLE.values() if entry.domain}
    assert shown | {name.value for name in DomainName} <= set(DOMAINS)
    assert all(name == domain.name for name, domain in DOMAINS.items())
    assert domain_named("paintings") is UNKNOWN
    assert domain_named(None) is UNKNOWN


@pytest.mark.parametrize("name", DOMAINS)
def test_every_network_of_a_domain_is_one_of_its_kind(name):
    kinds = {"model": "ddpm", "clip": "clip", "heldout": "clip"}
    for role, network in vars(networks_of(name)).items():
        if network is not None:
            assert registry.find(network, kinds.get(role, role)) is not None


def test_photographs_have_no_truth_and_drawn_faces_do():
    face = {"hair_color": "black"}
    assert domain_of(Folder(root="x")).truth("red_hair") is None
    assert domain_of(Ffhq()).truth_of(face) is None
    assert domain_of(Ffhq()).class_images(face, 2, 64) is None
    toonfaces = domain_of(ToonFaces())
    assert toonfaces.truth("red_hair") == TRUTHS["red_hair"]
    assert toonfaces.truth_of(face).goal == (("hair_color", "black"),)
    assert toonfaces.truth_of({**face, "skin": "dark"}) is None
    assert set(toonfaces.edits) == set(TRUTHS)
    assert truth_of(configure("edit=zombie", "dataset=sampled", "sampler.t0=500")) is None


def test_true_pictures_of_a_text_are_drawn_or_a_reason_says_why_not():
    toonfaces = domain_of(ToonFaces())
    wanted = {"expression": "smiling"}
    drawn = toonfaces.class_images(wanted, 3, 64)
    assert torch.equal(drawn, class_images(wanted, 3).pixels)
    assert torch.equal(toonfaces.class_images(None, 3, 64), class_images({}, 3).pixels)
    assert "no attribute" in toonfaces.class_images({}, 3, 64)
    assert toonfaces.class_images(wanted, 3, 32) == "ToonFaces are 64x64, the samples 32x32"


def test_only_faces_that_an_edit_changes_are_loaded_unless_all_are_wanted():
    data = ToonFaces(train=4, test=6)
    chosen = data.for_edit("beard").load("test", 64)
    assert all(face["beard"] == "none" for face in chosen.facts)
    everything = data.everything()
    assert everything.for_edit("beard") is everything
    assert everything.load("test", 64).ids == data.load("test", 64).ids
    assert chosen.ids != data.load("test", 64).ids
    assert data.resized(train=9).count("train") == 9


def test_photographs_are_told_from_drawn_faces():
    from dclip.data.images import read_files
    from dclip.data.toonfaces.images import toonfaces

    mpl = Path(importlib.util.find_spec("matplotlib").origin).parent
    photograph = read_files(mpl / "mpl-data" / "sample_data" / "grace_hopper.jpg", 64)
    assert TOONFACES.foreign(photograph.pixels) == [0]
    assert TOONFACES.foreign(torch.rand(2, 3, 64, 64) * 2 - 1) == [0, 1]
    assert TOONFACES.foreign(read_files(ROOT / "docs" / "face.png", 64).pixels) == []
    assert TOONFACES.foreign(toonfaces("test", 30).pixels) == []
    assert list(UNKNOWN.foreign(photograph.pixels)) == []


@pytest.mark.parametrize(
    ("task", "checkpoint", "said"),
    [
        ("edit", "toonfaces", True),
        ("translate", "toonfaces", False),
        ("edit", "celeba_hq", False),  # photographs are what it was trained on
    ],
)
def test_a_photograph_is_said_to_be_outside_the_domain_once(
    task, checkpoint, said, tmp_path, caplog
):
    from dclip.encode.source import images_to_edit
    from helpers.networks import a_run

    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "adapter.safetensors").touch()
    cfg = replace(configure("task=translate"), input=str(tmp_path / "photo.png"))
    cfg.checkpoint.name = checkpoint
    cfg = replace(cfg, task=EditTask() if task == "edit" else cfg.task)
    model = SimpleNamespace(image_size=64)
    with caplog.at_level("WARNING", "dclip"):
        images_to_edit(a_run(cfg, model))
    messages = [one.getMessage() for one in caplog.records]
    assert len(messages) == said
    for message in messages:
        assert "outside the domain of checkpoint=toonfaces (cartoon faces)" in message
        assert "comes back at 64 x 64 pixels" in message


def test_photographs_of_a_folder_are_said_to_be_foreign_too(photos, caplog):
    from dclip.encode.source import images_to_edit
    from helpers.networks import a_run

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for file in photos.iterdir():
        Image.fromarray(noise).save(file)
    data = ("dataset=folder", f"dataset.root={photos}", "dataset.train=4", "dataset.test=4")
    cfg = replace(configure("task=reconstruct", *data), task=EditTask())
    with caplog.at_level("WARNING", "dclip"):
        images_to_edit(a_run(cfg, SimpleNamespace(image_size=64)))
    [message] = [one.getMessage() for one in caplog.records]
    assert message.startswith("dataset=folder: 4 of 4 pictures are outside the domain")
    assert "may do anything to them" in message
