"""The networks of rosinality and lucidrains, written once more in plain torch, from their layout."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from helpers.published_networks import Holder

# ------------------------------------------------------------ rosinality


def numbered(*layers):
    """A Sequential whose empty places have no weights."""
    return nn.ModuleDict({str(i): layer for i, layer in enumerate(layers) if layer is not None})


class RosinalityBlock(nn.Module):
    def __init__(self, cin, cout, emb, heads, attention, affine):
        super().__init__()
        block = Holder(
            norm1=nn.GroupNorm(32, cin),
            conv1=nn.Conv2d(cin, cout, 3, padding=1),
            time=numbered(None, nn.Linear(emb, 2 * cout if affine else cout)),
            norm2=nn.GroupNorm(32, cout, affine=not affine),
            conv2=nn.Conv2d(cout, cout, 3, padding=1),
        )
        if cin != cout:
            block.skip = nn.Conv2d(cin, cout, 1)
        self.resblocks, self.affine, self.heads = block, affine, heads
        if attention:
            self.attention = Holder(
                norm=nn.GroupNorm(32, cout),
                qkv=nn.Conv2d(cout, 3 * cout, 1),
                out=nn.Conv2d(cout, cout, 1),
            )

    def forward(self, x, emb):
        b = self.resblocks
        h = b.conv1(F.silu(b.norm1(x)))
        added = b.time["1"](F.silu(emb))[:, :, None, None]
        if self.affine:
            gamma, beta = added.chunk(2, 1)
            h = (1 + gamma) * b.norm2(h) + beta
        else:
            h = b.norm2(h + added)
        h = b.conv2(F.silu(h)) + (b.skip(x) if hasattr(b, "skip") else x)
        return h + self.attend(h) if hasattr(self, "attention") else h

    def attend(self, x):
        a, (n, width, height, side) = self.attention, x.shape
        qkv = a.qkv(a.norm(x)).reshape(n, self.heads, 3 * width // self.heads, height * side)
        q, k, v = qkv.chunk(3, 2)
        # divided by the root of all channels, however many heads there are
        weights = torch.softmax(torch.einsum("nhci,nhcj->nhij", q, k) / math.sqrt(width), -1)
        return a.out(torch.einsum("nhij,nhcj->nhci", weights, v).reshape(n, width, height, side))


class RosinalityNet(nn.Module):
    def __init__(self, ch, mult, layers, attention, heads=1, affine=False):
        super().__init__()
        widths, emb, self.ch = [ch * m for m in mult], 4 * ch, ch
        time = numbered(None, nn.Linear(ch, emb), None, nn.Linear(emb, emb))
        frequencies = Holder()
        frequencies.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, ch, 2) / ch))
        time["0"] = frequencies
        self.time = time

        def block(cin, cout, attends):
            return RosinalityBlock(cin, cout, emb, heads, attends, affine)

        down, skips, width = [nn.Conv2d(3, ch, 3, padding=1)], [ch], ch
        for level, wide in enumerate(widths):
            for _ in range(layers):
                down.append(block(width, wide, level in attention))
                width = wide
                skips.append(width)
            if level < len(widths) - 1:
                down.append(numbered(nn.Conv2d(width, width, 3, stride=2, padding=1)))
                skips.append(width)
        self.down = nn.ModuleList(down)
        self.mid = nn.ModuleList([block(width, width, True), block(width, width, False)])
        up = []
        for level in reversed(range(len(widths))):
            for _ in range(layers + 1):
                up.append(block(width + skips.pop(), widths[level], level in attention))
                width = widths[level]
            if level:
                up.append(numbered(None, nn.Conv2d(width, width, 3, padding=1)))
        self.up = nn.ModuleList(up)
        self.out = numbered(nn.GroupNorm(32, width), None, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x, t):
        angles = t.float()[:, None] * self.time["0"].inv_freq
        emb = self.time["1"](torch.cat([angles.sin(), angles.cos()], 1))
        emb = self.time["3"](F.silu(emb))
        h, skips = x, []
        for layer in self.down:
            if isinstance(layer, RosinalityBlock):
                h = layer(h, emb)
            else:
                h = (layer["0"] if isinstance(layer, nn.ModuleDict) else layer)(h)
            skips.append(h)
        for layer in self.mid:
            h = layer(h, emb)
        for layer in self.up:
            if isinstance(layer, RosinalityBlock):
                h = layer(torch.cat([h, skips.pop()], 1), emb)
            else:
                h = layer["1"](h.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.out["2"](F.silu(self.out["0"](h)))


# ------------------------------------------------------------ lucidrains


class Gain(nn.Module):
    """A norm of every pixel: root mean square 1, or (before 1.7) mean 0 and variance 1."""

    def __init__(self, width, layer=False):
        super().__init__()
        self.g, self.layer = nn.Parameter(torch.ones(1, width, 1, 1)), layer

    def forward(self, x):
        if self.layer:
            var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
            return (x - mean) / (var + 1e-5).sqrt() * self.g
        return x / x.square().mean(1, keepdim=True).sqrt() * self.g


class LucidConv(nn.Module):
    def __init__(self, cin, cout, old):
        super().__init__()
        self.proj, self.old = nn.Conv2d(cin, cout, 3, padding=1), old
        self.norm = nn.GroupNorm(8, cout) if old else Gain(cout)

    def forward(self, x, scale=0, shift=0):
        weight = self.proj.weight
        if self.old:
            var, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
            weight = (weight - mean) / (var + 1e-5).sqrt()
        h = self.norm(F.conv2d(x, weight, self.proj.bias, padding=1))
        return F.silu(h * (scale + 1) + shift)


class LucidBlock(nn.Module):
    def __init__(self, cin, cout, emb, old):
        super().__init__()
        self.mlp = numbered(None, nn.Linear(emb, 2 * cout))
        self.block1, self.block2 = LucidConv(cin, cout, old), LucidConv(cout, cout, old)
        if cin != cout:
            self.res_conv = nn.Conv2d(cin, cout, 1)

    def forward(self, x, emb):
        scale, shift = self.mlp["1"](F.silu(emb))[:, :, None, None].chunk(2, 1)
        h = self.block2(self.block1(x, scale, shift))
        return h + (self.res_conv(x) if hasattr(self, "res_conv") else x)


class LucidAttention(nn.Module):
    def __init__(self, width, linear, heads, dim, old):
        super().__init__()
        self.sizes, self.linear, self.old = (heads, dim), linear, old
        own = Holder() if old else self
        own.to_qkv = nn.Conv2d(width, 3 * heads * dim, 1, bias=False)
        out = nn.Conv2d(heads * dim, width, 1)
        own.to_out = numbered(out, Gain(width, old)) if linear else out
        if old:
            self.fn = Holder(fn=own, norm=Gain(width, old))
        else:
            self.norm = Gain(width)
            shape = (2, heads, dim, 4) if linear else (2, heads, 4, dim)
            self.mem_kv = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        own, norm = (self.fn.fn, self.fn.norm) if self.old else (self, self.norm)
        (n, _, height, side), (heads, dim) = x.shape, self.sizes
        qkv = own.to_qkv(norm(x)).reshape(n, 3, heads, dim, height * side)
        q, k, v = qkv.unbind(1)
        if self.old and self.linear:
            v = v / (height * side)
        if not self.old:
            memory = self.mem_kv if self.linear else self.mem_kv.transpose(2, 3)
            k, v = (
                torch.cat([m.expand(n, -1, -1, -1), part], -1)
                for m, part in zip(memory, (k, v), strict=True)
            )
        if self.linear:
            context = torch.einsum("nhdj,nhej->nhde", k.softmax(-1), v)
            out = torch.einsum("nhde,nhdi->nhei", context, q.softmax(-2) / math.sqrt(dim))
        else:
            weights = torch.einsum("nhdi,nhdj->nhij", q, k) / math.sqrt(dim)
            out = torch.einsum("nhij,nhej->nhei", weights.softmax(-1), v)
        out = out.reshape(n, heads * dim, height, side)
        return x + (own.to_out["1"](own.to_out["0"](out)) if self.linear else own.to_out(out))


class LucidNet(nn.Module):
    """``old``: as version 1.6 had it, with wrapped norms and standardised weights."""

    def __init__(self, ch, mult, out=3, heads=4, head_dim=32, old=False):
        super().__init__()
        widths, emb, self.ch = [ch, *(ch * m for m in mult)], 4 * ch, ch
        last = len(mult) - 1
        self.init_conv = nn.Conv2d(3, ch, 7, padding=3)
        self.time_mlp = numbered(None, nn.Linear(ch, emb), None, nn.Linear(emb, emb))

        def attention(width, linear):
            return LucidAttention(width, linear, heads, head_dim, old)

        def level(cin, width, full, change):
            blocks = [LucidBlock(cin, width, emb, old), LucidBlock(cin, width, emb, old)]
            return nn.ModuleList([*blocks, attention(width, not full), change])

        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i in range(len(mult)):
            width, after = widths[i : i + 2]
            change = numbered(None, nn.Conv2d(4 * width, after, 1))
            if i == last:
                change = nn.Conv2d(width, after, 3, padding=1)
            self.downs.append(level(width, width, i == last and not old, change))
            change = numbered(None, nn.Conv2d(after, width, 3, padding=1))
            if i == 0:
                change = nn.Conv2d(after, width, 3, padding=1)
            self.ups.insert(0, level(after + width, after, i == last and not old, change))
        self.mid_block1 = LucidBlock(widths[-1], widths[-1], emb, old)
        self.mid_attn = attention(widths[-1], False)
        self.mid_block2 = LucidBlock(widths[-1], widths[-1], emb, old)
        self.final_res_block = LucidBlock(2 * ch, ch, emb, old)
        self.final_conv = nn.Conv2d(ch, out, 1)

    def forward(self, x, t):
        half = self.ch // 2
        angles = t.float()[:, None] * 10000.0 ** (-torch.arange(half) / (half - 1))
        emb = self.time_mlp["1"](torch.cat([angles.sin(), angles.cos()], 1))
        emb = self.time_mlp["3"](F.gelu(emb))
        h = first = self.init_conv(x)
        skips = []
        for one, two, attention, change in self.downs:
            h = one(h, emb)
            skips.append(h)
            h = attention(two(h, emb))
            skips.append(h)
            if isinstance(change, nn.ModuleDict):
                h = change["1"](F.pixel_unshuffle(h, 2))
            else:
                h = change(h)
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, emb)), emb)
        for one, two, attention, change in self.ups:
            h = one(torch.cat([h, skips.pop()], 1), emb)
            h = attention(two(torch.cat([h, skips.pop()], 1), emb))
            if isinstance(change, nn.ModuleDict):
                h = change["1"](F.interpolate(h, scale_factor=2, mode="nearest"))
            else:
                h = change(h)
        return self.final_conv(self.final_res_block(torch.cat([h, first], 1), emb))


def lucid_trained(net, schedule, prediction, version="2.2.5"):
    """A trainer's checkpoint: the average has the weights, what was trained has zeros."""
    a = schedule.alpha_bars
    snr = a / (1 - a)
    weight = {"epsilon": snr / snr, "v": snr / (snr + 1), "x0": snr}[prediction]
    state = {f"model.{key}": value for key, value in net.state_dict().items()}
    noise = {"betas": schedule.betas.float(), "loss_weight": weight.float()}
    raw = {key: torch.zeros_like(value) for key, value in state.items()} | noise
    average = {f"ema_model.{key}": value for key, value in (state | noise).items()}
    average |= {f"online_model.{key}": value for key, value in raw.items()}
    steps = {"step": torch.tensor(3), "initted": torch.tensor(True)}
    return {"step": 3, "model": raw, "opt": {}, "ema": average | steps, "version": version}
