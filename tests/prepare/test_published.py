"""``preset=faithful`` is the published form of the run's own method."""

import pytest

from dclip.cli.command import _faithful
from dclip.config import plain
from dclip.errors import DclipError
from helpers.runs import configure

MEANINGS = [
    ("experiment=toonfaces_latent", "faithful_latent"),
    ("method=latent_opt task=sample", "faithful_latent"),
    ("experiment=toonfaces_contrastive", "faithful_guidance"),
    ("experiment=cifar10_contrastive dataset=sampled", "faithful_guidance"),
    ("task=sample guidance=spherical", "faithful_guidance"),
    ("experiment=celeba dataset=sampled", "faithful"),
    ("experiment=toonfaces_red_hair", "faithful"),
]


@pytest.mark.parametrize(("words", "preset"), MEANINGS)
def test_faithful_means_the_preset_of_the_method(words, preset):
    faithful = configure(*words.split(), "preset=faithful")
    assert plain(faithful) == plain(configure(*words.split(), f"preset={preset}"))


@pytest.mark.parametrize(("words", "preset"), MEANINGS)
def test_the_command_line_means_the_same(words, preset):
    for typed, meant in (("faithful", preset), ("[quick,faithful]", f"[quick,{preset}]")):
        command = [*words.split(), f"preset={typed}", "seed=1"]
        assert _faithful(command) == [*words.split(), f"preset={meant}", "seed=1"]


def test_a_sweep_has_one_meaning():
    two = ["-m", "experiment=toonfaces_latent,toonfaces_red_hair", "preset=faithful"]
    with pytest.raises(DclipError, match="faithful_latent and faithful in this sweep"):
        _faithful(two)
    one = ["-m", "experiment=toonfaces_latent", "preset=null,faithful", "seed=1,2"]
    assert _faithful(one)[2] == "preset=null,faithful_latent"


def test_what_hydra_shows_is_the_same():
    words = ["--cfg", "job", "experiment=toonfaces_latent", "preset=faithful"]
    assert _faithful(words) == [*words[:3], "preset=faithful_latent"]


def test_other_presets_are_left_alone():
    for words in (["preset=gpu_efficient_faithful"], ["preset=quick"], ["note=faithful"], []):
        assert _faithful(words) == words


def test_what_cannot_be_composed_is_explained_as_ever():
    with pytest.raises(DclipError, match="experiment"):
        configure("experiment=nothing", "preset=faithful")
