"""The U-Net of lucidrains' denoising_diffusion_pytorch, for its weights.

It differs from diffusers' in what no conversion of weights can bridge: norms after the convolutions,
linear attention on every level, keys and values that are remembered, and the first layer's output
beside the last block's input. Its parts have the names of diffusers' U-Net, so that edits, low-rank
updates and shared beginnings work as with any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # of every GroupNorm


class PixelNorm(nn.Module):
    """A norm over the channels of every pixel: to length sqrt(C), or to mean 0 and variance 1."""

    def __init__(self, channels: int, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> the same shape."""
        if not self.centred:
            return F.normalize(x, dim=1) * self.g * math.sqrt(x.shape[1])
        variance = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - x.mean(dim=1, keepdim=True)) * (variance + 1e-5).rsqrt() * self.g


class NormedConv(nn.Module):
    """Convolution, norm, scale and shift, SiLU."""

    def __init__(self, channels: int, out: int, grouped: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm: nn.Module = PixelNorm(out)
        if grouped:
            self.norm = nn.GroupNorm(GROUPS, out)

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """[N,C,H,W] -> [N,out,H,W]; ``scale`` and ``shift`` are [N,out,1,1]."""
        x = self.norm(self.conv(x))
        if scale is not None and shift is not None:
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResBlock(nn.Module):
    """Two normed convolutions, the first under the embedding of time, beside a shortcut."""

    def __init__(self, channels: int, out: int, embedding: int, grouped: bool) -> None:
        super().__init__()
        self.time_emb_proj = nn.Linear(embedding, 2 * out)
        self.block1 = NormedConv(channels, out, grouped)
        self.block2 = NormedConv(out, out, grouped)
        self.conv_shortcut: nn.Module = nn.Identity()
        if channels != out:
            self.conv_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """[N,C,H,W] under emb [N,E] -> [N,out,H,W]."""
        scale, shift = self.time_emb_proj(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, scale, shift)) + self.conv_shortcut(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention between all pixels, or linear attention (Shen et al. 2018), with a shortcut.

    Args:
        memory: learned keys and values that every image sees besides its own.
        linear: whether it is linear in the number of pixels.
        centred: whether the norms centre; ``averages``: whether values are divided by the number of
            pixels (versions before 1.8 did both or the second).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_dim: int,
        memory: int,
        linear: bool,
        centred: bool,
        averages: bool,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.linear, self.averages = heads, head_dim, linear, averages
        width = heads * head_dim
        self.norm = PixelNorm(channels, centred)
        self.to_qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.to_out = nn.Conv2d(width, channels, 1)
        self.norm_out: nn.Module = nn.Identity()
        if linear:
            self.norm_out = PixelNorm(channels, centred)
        self.memory: nn.Parameter | None = None
        if memory:
            self.memory = nn.Parameter(torch.randn(2, heads, memory, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> the same shape."""
        count, _, height, width = x.shape
        parts = self.to_qkv(self.norm(x)).chunk(3, dim=1)
        shape = (count, self.heads, self.head_dim, height * width)
        q, k, v = (part.reshape(shape).transpose(2, 3) for part in parts)  # [N, heads, HW, dim]
        if self.linear and self.averages:
            v = v / (height * width)
        if self.memory is not None:
            keys, values = self.memory[:, None].expand(-1, count, -1, -1, -1)
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        attend = self._linear if self.linear else self._full
        out = attend(q, k, v).transpose(2, 3).reshape(count, -1, height, width)
        return x + self.norm_out(self.to_out(out))  # type: ignore[no-any-return]

    def _full(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def _linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = q.softmax(dim=-1) * self.head_dim**-0.5
        context = k.softmax(dim=-2).transpose(2, 3) @ v
        return q @ context


class Fold(nn.Module):
    """Half the size: every 2 x 2 pixels become channels, then a convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,out,H/2,W/2]."""
        return self.conv(F.pixel_unshuffle(x, 2))  # type: ignore[no-any-return]


class Enlarge(nn.Module):
    """Twice the size, then a convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,out,2H,2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class Level(nn.Module):
    """Two blocks and attention, then to the next level."""

    def __init__(self, resnets: Sequence[ResBlock], attention: Attention, leave: nn.Module) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList([attention])
        self.resample = leave


class Down(Level):
    """A level on the way down."""

    def forward(self, x: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """To the next level, and the two skips."""
        first = self.resnets[0](x, emb)
        second = self.attentions[0](self.resnets[1](first, emb))
        return self.resample(second), first, second


class Up(Level):
    """A level on the way up."""

    def forward(self, x: Tensor, emb: Tensor, skips: tuple[Tensor, Tensor]) -> Tensor:
        """To the next level, with the two skips in the order in which they are used."""
        x = self.resnets[0](torch.cat([x, skips[0]], dim=1), emb)
        x = self.resnets[1](torch.cat([x, skips[1]], dim=1), emb)
        return self.resample(self.attentions[0](x))  # type: ignore[no-any-return]


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, resnets: Sequence[ResBlock], attention: Attention) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList([attention])

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """The lowest level."""
        x = self.attentions[0](self.resnets[0](x, emb))
        return self.resnets[1](x, emb)  # type: ignore[no-any-return]


class TimeEmbedding(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(channels, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """[N,M] -> [N,E]."""
        return self.linear_2(F.gelu(self.linear_1(x)))  # type: ignore[no-any-return]


class LinearUnet(nn.Module):
    """The whole network: ``forward(x [N,3,H,W], t [N])[0]`` is what it predicts.

    Args:
        sample_size: height and width of the images, in pixels.
        in_channels, out_channels: of the images, and of what comes out.
        time_channels: sinusoids of time.
        block_out_channels: the first layer's channels, then those that each level gives on.
        full_attention: whether each level has full attention, from full resolution down.
        heads, head_dims: of each level's attention; the middle has those of the last.
        memory: remembered keys and values of every attention.
        grouped: whether blocks have a GroupNorm, not a ``PixelNorm``.
        folds: whether levels are left by folding pixels, not by a strided convolution.
        centred, averages: as in ``Attention``.
    """

    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        time_channels: int,
        block_out_channels: Sequence[int],
        full_attention: Sequence[bool],
        heads: Sequence[int],
        head_dims: Sequence[int],
        memory: int = 0,
        grouped: bool = False,
        folds: bool = True,
        centred: bool = False,
        averages: bool = False,
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(sample_size=sample_size, in_channels=in_channels)
        self.time_channels = time_channels
        embedding = 4 * time_channels
        first, last = block_out_channels[0], block_out_channels[-1]
        levels = len(block_out_channels) - 1

        def block(channels: int, out: int) -> ResBlock:
            return ResBlock(channels, out, embedding, grouped)

        def attention(channels: int, level: int, full: bool) -> Attention:
            sizes = heads[level], head_dims[level], memory
            return Attention(channels, *sizes, not full, centred, averages)

        self.conv_in = nn.Conv2d(in_channels, first, 7, padding=3)
        self.time_embedding = TimeEmbedding(time_channels, embedding)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            width, out = block_out_channels[level : level + 2]
            leave = _shrink(width, out, level == levels - 1, folds)
            attended = attention(width, level, full_attention[level])
            blocks = [block(width, width), block(width, width)]
            self.down_blocks.append(Down(blocks, attended, leave))
        self.mid_block = Middle(
            [block(last, last), block(last, last)], attention(last, levels - 1, True)
        )
        for level in reversed(range(levels)):
            out, width = block_out_channels[level : level + 2]
            rise: nn.Module = Enlarge(width, out)
            if level == 0:
                rise = nn.Conv2d(width, out, 3, padding=1)
            attended = attention(width, level, full_attention[level])
            blocks = [block(width + out, width), block(width + out, width)]
            self.up_blocks.append(Up(blocks, attended, rise))
        self.last_block = block(2 * first, first)
        self.conv_out = nn.Conv2d(first, out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """What the network predicts of x_t [N,C,H,W] at the timesteps t [N]."""
        emb = self.time_embedding(self._sinusoids(t).to(x.dtype))
        start = x = self.conv_in(x)
        skips: list[Tensor] = []
        for level in self.down_blocks:
            x, *kept = level(x, emb)
            skips += kept
        x = self.mid_block(x, emb)
        for level in self.up_blocks:
            x = level(x, emb, (skips.pop(), skips.pop()))
        x = self.last_block(torch.cat([x, start], dim=1), emb)
        return (self.conv_out(x),)

    def _sinusoids(self, t: Tensor) -> Tensor:
        """[N] -> [N, time_channels]: sines, then cosines."""
        half = self.time_channels // 2
        exponents = torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1))
        angles = t[:, None].float() * exponents.exp()
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _shrink(channels: int, out: int, last: bool, folds: bool) -> nn.Module:
    """How a level is left on the way down: the last one keeps its size."""
    if last:
        return nn.Conv2d(channels, out, 3, padding=1)
    if folds:
        return Fold(channels, out)
    return nn.Conv2d(channels, out, 4, stride=2, padding=1)
