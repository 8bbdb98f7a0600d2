import pytest
from omegaconf import OmegaConf

from dclip.config import OPTIONS, plain
from helpers.runs import configure, refusal


@pytest.mark.parametrize("group", sorted(OPTIONS))
def test_every_registered_option_is_found_by_its_name(group, photographs):
    needs = {"pretrain": ["task.net=ddpm"], "belm": ["task=reconstruct"]}
    needs["h_edit"] = ["sampler.carry=noise_maps"]
    needs |= {
        name: ["task=sample"] for name in (*OPTIONS["guidance"], "latent_opt") if name != "none"
    }
    for name, cls in OPTIONS[group].items():
        if cls.__name__ in photographs:
            counts = [
                "dataset.train=2",
                "dataset.validation=1",
                "dataset.test=2",
                "clip.name=openai_vit_b_16",
            ]
            category = ["dataset.category=automobile"] if name == "cifar10" else []
            needs[name] = [f"dataset.root={photographs[cls.__name__]}", *counts, *category]
        if (group, name) in (
            ("task", "edit"),
            ("method", "none"),
        ):  # these need more, and are refused without it
            assert "needs" in refusal(f"{group}={name}")
            continue
        assert type(getattr(configure(f"{group}={name}", *needs.get(name, ())), group)) is cls


def test_values_from_the_command_line_arrive():
    cfg = configure(
        "sampler.t0=300",
        "loss.clip=1.5",
        "gamma=0.5",
        "edit.target=person with green eyes",
        "trainer.devices=1",
    )
    assert (cfg.sampler.t0, cfg.loss.clip, cfg.gamma, cfg.edit.target) == (
        300,
        1.5,
        0.5,
        "person with green eyes",
    )


def test_a_configuration_survives_the_way_to_yaml_and_back():
    settings = plain(configure("experiment=toonfaces_zombie"))
    assert (
        OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(settings))))
        == settings
    )
    assert settings["sampler"]["final_step"] == "to_clean"
