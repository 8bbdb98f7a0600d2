"""Published networks, written once more in plain torch, against what ``dclip.models.convert`` makes of their weights."""

import json
import math
import os
import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from dclip.errors import DclipError
from dclip.models import convert as c
from dclip.models import foreign
from dclip.models.checkpoints import load_model
from dclip.models.unet import build_unet


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks: more threads only cost."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------- ddim, by the facts


class DdimBlock(nn.Module):
    def __init__(self, cin, cout, emb):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin, eps=1e-6), nn.Conv2d(cin, cout, 3, padding=1)
        self.temb_proj = nn.Linear(emb, cout)
        self.norm2, self.conv2 = (
            nn.GroupNorm(32, cout, eps=1e-6),
            nn.Conv2d(cout, cout, 3, padding=1),
        )
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class DdimAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        n, width, height, side = x.shape
        q, k, v = (layer(self.norm(x)).reshape(n, width, -1) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("nci,ncj->nij", q, k) / math.sqrt(width), dim=-1)
        return x + self.proj_out(
            torch.einsum("nij,ncj->nci", weights, v).reshape(n, width, height, side)
        )


class Holder(nn.Module):
    """A place for names."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


class DdimNet(nn.Module):
    def __init__(self, ch, mult, layers, attention, out=3):
        super().__init__()
        widths, emb = [ch * m for m in mult], 4 * ch
        self.ch, self.layers = ch, layers
        self.temb = Holder(dense=nn.ModuleList([nn.Linear(ch, emb), nn.Linear(emb, emb)]))
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [ch], ch
        for level, wide in enumerate(widths):
            blocks, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(layers):
                blocks.append(DdimBlock(width, wide, emb))
                if level in attention:
                    attn.append(DdimAttention(wide))
                width = wide
                skips.append(width)
            self.down.append(Holder(block=blocks, attn=attn))
            if level < len(widths) - 1:
                self.down[-1].downsample = Holder(conv=nn.Conv2d(width, width, 3, stride=2))
                skips.append(width)
        self.mid = Holder(
            block_1=DdimBlock(width, width, emb),
            attn_1=DdimAttention(width),
            block_2=DdimBlock(width, width, emb),
        )
        for level in reversed(range(len(widths))):
            blocks, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(layers + 1):
                blocks.append(DdimBlock(width + skips.pop(), widths[level], emb))
                width = widths[level]
                if level in attention:
                    attn.append(DdimAttention(width))
            self.up.insert(0, Holder(block=blocks, attn=attn))
            if level:
                self.up[0].upsample = Holder(conv=nn.Conv2d(width, width, 3, padding=1))
        self.norm_out, self.conv_out = (
            nn.GroupNorm(32, width, eps=1e-6),
            nn.Conv2d(width, out, 3, padding=1),
        )

    def forward(self, x, t):
        half = self.ch // 2
        angles = t.float()[:, None] * torch.exp(
            torch.arange(half) * -(math.log(10000) / (half - 1))
        )
        emb = self.temb.dense[0](torch.cat([angles.sin(), angles.cos()], 1))
        emb = self.temb.dense[1](F.silu(emb))
        h = self.conv_in(x)
        skips = [h]
        for level in self.down:
            for j, block in enumerate(level.block):
                h = block(h, emb)
                h = level.attn[j](h) if len(level.attn) else h
                skips.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample.conv(F.pad(h, (0, 1, 0, 1)))
                skips.append(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, emb)), emb)
        for level in reversed(self.up):
            for j, block in enumerate(level.block):
                h = block(torch.cat([h, skips.pop()], 1), emb)
                h = level.attn[j](h) if len(level.attn) else h
            if hasattr(level, "upsample"):
                h = level.upsample.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


# ---------------------------------------------------------------------------------------------------- adm, by the facts


class AdmBlock(nn.Module):
    def __init__(self, cin, cout, emb, change=None, scale_shift=True):
        super().__init__()
        self.change, self.scale_shift = change, scale_shift
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, (2 if scale_shift else 1) * cout))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, cout), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(cout, cout, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def resample(self, x):
        if self.change == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.avg_pool2d(x, 2) if self.change == "down" else x

    def forward(self, x, emb):
        h = self.in_layers[2](self.resample(self.in_layers[1](self.in_layers[0](x))))
        added = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = added.chunk(2, 1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + added)
        return self.skip_connection(self.resample(x)) + self.out_layers[1:](h)


class AdmAttention(nn.Module):
    def __init__(self, width, head_dim):
        super().__init__()
        self.head_dim = head_dim
        self.norm, self.qkv = nn.GroupNorm(32, width), nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x):
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        heads = []
        for rows in qkv.split(3 * self.head_dim, dim=1):  # legacy order: heads first, then q, k, v
            q, k, v = rows.split(self.head_dim, dim=1)
            scale = self.head_dim**-0.25
            weights = torch.softmax((q * scale).transpose(1, 2) @ (k * scale), dim=-1)
            heads.append(v @ weights.transpose(1, 2))
        return (flat + self.proj_out(torch.cat(heads, 1))).view_as(x)


class AdmDown(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class AdmUp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def run(layers, h, emb):
    for layer in layers:
        h = layer(h, emb) if isinstance(layer, AdmBlock) else layer(h)
    return h


class AdmNet(nn.Module):
    def __init__(
        self,
        ch,
        mult,
        layers,
        attention,
        head_dim=32,
        out=6,
        classes=None,
        updown=True,
        scale_shift=True,
    ):
        super().__init__()
        widths, emb = [int(ch * m) for m in mult], 4 * ch
        self.ch, top = ch, len(mult) - 1
        self.time_embed = nn.Sequential(nn.Linear(ch, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes:
            self.label_emb = nn.Embedding(classes, emb)

        def block(cin, cout, change=None):
            return AdmBlock(cin, cout, emb, change, scale_shift)

        width = widths[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, width, 3, padding=1)])])
        skips = [width]
        for level, wide in enumerate(widths):
            for _ in range(layers):
                attn = [AdmAttention(wide, head_dim)] if level in attention else []
                self.input_blocks.append(nn.ModuleList([block(width, wide), *attn]))
                width = wide
                skips.append(width)
            if level < top:
                self.input_blocks.append(
                    nn.ModuleList([block(width, width, "down") if updown else AdmDown(width)])
                )
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [block(width, width), AdmAttention(width, head_dim), block(width, width)]
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for j in range(layers + 1):
                parts = [block(width + skips.pop(), widths[level])]
                width = widths[level]
                parts += [AdmAttention(width, head_dim)] if level in attention else []
                if level and j == layers:
                    parts.append(block(width, width, "up") if updown else AdmUp(width))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)
        )

    def forward(self, x, t):
        half = self.ch // 2
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        h, skips = x, []
        for layers in self.input_blocks:
            h = run(layers, h, emb)
            skips.append(h)
        h = run(self.middle_block, h, emb)
        for layers in self.output_blocks:
            h = run(layers, torch.cat([h, skips.pop()], 1), emb)
        return self.out(h)


# ---------------------------------------------------------------------------------------------------- helpers

DDIM = {"ch": 32, "mult": (1, 2, 2), "layers": 2, "attention": (1,)}
ADM = {"ch": 32, "mult": (1, 1, 2), "layers": 1, "attention": (2,)}


def random_net(kind, seed=0, **settings):
    """Random weights, norms included, small enough that differences mean something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = kind(**settings)
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def ddim():
    return random_net(DdimNet, **DDIM)


@pytest.fixture(scope="module")
def adm():
    return random_net(AdmNet, **ADM)


def built(state, **options):
    recognised = c.recognise(state, **options)
    unet = build_unet(recognised.unet)
    unet.load_state_dict(c.convert(state, recognised))
    return unet.eval()


@torch.no_grad()
def difference(net, unet, size=16, times=(0, 1, 17, 500, 999)):
    """Largest difference between two networks, relative to the first one's output."""
    x = torch.randn(len(times), 3, size, size, generator=torch.Generator().manual_seed(1))
    t = torch.tensor(times)
    theirs = net(x, t)
    assert theirs.std() > 0.05
    return float((theirs - unet(x, t, return_dict=False)[0]).abs().max() / theirs.abs().max())


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
    net = random_net(
        AdmNet, ch=256, mult=(0.5, 0.25), layers=1, attention=(1,), head_dim=64, classes=3
    )
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


def test_a_head_dim_that_does_not_divide_the_channels_is_refused(adm):
    with pytest.raises(DclipError, match="head_dim=48 does not divide 64 channels; give head_dim"):
        c.recognise(adm.state_dict(), head_dim=48)


def test_two_heads_in_a_ddim_network_would_compute_something_else(ddim):
    state = ddim.state_dict()
    recognised = c.recognise(state)
    assert recognised.unet["attention_head_dim"] is None
    unet = build_unet(recognised.unet | {"attention_head_dim": 32})
    unet.load_state_dict(c.convert(state, recognised))
    assert difference(ddim, unet.eval()) > 1e-4


# ---------------------------------------------------------------------------------------------------- what is recognised


def test_a_ddim_state_dict_is_recognised_from_names_and_shapes(ddim):
    found = c.recognise(ddim.state_dict())
    assert (found.format, found.variance, found.unused) == ("ddim", "fixed_small", ())
    assert found.unet["block_out_channels"] == (32, 64, 64)
    assert found.unet["layers_per_block"] == 2
    assert found.unet["down_block_types"] == ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    assert found.unet["up_block_types"] == ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert found.unet["sample_size"] == 32  # 8 pixels at the lowest of three levels
    assert found.notes["model"] == "unknown"


def test_an_adm_state_dict_is_recognised_from_names_and_shapes(adm):
    found = c.recognise(adm.state_dict(), head_dim=32, image_size=64)
    assert (found.format, found.variance) == ("adm", "learned_range")
    assert found.unet["down_block_types"] == (
        "ResnetDownsampleBlock2D",
        "ResnetDownsampleBlock2D",
        "AttnDownBlock2D",
    )
    assert found.unet["up_block_types"] == (
        "AttnUpBlock2D",
        "ResnetUpsampleBlock2D",
        "ResnetUpsampleBlock2D",
    )
    assert found.unet["resnet_time_scale_shift"] == "scale_shift"
    assert (found.unet["out_channels"], found.unet["sample_size"]) == (6, 64)


def test_scale_shift_and_resampling_are_read_from_the_weights():
    plain = c.recognise(
        random_net(AdmNet, **ADM, updown=False, scale_shift=False, out=3).state_dict(), head_dim=32
    )
    assert plain.variance == "fixed_small"
    assert plain.unet["resnet_time_scale_shift"] == "default"
    assert (plain.unet["downsample_type"], plain.unet["upsample_type"]) == ("conv", "conv")


@pytest.mark.parametrize("size", [0, -4, 30])
def test_an_image_size_that_cannot_be_halved_is_refused(ddim, size):
    with pytest.raises(DclipError, match=f"image_size={size} is impossible.*multiple of 4"):
        c.recognise(ddim.state_dict(), image_size=size)


def test_the_class_embedding_is_left_out_on_purpose_and_said():
    net = random_net(AdmNet, **ADM, classes=5)
    found = c.recognise(net.state_dict(), head_dim=32)
    assert found.unused == ("label_emb.weight",)
    assert difference(net, built(net.state_dict(), head_dim=32)) < 1e-5


def test_strangers_and_nothing_are_refused():
    with pytest.raises(
        DclipError, match=r"no known diffusion format \(conv.weight\); known: ddim, adm, diffusers"
    ):
        c.recognise({"conv.weight": torch.zeros(1)})
    with pytest.raises(DclipError, match="no tensors"):
        c.recognise({})


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
        found = c.recognise(state)
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
    weights = c.convert(half, c.recognise(half, head_dim=64))
    for value in weights.values():
        assert value.dtype == torch.float32
        value.zero_()
    assert all(torch.equal(half[k], before[k]) for k in half)
    pointers = [v.untyped_storage().data_ptr() for v in weights.values()]
    assert len(set(pointers)) == len(pointers)  # safetensors refuses shared memory


# ---------------------------------------------------------------------------------------------------- files


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "ema": {}},
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"state_dict": {"module.module." + k: v for k, v in s.items()}},
        lambda s: [
            {"module." + k: v for k, v in s.items()},
            {"lr": 0.1},
            3,
            1000,
        ],  # as the ddim code saves it
    ],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
def test_wrappers_and_prefixes_are_taken_off(adm, tmp_path, wrap, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save(wrap(adm.state_dict()), path)
    assert same(foreign.read_foreign(path), adm.state_dict())


def test_files_of_the_old_torch_format_are_read(adm, tmp_path):
    torch.save(adm.state_dict(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert same(foreign.read_foreign(str(tmp_path / "old.ckpt")), adm.state_dict())


def test_the_averaged_copy_is_read_only_when_asked_for(tmp_path):
    raw, ema = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    for name, content in (
        ("dict", {"state_dict": raw, "ema": ema}),
        ("list", [raw, {}, 0, 0, ema]),
    ):
        torch.save(content, tmp_path / name)
        assert same(foreign.read_foreign(tmp_path / name), raw)
        assert same(foreign.read_foreign(tmp_path / name, ema=True), ema)
    torch.save(raw, tmp_path / "bare")
    with pytest.raises(DclipError, match="no averaged copy"):
        foreign.read_foreign(tmp_path / "bare", ema=True)
    torch.save({"ema": ema}, tmp_path / "only")
    with pytest.raises(DclipError, match="ema=True reads ema"):
        foreign.read_foreign(tmp_path / "only")


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("how", ["zip", "old", "nested", 0, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, how):
    mark, path = tmp_path / "executed", tmp_path / "net.ckpt"
    if isinstance(how, int):
        path.write_bytes(pickle.dumps(Evil(mark), protocol=how))
    else:
        content = (
            {"state_dict": {"a": torch.zeros(2)}, "x": Evil(mark)}
            if how == "nested"
            else {"a": Evil(mark)}
        )
        torch.save(content, path, _use_new_zipfile_serialization=how != "old")
    with pytest.raises(
        DclipError,
        match=r"carries code or other objects.*convert it to safetensors on a machine where you trust it",
    ) as caught:
        foreign.read_foreign(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    pickle.loads(pickle.dumps(Evil(mark)))  # the trap does work
    assert mark.exists()


def test_a_whole_module_is_refused_with_the_name_of_its_class(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(DclipError, match=r"\(torch\.nn\.modules\.linear\.Linear\)"):
        foreign.read_foreign(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "content",
    [{"a": torch.zeros(1), "epoch": 3}, {"state_dict": {}}, {}, [1, 2], torch.zeros(3), []],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(DclipError, match=r"net\.pth"):
        foreign.read_foreign(tmp_path / "net.pth")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("part", [0.001, 0.2, 0.5, 0.99])
def test_a_truncated_pickle_is_refused(adm, tmp_path, part, old):
    path = tmp_path / "net.ckpt"
    torch.save(adm.state_dict(), path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DclipError, match="truncated, damaged or no checkpoint") as caught:
        foreign.read_foreign(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is no checkpoint",
        bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"PK\x03\x04",
    ],
)
@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors"])
def test_foreign_files_are_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DclipError, match="truncated, damaged or no checkpoint"):
        foreign.read_foreign(tmp_path / name)


@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors"])
@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html><html>Google Drive - Virus scan warning",
        "\n <html>",
        "\ufeff<?xml version='1.0'?><Error><Code>AccessDenied",
    ],
)
def test_a_page_saved_as_weights_is_named_as_such(tmp_path, page, name):
    (tmp_path / name).write_text(page, encoding="utf-8")
    with pytest.raises(
        DclipError, match=r"is a web page \(HTML or XML\), not weights.*fetch it again"
    ):
        foreign.read_foreign(tmp_path / name)


def test_pointers_empty_files_and_missing_files_are_named_as_such(tmp_path):
    (tmp_path / "pointer.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    (tmp_path / "empty.pth").write_bytes(b"")
    for name, said in (
        ("pointer.pth", "Git LFS pointer"),
        ("empty.pth", "is empty"),
        ("none.pth", "does not exist"),
        ("", "holds no diff"),
    ):
        with pytest.raises(DclipError, match=said):
            foreign.read_foreign(tmp_path / name)


def test_safetensors_are_read_and_truncated_ones_refused(adm, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(adm.state_dict(), path)
    assert same(foreign.read_foreign(path), adm.state_dict())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DclipError, match="truncated"):
        foreign.read_foreign(path)


# ---------------------------------------------------------------------------------------------------- diffusers folders


def old_names(state):
    for new, old in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ):
        state = {k.replace(f".{new}.", f".{old}."): v for k, v in state.items()}
    return state


@pytest.mark.parametrize("where", ["", "unet"])
@pytest.mark.parametrize("old", [False, True])
def test_a_diffusers_folder_loads_as_saved(ddim, tmp_path, where, old):
    unet = built(ddim.state_dict())
    unet.save_pretrained(tmp_path / where, safe_serialization=not old)
    if old:  # .bin, and attention as it was called before
        torch.save(old_names(unet.state_dict()), tmp_path / where / "diffusion_pytorch_model.bin")
    net, info = c.load_foreign(tmp_path)
    assert difference(ddim, net) < 1e-5
    assert (info.notes["format"], info.variance, info.unet["sample_size"]) == (
        "diffusers",
        "fixed_small",
        32,
    )
    assert difference(ddim, load_model(str(c.converted(tmp_path))).unet) < 1e-5
    file = next((tmp_path / where).glob("diffusion_pytorch_model.*"))
    assert (
        difference(ddim, c.load_foreign(file)[0]) < 1e-5
    )  # the file alone, its config.json beside it


@pytest.fixture
def folder(ddim, tmp_path):
    built(ddim.state_dict()).save_pretrained(tmp_path)
    return tmp_path


def change(path, **settings):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **settings}))


def test_the_schedule_and_the_variance_come_from_the_folder(folder):
    change(
        folder / "scheduler_config.json",
        num_train_timesteps=500,
        beta_end=0.03,
        variance_type="fixed_large",
    )
    _, info = c.load_foreign(folder)
    assert (info.schedule.steps, info.schedule.beta_start, info.schedule.beta_end) == (
        500,
        1e-4,
        0.03,
    )
    assert info.variance == "fixed_large"


@pytest.mark.parametrize(
    ("file", "settings", "said"),
    [
        (
            "scheduler_config.json",
            {"beta_schedule": "squaredcos_cap_v2"},
            "beta_schedule=squaredcos",
        ),
        (
            "scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "prediction_type=v_prediction",
        ),
        (
            "config.json",
            {"_class_name": "UNet2DConditionModel"},
            "describes a UNet2DConditionModel",
        ),
        ("config.json", {"num_head_channels": 8}, "does not take .num_head_channels"),
        ("config.json", {"time_embedding_type": "fourier"}, "time_embedding_type=fourier"),
        ("config.json", {"sample_size": None}, "sample_size=None is no square; give image_size"),
        ("config.json", {"sample_size": [16, 32]}, "is no square"),
        ("config.json", {"layers_per_block": 1}, "unknown down_blocks.0.resnets.1"),
        (
            "config.json",
            {"down_block_types": ["DownBlock2D"]},
            "UNet2DModel refuses this configuration",
        ),
    ],
)
def test_a_folder_that_describes_something_else_is_refused(folder, file, settings, said):
    change(folder / file, **settings)
    with pytest.raises(DclipError, match=said):
        c.load_foreign(folder)


def test_diffusers_weights_without_their_configuration_are_recognised_but_not_converted(folder):
    state = foreign.read_foreign(folder)
    found = c.recognise(state)
    assert (found.format, found.unet) == ("diffusers", {})
    with pytest.raises(DclipError, match=r"need the config\.json"):
        c.convert(state, found)
    (folder / "config.json").write_text("<html>")
    with pytest.raises(DclipError, match="is not JSON"):
        c.load_foreign(folder)


# ---------------------------------------------------------------------------------------------------- load, cache, names


def test_a_foreign_file_becomes_one_of_ours(adm, tmp_path):
    path = tmp_path / "dog_bear_t500.pth"
    torch.save(adm.state_dict(), path)
    unet, info = c.load_foreign(path, head_dim=32, image_size=16)
    assert not unet.training
    assert difference(adm, unet) < 1e-5
    assert (info.name, info.variance, info.notes["t0"], info.notes["source"]) == (
        "dog_bear_t500",
        "learned_range",
        500,
        path.name,
    )
    model = load_model(str(c.converted(path, head_dim=32, image_size=16)))
    assert (model.image_size, model.info.variance, model.info.notes["t0"]) == (
        16,
        "learned_range",
        500,
    )
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    assert torch.allclose(model.eps(x, t), adm(x, t)[:, :3], atol=1e-5)
    assert torch.allclose(model.predict(x, t)[1], adm(x, t)[:, 3:], atol=1e-5)


def test_the_time_table_and_the_class_embedding_survive_the_file(tmp_path):
    net = random_net(
        AdmNet, ch=256, mult=(0.5, 0.25), layers=1, attention=(1,), head_dim=64, classes=3
    )
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = load_model(str(c.converted(tmp_path / "net.safetensors")))
    assert model.info.notes["unused"] == ["label_emb.weight"]
    assert difference(net, model.unet, size=8) < 1e-5


def test_a_conversion_is_made_once_for_a_source_and_its_options(ddim, tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.ckpt"
    torch.save(ddim.state_dict(), path)
    first = c.converted(path)
    assert first.parent == tmp_path / "cache" / "converted"
    assert c.converted(path, image_size=16) != first
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("human_tanned_t201.pth", 201),
        ("a/b/human_pixar_t601.pth", 601),
        ("dog_bear_t500", 500),
        ("celeba_hq.ckpt", None),
        ("cat_t601_v2.pth", None),
        ("x_t0.pth", None),
        ("x_t1000.pth", None),
        ("test601.pth", None),
    ],
)
def test_t0_is_read_from_published_names(name, expected):
    assert c.t0_from_name(name) == expected


def test_ours_are_told_from_foreign_ones(nets, folder, tmp_path):
    assert not foreign.is_foreign(nets["model16"])
    assert not foreign.is_foreign("toonfaces")
    assert foreign.is_foreign(folder)
    assert foreign.is_foreign(folder / "diffusion_pytorch_model.safetensors")
    (tmp_path / "net.pth").write_bytes(b"x")
    assert foreign.is_foreign(tmp_path / "net.pth")
    damaged = tmp_path / "ours.safetensors"
    damaged.write_bytes(nets["model16"].read_bytes()[:-3])
    assert not foreign.is_foreign(damaged)  # load_model says what is wrong with it
