"""Published networks, written once more in plain torch, against what ``dclip.models.convert`` makes of their weights."""

import pytest
import torch
from safetensors.torch import save_file

from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError
from dclip.models import convert as c
from dclip.models.checkpoints import load_model
from dclip.models.hints import Hints
from dclip.models.recognise import PUBLISHED as PUBLISHED_NETWORKS
from dclip.models.recognise import Published, Shapes, recognise
from dclip.models.saved import model_header, save_weights
from dclip.models.unet import ModelInfo, build_unet
from helpers.networks import tiny_unet
from helpers.published_networks import ADM, DDIM, AdmNet, DdimNet, built, difference, random_net

# ---------------------------------------------------------------------------------------------------- the networks agree


@pytest.mark.parametrize(
    "settings",
    [
        DDIM,
        {"ch": 32, "mult": (1, 1, 2), "layers": 1, "attention": (0, 2)},
        {"ch": 32, "mult": (1, 2), "layers": 1, "attention": ()},
    ],
)
def test_a_ddim_network_converts_to_the_same_function(settings):
    net = random_net(DdimNet, **settings)
    assert difference(net, built(net.state_dict())) < 1e-5


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"layers": 2, "attention": (1, 2)},
        {"attention": ()},
        {"updown": False},
        {"scale_shift": False},
        {"updown": False, "scale_shift": False, "out": 3},
        {"mult": (1,), "attention": (0,)},
    ],
)
def test_an_adm_network_converts_to_the_same_function(more):
    net = random_net(AdmNet, **(ADM | more))
    assert difference(net, built(net.state_dict(), head_dim=32)) < 1e-5


def test_time_channels_that_differ_from_the_first_width_convert_to_the_same_function():
    # as ImageNet-512: 256 time channels, 128 in the first level
    net = random_net(AdmNet, ch=256, mult=(0.5, 0.25), layers=1, attention=(1,), head_dim=64)
    unet = built(net.state_dict())
    assert unet.time_proj.weight.shape == (1000, 128)
    assert difference(net, unet, size=8, times=(0, 1, 2, 333, 601, 998, 999)) < 1e-5


def test_more_time_channels_than_the_first_level_can_hold_are_refused():
    net = random_net(AdmNet, ch=128, mult=(0.25, 0.5), layers=1, attention=())
    with pytest.raises(DclipError, match="128 time channels do not fit into 32"):
        built(net.state_dict(), head_dim=32)


def test_a_wrong_head_dim_loads_without_a_word_and_computes_something_else(adm):
    state = adm.state_dict()
    right, wrong = built(state, head_dim=32), built(state, head_dim=64)
    assert {k: v.shape for k, v in right.state_dict().items()} == {
        k: v.shape for k, v in wrong.state_dict().items()
    }
    assert difference(adm, right) < 1e-5
    assert difference(adm, wrong) > 1e-3


def test_two_heads_in_a_ddim_network_would_compute_something_else(ddim):
    state = ddim.state_dict()
    recognised = recognise(state)
    assert recognised.unet["attention_head_dim"] is None
    unet = build_unet(recognised.unet | {"attention_head_dim": 32})
    unet.load_state_dict(c.convert(state, recognised))
    assert difference(ddim, unet.eval()) > 1e-4


@pytest.mark.parametrize("label", [0, 4])
def test_a_class_conditional_network_becomes_that_of_its_class(label):
    net = random_net(AdmNet, **ADM, classes=5)
    unet = built(net.state_dict(), head_dim=32, label=label)

    def of_class(x, t):
        return net(x, t, torch.full_like(t, label))

    assert difference(of_class, unet) < 1e-5
    assert difference(net, unet) > 1e-3


def test_a_class_that_is_missing_or_not_there_is_refused(ddim):
    net = random_net(AdmNet, **ADM, classes=5)
    with pytest.raises(
        DclipError, match=r"class-conditional .*5 classes.*checkpoint\.label=N, 0 to 4"
    ):
        built(net.state_dict(), head_dim=32)
    with pytest.raises(
        DclipError, match=r"checkpoint\.label=5: this network has the classes 0 to 4"
    ):
        built(net.state_dict(), head_dim=32, label=5)
    with pytest.raises(DclipError, match=r"checkpoint\.label=0: this network has no classes"):
        built(ddim.state_dict(), label=0)


def test_where_the_paper_leaves_the_classes_out_one_line_says_so(monkeypatch, tmp_path, caplog):
    """As ImageNet-512 (DiffusionCLIP)."""
    shapes = Shapes("adm", (32, 32, 64), 1, (2,), 6)
    monkeypatch.setitem(PUBLISHED_NETWORKS, shapes, Published("small", 16, classless=True))
    net = random_net(AdmNet, **ADM, classes=5)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with caplog.at_level("INFO", logger="dclip"):
        model = load_model(str(tmp_path / "net.pt"), 32)
    assert caplog.text.count("net.pt: its class embedding is left out, as published") == 1
    assert difference(net, model.unet) < 1e-5
    caplog.clear()
    with caplog.at_level("INFO", logger="dclip"):
        of_class = load_model(str(tmp_path / "net.pt"), 32, label=3)
    assert not caplog.text
    assert difference(lambda x, t: net(x, t, torch.full_like(t, 3)), of_class.unet) < 1e-5


def test_heads_may_be_as_many_on_every_level():
    net = random_net(AdmNet, **(ADM | {"attention": (1, 2)}), heads=4)
    assert difference(net, built(net.state_dict(), heads=4)) < 1e-5
    assert difference(net, built(net.state_dict(), head_dim=32)) > 1e-4
    with pytest.raises(DclipError, match=r"checkpoint\.heads=5 does not divide 32 channels"):
        built(net.state_dict(), heads=5)


def test_a_known_network_has_its_attention_order_its_noise_and_its_steps(monkeypatch, tmp_path):
    """As ImageNet-64 of guided diffusion, and those of improved diffusion, whose steps are quarters."""
    shapes = Shapes("adm", (32, 32, 64), 1, (2,), 6)
    noise = Schedule(4000, kind="cosine")
    known = Published("small", 16, schedule=noise, time_scale=0.25, heads=2, parts_first=True)
    monkeypatch.setitem(PUBLISHED_NETWORKS, shapes, known)
    net = random_net(AdmNet, **ADM, heads=2, parts_first=True)
    # of this kind every fourth step of 4,000 has the noise of a step of 1,000
    assert torch.allclose(noise.alpha_bars[3::4], Schedule(kind="cosine").alpha_bars, atol=1e-7)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = load_model(str(tmp_path / "net.pt"))
    assert model.schedule == Schedule(kind="cosine")

    def fourth(x, t):
        return net(x, (4 * t + 3) / 4)

    assert difference(fourth, model.unet) < 1e-5


def test_every_fourth_of_4000_steps_is_taken_where_the_noise_allows_it(adm, tmp_path):
    torch.save(adm.state_dict(), tmp_path / "net.pt")
    model = load_model(str(tmp_path / "net.pt"), 32, schedule="cosine", timesteps=4000)
    assert model.schedule == Schedule(kind="cosine")
    assert difference(lambda x, t: adm(x, 4 * t + 3), model.unet) < 1e-5
    model = load_model(str(tmp_path / "net.pt"), 32, timesteps=4000)  # linear: as it is
    assert model.schedule == Schedule(4000)
    assert difference(adm, model.unet) < 1e-5


FAMOUS = {  # by the flags of their README
    "ImageNet 64 (ADM)": ((192, (1, 2, 3, 4), 3, (1, 2, 3)), 64, "cosine", 1000, None),
    "ImageNet 128 (ADM)": ((256, (1, 1, 2, 3, 4), 2, (2, 3, 4)), 128, "linear", 1000, 4),
    "ImageNet or LSUN 256 (ADM)": (
        (256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5)),
        256,
        "linear",
        1000,
        None,
    ),
    "ImageNet 64 (improved diffusion)": ((128, (1, 2, 3, 4), 3, (2, 3)), 64, "cosine", 4000, 4),
    "CIFAR-10 (improved diffusion)": ((128, (1, 2, 2, 2), 3, (1, 2)), 32, "cosine", 4000, 4),
    "LSUN bedroom 256 (improved diffusion)": (
        (128, (1, 1, 2, 2, 4, 4), 2, (4,)),
        256,
        "linear",
        1000,
        1,
    ),
}


@pytest.mark.parametrize("name", FAMOUS)
def test_what_the_shapes_of_famous_networks_do_not_tell_is_known(name):
    args, size, kind, steps, heads = FAMOUS[name]
    with torch.device("meta"):
        found = recognise(AdmNet(*args, 64).state_dict())
    assert (found.notes["model"], found.unet["sample_size"]) == (name, size)
    assert (found.schedule.kind, found.schedule.steps) == (kind, steps)
    assert found.unet.get("attention_heads") == heads
    assert found.variance == "learned_range"


SIX = (1, 1, 2, 2, 4, 4)
PUBLISHED = {  # facts/upstream.md 3.1 and 3.2: parameters, tensors; then what must be recognised
    "celeba_hq": (
        DdimNet,
        (128, SIX, 2, (4,)),
        {},
        113_673_219,
        450,
        "CelebA-HQ or LSUN 256",
        256,
        "fixed_small",
        0.0,
    ),
    "cifar10": (
        DdimNet,
        (128, (1, 2, 2, 2), 2, (1,)),
        {},
        35_746_307,
        328,
        "CIFAR-10",
        32,
        "fixed_large",
        0.1,
    ),
    "afhq": (
        AdmNet,
        (128, SIX, 1, (4,), 64),
        {},
        93_563_910,
        362,
        "AFHQ or FFHQ 256 (ADM)",
        256,
        "learned_range",
        0.0,
    ),
    "imagenet": (
        AdmNet,
        (256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), 64),
        {"classes": 1000},
        558_997_638,
        645,
        "ImageNet 512 (ADM)",
        512,
        "learned_range",
        0.0,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_the_published_numbers_of_parameters(name):
    kind, args, more, parameters, tensors, model, size, variance, dropout = PUBLISHED[name]
    with torch.device("meta"):
        state = kind(*args, **more).state_dict()
        found = recognise(state)
        unet = build_unet(found.unet)
    assert (sum(v.numel() for v in state.values()), len(state)) == (parameters, tensors)
    assert (found.notes["model"], found.unet["sample_size"], found.variance) == (
        model,
        size,
        variance,
    )
    assert found.unet["dropout"] == dropout
    # ours: without 1000 classes x 1024, and with a table of 1000 x 128 where theirs has a layer of 1024 x 256, ours of 1024 x 128
    expected = (
        parameters - 1000 * 1024 - 1024 * 128 + 1000 * 128 if name == "imagenet" else parameters
    )
    assert sum(p.numel() for p in unet.parameters()) == expected
    origins = c.key_map(found, state, unet.state_dict())
    assert set(unet.state_dict()) - set(origins) == (
        {"time_proj.weight"} if name == "imagenet" else set()
    )
    assert set(state) - {o.key for o in origins.values()} == set(found.unused)


# ---------------------------------------------------------------------------------------------------- strict


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    "key",
    [
        "mid.attn_1.q.weight",
        "up.2.block.1.nin_shortcut.bias",
        "conv_out.weight",
        "down.1.downsample.conv.bias",
    ],
)
def test_a_missing_key_is_refused_by_name(ddim, key):
    with pytest.raises(DclipError, match=key.replace(".", r"\.")):
        built(without(ddim.state_dict(), key))


@pytest.mark.parametrize(
    "key",
    [
        "output_blocks.2.0.emb_layers.1.bias",
        "middle_block.1.qkv.weight",
        "out.0.weight",
        "time_embed.0.bias",
    ],
)
def test_a_missing_adm_key_is_refused_by_name(adm, key):
    with pytest.raises(DclipError, match=key.replace(".", r"\.")):
        built(without(adm.state_dict(), key), head_dim=32)


def test_an_extra_key_is_refused_by_name(ddim, adm):
    for net, extra in (
        (ddim, "down.0.block.0.nin_shortcut.weight"),
        (ddim, "more"),
        (adm, "input_blocks.1.0.more"),
        (ddim, "label_emb.weight"),
    ):
        with pytest.raises(DclipError, match=f"unknown {extra}"):
            built({**net.state_dict(), extra: torch.zeros(3)}, head_dim=32)


def test_a_renamed_key_is_refused_under_both_names(adm):
    state = adm.state_dict()
    state["middle_block.2.norm.bias"] = state.pop("middle_block.2.in_layers.0.bias")
    with pytest.raises(
        DclipError,
        match=r"missing middle_block\.2\.in_layers\.0\.bias; unknown middle_block\.2\.norm\.bias",
    ):
        built(state, head_dim=32)


def test_a_wrong_shape_is_refused_under_the_name_in_the_file(ddim, adm):
    for net, key, shape in (
        (ddim, "mid.block_1.conv2.weight", (64, 64, 1, 1)),
        (ddim, "mid.attn_1.k.weight", (64, 64, 3, 3)),
        (ddim, "temb.dense.1.bias", (127,)),
        (adm, "out.0.weight", (16,)),
        (adm, "middle_block.1.qkv.weight", (96, 64, 1)),
    ):
        with pytest.raises(DclipError, match=key.replace(".", r"\.") + r" has shape"):
            built({**net.state_dict(), key: torch.zeros(shape)}, head_dim=32)


def test_many_offenders_are_counted_in_one_line(ddim):
    state = {k: v for k, v in ddim.state_dict().items() if ".norm2." not in k}
    with pytest.raises(DclipError) as caught:
        built(state)
    assert "and 31 more" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_precision_weights_become_float32_and_the_source_stays_as_it_was(adm):
    half = {k: v.half() for k, v in adm.state_dict().items()}
    before = {k: v.clone() for k, v in half.items()}
    weights = c.convert(half, recognise(half, Hints(head_dim=64)))
    for value in weights.values():
        assert value.dtype == torch.float32
        value.zero_()
    assert all(torch.equal(half[k], before[k]) for k in half)
    pointers = [v.untyped_storage().data_ptr() for v in weights.values()]
    assert len(set(pointers)) == len(pointers)  # safetensors refuses shared memory


# ---------------------------------------------------------------------------------------------------- load, cache, names


def test_a_foreign_file_becomes_one_of_ours(adm, tmp_path):
    path = tmp_path / "dog_bear_t500.pth"
    torch.save(adm.state_dict(), path)
    unet, info = c.load_foreign(path, Hints(head_dim=32, image_size=16))
    assert not unet.training
    assert difference(adm, unet) < 1e-5
    assert (info.name, info.variance, info.notes["t0"], info.notes["source"]) == (
        "dog_bear_t500",
        "learned_range",
        500,
        path.name,
    )
    model = load_model(str(c.converted(path, Hints(head_dim=32, image_size=16))))
    assert (model.image_size, model.info.variance, model.info.notes["t0"]) == (
        16,
        "learned_range",
        500,
    )
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    assert torch.allclose(model.eps(x, t), adm(x, t)[:, :3], atol=1e-5)
    assert torch.allclose(model.predict(x, t).fraction, adm(x, t)[:, 3:], atol=1e-5)


def test_the_time_table_and_the_class_survive_the_file(tmp_path):
    net = random_net(
        AdmNet, ch=256, mult=(0.5, 0.25), layers=1, attention=(1,), head_dim=64, classes=3
    )
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = load_model(str(tmp_path / "net.safetensors"), label=2)
    assert model.info.notes["unused"] == ["label_emb.weight"]

    def of_class(x, t):
        return net(x, t, torch.full_like(t, 2))

    assert difference(of_class, model.unet, size=8) < 1e-5


@pytest.mark.parametrize(
    ("out", "into", "said"),
    [(1, 1, r"1 in \(greyscale images\), 1 out"), (4, 4, "latents"), (3, 6, "super-resolution")],
)
def test_networks_that_are_not_of_rgb_images_are_refused(tmp_path, out, into, said):
    net = random_net(DdimNet, **DDIM, out=out)
    net.conv_in = torch.nn.Conv2d(into, 32, 3, padding=1)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(DclipError, match=said + ".*dclip edits RGB images") as caught:
        load_model(str(tmp_path / "net.pth"))
    assert "\n" not in str(caught.value)


def test_one_of_ours_with_other_channels_is_refused(tmp_path):
    info = ModelInfo("grey", {**tiny_unet(), "in_channels": 1, "out_channels": 1})
    save_weights(tmp_path / "grey.safetensors", build_unet(info.unet), model_header(info))
    with pytest.raises(DclipError, match=r"grey\.safetensors takes images of other channels: 1 in"):
        load_model(str(tmp_path / "grey.safetensors"))


def test_what_a_file_does_not_tell_is_said_and_can_be_said(ddim, tmp_path, caplog):
    torch.save(ddim.state_dict(), tmp_path / "net.ckpt")
    with caplog.at_level("INFO", logger="dclip"):
        load_model(str(tmp_path / "net.ckpt"))
    assert "not a known model, read with image_size=32" in caplog.text
    assert "schedule=linear, timesteps=1000, prediction=epsilon" in caplog.text
    model = load_model(
        str(tmp_path / "net.ckpt"), schedule="cosine", timesteps=4000, prediction="v"
    )
    assert (model.schedule, model.info.prediction) == (Schedule(4000, kind="cosine"), "v")
    with pytest.raises(DclipError, match="schedule='karras' is not known; known: linear"):
        load_model(str(tmp_path / "net.ckpt"), schedule="karras")


def test_where_nothing_can_be_kept_a_conversion_goes_with_the_process(ddim, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.delenv("DCLIP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder, for root neither
    torch.save(ddim.state_dict(), tmp_path / "net.ckpt")
    made = c.converted(tmp_path / "net.ckpt")
    assert load_model(str(made)).image_size == 32
    with monkeypatch.context() as patch:
        patch.setattr(c, "load_foreign", lambda *a, **k: pytest.fail("converted again"))
        assert c.converted(tmp_path / "net.ckpt") == made


def test_a_conversion_is_made_once_for_a_source_and_its_options(ddim, tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.ckpt"
    torch.save(ddim.state_dict(), path)
    first = c.converted(path)
    assert first.parent == tmp_path / "cache" / "converted"
    assert c.converted(path, Hints(image_size=16)) != first
    with monkeypatch.context() as patch:
        patch.setattr(c, "load_foreign", lambda *a, **k: pytest.fail("converted again"))
        assert c.converted(path) == first
    first.write_bytes(first.read_bytes()[:-9])  # a damaged hit is made again
    assert load_model(str(c.converted(path))).image_size == 32
    torch.save({k: v + 1 for k, v in ddim.state_dict().items()}, tmp_path / "net.ckpt")
    assert c.converted(path) != first
    assert not [
        p for p in first.parent.iterdir() if p.suffix != ".safetensors" or p.name.startswith(".")
    ]
