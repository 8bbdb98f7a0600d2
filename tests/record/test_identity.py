"""Runs are recognised by a hash of their settings, also runs of older versions."""

import pytest

from dclip.config import plain
from dclip.record import identity
from dclip.record.identity import Removed, canonical, config_hash
from helpers.runs import configure

# the recipes of the time
RED_HAIR = "loss.shift=8 loss.margin=0.31 loss.l1=6 edit.region=null loss.keep=0"
ZOMBIE = "loss.margin=0.38 method.epochs=8 edit.region=null loss.keep=0"
# as the version before this package was split into folders wrote them into status.json
HASHES = [
    ("", "c3663b5f"),
    ("experiment=toonfaces_red_hair recipe=toonfaces " + RED_HAIR, "ea59222b"),
    ("experiment=toonfaces_zombie preset=[onestep,lora] recipe=toonfaces " + ZOMBIE, "95cef8d3"),
    ("preset=last_k", "851834bc"),
    ("preset=gpu_efficient_faithful sampler=ddim", "90084abd"),
    ("task=reconstruct sampler=ab2 sampler.grid=quadratic", "c478ebe4"),
    (
        "task=reconstruct sampler=fixed_point sampler.sweeps=20 sampler.tolerance=1e-4",
        "e38e9c2b",
    ),
    ("task=reconstruct sampler=belm", "80e6c767"),
    ("task=reconstruct sampler=heun sampler.s_gen=8", "a30d7371"),
    ("task=reconstruct sampler=ddim sampler.eta=0.5", "bf9ee1aa"),
    ("experiment=toonfaces_contrastive guidance.scale=1", "7f008581"),
    ("experiment=toonfaces_latent", "43c4d3d2"),
    ("experiment=toonfaces_unconditional sampler.variance=fixed_small", "9f3e58c7"),
    ("experiment=cifar10_contrastive", "8f8909ff"),
    # images were always shuffled
    ("experiment=celeba edit=tanned preset=faithful method.shuffle=true", "c5234101"),
    ("experiment=pretrain_toonfaces_judge", "8508c58a"),
]


@pytest.mark.parametrize(("words", "digest"), HASHES)
def test_jobs_of_older_studies_are_recognised(words, digest):
    """Where this fails, a setting was removed, moved or changed: see ``identity.REMOVED``."""
    assert config_hash(configure(*words.split())) == digest


def test_a_setting_of_later_versions_counts_only_where_it_is_set():
    assert config_hash(configure("metric.axioms=0")) == config_hash(configure())
    assert config_hash(configure("metric.axioms=8")) != config_hash(configure())


def test_where_files_come_from_is_no_part_of_a_result():
    here = config_hash(configure())
    assert config_hash(configure("offline=true", "trainer.cache=false")) == here


def test_guidances_with_the_same_settings_are_told_apart():
    names = ("contrastive", "spherical", "directional", "contrastive_directional", "global")
    hashes = {config_hash(configure("task=sample", f"guidance={name}")) for name in names}
    assert len(hashes) == len(names)


def test_a_setting_that_was_removed_counts_with_the_value_it_had(monkeypatch):
    cfg = configure("task=reconstruct")
    before = config_hash(cfg)

    def without_grid(config):
        settings = plain(config)
        del settings["sampler"]["grid"]
        return settings

    monkeypatch.setattr(identity, "plain", without_grid)
    assert config_hash(cfg) != before
    removed = (*identity.REMOVED, Removed("sampler.grid", "uniform"))
    monkeypatch.setattr(identity, "REMOVED", removed)
    assert config_hash(cfg) == before


def test_a_setting_of_some_options_is_filled_in_for_those_only(monkeypatch):
    removed = Removed("method.k", 1, beside="method.objective")
    monkeypatch.setattr(identity, "REMOVED", (removed,))
    assert canonical({"method": {"objective": "chain"}}) == {
        "method": {"objective": "chain", "k": 1}
    }
    assert canonical({"method": {"s_opt": 6}}) == {"method": {"s_opt": 6}}
    assert canonical({"method": {"objective": "last_k", "k": 3}})["method"]["k"] == 3


def test_a_setting_that_was_moved_is_read_at_its_old_place(monkeypatch):
    monkeypatch.setattr(identity, "MOVED", {"task.mix": "mix"})
    assert canonical({"task": {"mix": {"soup": True}}}) == {"task": {}, "mix": {"soup": True}}
    assert canonical({"task": {}}) == {"task": {}}
