"""Published networks, written once more in plain torch."""

import math
import os

import torch
import torch.nn.functional as F
from torch import nn

from dclip.models import convert as c
from dclip.models.hints import Hints
from dclip.models.recognise import recognise
from dclip.models.unet import build_unet

# ------------------------------------------------------------ ddim, by the facts


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


# ------------------------------------------------------------ adm, by the facts


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
    def __init__(self, width, head_dim, parts_first=False):
        super().__init__()
        self.head_dim, self.parts_first = head_dim, parts_first
        self.norm, self.qkv = nn.GroupNorm(32, width), nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x):
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.parts_first:  # the new order: q, k, v first, then heads
            thirds = [part.split(self.head_dim, dim=1) for part in qkv.chunk(3, dim=1)]
            qkv = torch.cat([torch.cat(head, 1) for head in zip(*thirds, strict=True)], 1)
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
        heads=None,
        parts_first=False,
    ):
        super().__init__()
        widths, emb = [int(ch * m) for m in mult], 4 * ch
        self.ch, top = ch, len(mult) - 1
        self.time_embed = nn.Sequential(nn.Linear(ch, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes:
            self.label_emb = nn.Embedding(classes, emb)

        def block(cin, cout, change=None):
            return AdmBlock(cin, cout, emb, change, scale_shift)

        def attend(width):
            return AdmAttention(width, width // heads if heads else head_dim, parts_first)

        width = widths[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, width, 3, padding=1)])])
        skips = [width]
        for level, wide in enumerate(widths):
            for _ in range(layers):
                attn = [attend(wide)] if level in attention else []
                self.input_blocks.append(nn.ModuleList([block(width, wide), *attn]))
                width = wide
                skips.append(width)
            if level < top:
                self.input_blocks.append(
                    nn.ModuleList([block(width, width, "down") if updown else AdmDown(width)])
                )
                skips.append(width)
        self.middle_block = nn.ModuleList([block(width, width), attend(width), block(width, width)])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for j in range(layers + 1):
                parts = [block(width + skips.pop(), widths[level])]
                width = widths[level]
                parts += [attend(width)] if level in attention else []
                if level and j == layers:
                    parts.append(block(width, width, "up") if updown else AdmUp(width))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)
        )

    def forward(self, x, t, y=None):
        half = self.ch // 2
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        if y is not None:
            emb = emb + self.label_emb(y)
        h, skips = x, []
        for layers in self.input_blocks:
            h = run(layers, h, emb)
            skips.append(h)
        h = run(self.middle_block, h, emb)
        for layers in self.output_blocks:
            h = run(layers, torch.cat([h, skips.pop()], 1), emb)
        return self.out(h)


# ------------------------------------------------------------ helpers

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


def built(state, **options):
    recognised = recognise(state, Hints(**options))
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


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))
