"""What pictures show: the table of domains, and what ToonFaces know of theirs."""

import pytest
import torch

from dclip.config import DomainName
from dclip.data.domains import DOMAINS, UNKNOWN, domain_named, domain_of, networks_of, truth_of
from dclip.data.photographs import Ffhq, Folder
from dclip.data.toonfaces.images import class_images
from dclip.data.toonfaces.options import ToonFaces
from dclip.data.toonfaces.truths import TRUTHS
from dclip.models import registry
from helpers.runs import configure


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
