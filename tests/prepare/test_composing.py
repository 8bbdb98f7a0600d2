"""What is composed quickly is what Hydra composes, errors included."""

from dataclasses import dataclass

import hydra
import pytest
from omegaconf import OmegaConf

from dclip.config import OPTIONS
from dclip.config.options import option
from dclip.prepare import compose, composing
from dclip.prepare.paths import CONF

assert compose  # it registers the resolver that conf/config.yaml uses


@pytest.fixture(autouse=True)
def initialised():
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def told(node, key=()):
    """What a node holds, and what Hydra and OmegaConf remember of it."""
    meta = node._metadata
    found = [(key, meta.object_type, meta.ref_type, meta.optional, meta.key, meta.flags)]
    if OmegaConf.is_dict(node) and not node._is_interpolation():
        for name in node:
            found += told(node._get_node(name), (*key, name))
        return found
    return [*found, str(node)]


def outcome(how, words):
    try:
        return told(how(words))
    except Exception as error:
        return type(error), str(error), type(error.__cause__), str(error.__cause__)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sampler.t0=300", "experiment=toonfaces_red_hair", "seed=3", "degrees=[]"],
        ["experiment=photographs", "preset=[onestep_invert,lora]", "note='a b'", "name=${seed}"],
        ["sampler=ddim", "sampler={t0:300}", "sampler.t0=200"],
        ["hydra.verbose=true", "seed=1"],
        ["experiment=toonfaces", "sampler.etta=1"],
        ["experiment=toonfaces", "seed=a"],
        ["experiment=nowhere", "seed=a"],
        ["task=null"],
        ["seed=1,2"],
        ["edit@x=zombie"],
        ["=3"],
    ],
    ids=" ".join,
)
def test_it_is_what_hydra_composes(words, monkeypatch):
    monkeypatch.setattr(composing, "_kept", {})
    expected = outcome(lambda some: hydra.compose("config", overrides=some), words)
    for _ in range(2):  # composed, and kept
        assert outcome(composing.composed, words) == expected


def test_what_a_caller_changes_is_his_own():
    first, again = (composing.composed(["experiment=toonfaces_zombie", "seed=1"]) for _ in range(2))
    first.edit.source, first.seed = "else", 7
    assert again.edit.source != "else"
    assert composing.composed(["experiment=toonfaces_zombie"]).edit.source == again.edit.source


def test_the_same_options_are_composed_once(monkeypatch):
    times = []
    plain = hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: times.append(1) or plain(*a, **k))
    monkeypatch.setattr(composing, "_kept", {})
    found = [composing.composed(["edit=zombie", f"seed={seed}"]).seed for seed in range(3)]
    assert found == [0, 1, 2]
    assert len(times) == 1


def test_an_option_that_is_registered_anew_is_composed_anew(monkeypatch):
    chosen = OPTIONS["sampler"]["ddim"]
    monkeypatch.setitem(OPTIONS, "sampler", dict(OPTIONS["sampler"]))
    assert composing.composed(["sampler=ddim"]).sampler.carry_noises == 1
    body = {"__annotations__": {"carry_noises": int}, "carry_noises": 5}
    try:
        option("sampler", "ddim")(dataclass(type("Other", (chosen,), body)))
        assert composing.composed(["sampler=ddim"]).sampler.carry_noises == 5
    finally:
        option("sampler", "ddim")(chosen)
    assert composing.composed(["sampler=ddim"]).sampler.carry_noises == 1


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(composing, "_kept", {})
    monkeypatch.setattr(composing, "MOST", 2)
    for name in ("zombie", "beard", "tanned"):
        assert composing.composed([f"edit={name}"]).edit.name == name
    assert len(composing._kept) == 1
