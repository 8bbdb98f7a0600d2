"""Checkpoints of rosinality and lucidrains become ours; what other projects write is named."""

import sys
import types

import pytest
import torch

from dclip.diffusion.schedule import Schedule
from dclip.edits.saved import foreign_weights
from dclip.errors import DclipError
from dclip.models import convert as c
from dclip.models.checkpoints import load_model
from dclip.models.hints import Hints
from dclip.models.recognise import recognise
from helpers.other_networks import LucidNet, RosinalityNet, lucid_trained
from helpers.published_networks import ADM, AdmNet, built, difference, random_net

ROSINALITY = {"ch": 32, "mult": (1, 2, 2), "layers": 2, "attention": (1,)}
LUCID = {"ch": 16, "mult": (1, 2, 4)}


# ------------------------------------------------------------ rosinality


@pytest.mark.parametrize(
    "more", [{}, {"affine": True}, {"layers": 1, "attention": (0, 2)}, {"mult": (1,)}]
)
def test_a_network_of_rosinality_converts_to_the_same_function(more):
    net = random_net(RosinalityNet, **(ROSINALITY | more))
    assert difference(net, built(net.state_dict())) < 1e-5


def test_its_heads_divide_by_the_root_of_all_channels():
    net = random_net(RosinalityNet, **(ROSINALITY | {"attention": (1, 2)}), heads=4)
    assert difference(net, built(net.state_dict(), heads=4)) < 1e-5
    assert difference(net, built(net.state_dict())) > 1e-4


@pytest.fixture
def settings_classes(monkeypatch):
    """Classes of the settings that rosinality's trainer saves beside the weights."""
    module = types.ModuleType("config")
    module.Settings = type("Settings", (), {"__module__": "config"})
    monkeypatch.setitem(sys.modules, "config", module)

    def made(**values):
        settings = module.Settings()
        vars(settings).update(values)
        return settings

    return made


def test_its_checkpoint_is_read_with_its_average_and_its_schedule(tmp_path, settings_classes):
    net = random_net(RosinalityNet, **ROSINALITY)
    raw = {key: torch.zeros_like(value) for key, value in net.state_dict().items()}
    noise = settings_classes(schedule="cosine", n_timestep=500)
    conf = settings_classes(diffusion=settings_classes(beta_schedule=noise))
    content = {"model": raw, "ema": net.state_dict(), "scheduler": {}, "conf": conf}
    torch.save(content, tmp_path / "net.pt")
    sys.modules.pop("config")  # whoever reads it does not have the code
    model = load_model(str(tmp_path / "net.pt"))
    assert difference(net, model.unet) < 1e-5
    assert model.schedule == Schedule(500, kind="cosine")
    torch.save({"model": raw, "ema": net.state_dict()}, tmp_path / "bare.pt")
    # what rosinality calls linear is linear in sqrt(beta)
    assert load_model(str(tmp_path / "bare.pt")).schedule == Schedule(kind="scaled_linear")


# ------------------------------------------------------------ lucidrains


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_a_checkpoint_of_lucidrains_is_read_with_its_noise(tmp_path, kind, prediction):
    net, schedule = random_net(LucidNet, **LUCID), Schedule(kind=kind)
    torch.save(lucid_trained(net, schedule, prediction), tmp_path / "model-3.pt")
    model = load_model(str(tmp_path / "model-3.pt"), image_size=16)
    assert difference(net, model.unet) < 1e-5
    assert (model.schedule, model.info.prediction) == (schedule, prediction)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 700])
    a = schedule.alpha_bars.float()[t][:, None, None, None]
    out = net(x, t)
    eps = {"epsilon": out, "v": a.sqrt() * out + (1 - a).sqrt() * x}
    eps["x0"] = (x - a.sqrt() * out) / (1 - a).sqrt()
    assert torch.allclose(model.eps(x, t), eps[prediction], atol=1e-3)


@pytest.mark.parametrize("more", [{"heads": 2, "head_dim": 8}, {"out": 6}, {"mult": (1,)}])
def test_other_sizes_of_lucidrains_network_are_read_from_shapes(more, tmp_path):
    net = random_net(LucidNet, **(LUCID | more))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = load_model(str(tmp_path / "net.pt"), image_size=16, schedule="cosine", prediction="v")
    assert difference(net, model.unet) < 1e-5
    assert (model.info.variance == "learned_range") == ("out" in more)


def test_versions_before_1_8_standardise_their_weights(tmp_path):
    net, schedule = random_net(LucidNet, **LUCID, old=True), Schedule(kind="sigmoid")
    torch.save(lucid_trained(net, schedule, "epsilon", "1.6.0"), tmp_path / "old.pt")
    assert difference(net, load_model(str(tmp_path / "old.pt")).unet) < 1e-5
    torch.save(net.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(DclipError, match=r"versions before 1\.8, which compute differently"):
        load_model(str(tmp_path / "bare.pt"))


def test_bare_weights_of_lucidrains_do_not_say_how_they_were_trained(tmp_path):
    net = random_net(LucidNet, **LUCID)
    torch.save(net.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(DclipError, match=r"do not say how they were trained.*checkpoint\.schedule"):
        load_model(str(tmp_path / "bare.pt"))
    content = lucid_trained(net, Schedule(), "v")
    for name in ("model", "ema"):
        content[name] = {k: v for k, v in content[name].items() if "loss_weight" not in k}
    torch.save(content, tmp_path / "early.pt")
    with pytest.raises(DclipError, match=r"checkpoint\.prediction=epsilon\|v\|x0"):
        load_model(str(tmp_path / "early.pt"))
    assert load_model(str(tmp_path / "early.pt"), prediction="v").info.prediction == "v"


def test_low_rank_updates_and_gradients_reach_its_layers():
    from dclip.config import Lora
    from dclip.models.lora import LowRankUpdates
    from dclip.models.memory import kept_mb_of
    from dclip.models.shared import common_beginning
    from dclip.models.unet import ModelInfo, build_unet

    net = random_net(LucidNet, **LUCID)
    found = recognise(net.state_dict(), Hints(image_size=16))
    unet, other = build_unet(found.unet), build_unet(found.unet)
    other.load_state_dict(unet.state_dict())
    updates = LowRankUpdates(unet, Lora(rank=2, conv=True), 0)
    updates.attach(unet)
    out = unet(torch.randn(1, 3, 16, 16), torch.tensor([5]))[0]
    out.square().mean().backward()
    assert all(p.grad is not None for name, p in updates.named_parameters() if "up" in name)
    assert common_beginning([unet, other])[-1] == "up_blocks.2"
    assert kept_mb_of(ModelInfo("net", found.unet)) > 0


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (RosinalityNet, ROSINALITY, {"heads": 4}),
        (LucidNet, LUCID, {"schedule": "sigmoid", "prediction": "v"}),
        (AdmNet, ADM | {"classes": 3}, {"head_dim": 32, "label": 2, "schedule": "cosine"}),
    ],
)
def test_a_published_edit_of_such_a_network_is_read_as_its_base_was(tmp_path, kind, settings, said):
    base, tuned = (random_net(kind, seed, **settings).state_dict() for seed in (0, 1))
    torch.save(base, tmp_path / "base.pt")
    torch.save(tuned, tmp_path / "tuned_t500.pt")
    model = load_model(str(tmp_path / "base.pt"), image_size=16, **said)
    expected = load_model(str(tmp_path / "tuned_t500.pt"), image_size=16, **said)
    weights = foreign_weights(tmp_path / "tuned_t500.pt", model)
    for key, value in expected.unet.state_dict().items():
        assert torch.equal(weights[key], value)


# ------------------------------------------------------------ strangers


def keys(*names):
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("inner_model.u_net.d_blocks.0.0.main.0.weight", "inner_model.timestep_embed.weight"),
            "a k-diffusion network: it is trained on sigmas",
        ),
        (("inner_model.time_in_proj.weight", "inner_model.aug_in_proj.weight"), "HDiT"),
        (("model.enc.32x32_conv.weight", "model.map_layer0.weight"), "EDM network"),
        (("all_modules.0.W",), "score SDE"),
        (("model.diffusion_model.input_blocks.0.0.weight",), "latent diffusion"),
        (("x_embedder.proj.weight", "t_embedder.mlp.0.weight"), "DiT"),
        (("time_embed.0.weight", "input_blocks.0.0.weight"), "classifies noisy images"),
        (("visual.conv1.weight", "logit_scale"), "a CLIP: give it as clip.name"),
        (("downs.0.0.block1.block.0.weight",), "early version of lucidrains"),
    ],
)
def test_networks_of_other_projects_are_refused_by_their_names(tmp_path, names, said):
    torch.save({"model": keys(*names)}, tmp_path / "net.pth")
    with pytest.raises(DclipError, match=said) as caught:
        load_model(str(tmp_path / "net.pth"))
    assert "\n" not in str(caught.value)


def test_a_converted_checkpoint_is_found_again(tmp_path):
    net = random_net(RosinalityNet, **ROSINALITY)
    torch.save({"model": net.state_dict()}, tmp_path / "net.pt")
    assert c.converted(tmp_path / "net.pt") == c.converted(tmp_path / "net.pt")
    assert c.converted(tmp_path / "net.pt") != c.converted(tmp_path / "net.pt", Hints(heads=2))
