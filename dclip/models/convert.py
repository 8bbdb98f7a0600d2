"""Foreign diffusion checkpoints become ours: published U-Nets in, diffusers' ``UNet2DModel`` out, nothing lost on the way.

=============  =========================================================================================================
format         whose files
=============  =========================================================================================================
``ddim``       DDPM in PyTorch (CelebA-HQ, LSUN, CIFAR-10; SDEdit's and DiffusionCLIP's files): ``down.0.block.0.conv1``
``adm``        improved / guided diffusion (AFHQ, FFHQ, ImageNet-512): ``input_blocks.1.0.in_layers.2``
``diffusers``  a ``UNet2DModel`` folder with its config.json: ``down_blocks.0.resnets.0.conv1``
=============  =========================================================================================================

Names and shapes tell widths, levels, blocks, attention, learned variance, scale-shift and the kind of resampling. They do
not tell what follows, which is therefore taken as published, and said in ``Recognised.notes``:

* image size: that of the known model of these shapes, else 8 pixels at the lowest level (``image_size`` overrides);
* heads: one in ``ddim``; 64 channels a head in ``adm`` (``head_dim`` overrides; a wrong one loads and paints nonsense);
* dropout and the fixed variances: those of the known model, else 0 and ``fixed_small``;
* 32 groups in every norm, legacy attention order, timesteps 0 .. 999, Ho et al.'s linear schedule.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError
from dclip.files import cache_dir
from dclip.models.foreign import _first, _need, read_foreign, weights_file
from dclip.models.header import read_header, t0_from_name
from dclip.models.saved import file_digest, model_header, save_weights
from dclip.models.unet import VARIANCES, ModelInfo, build_unet

VERSION = 1  # of the conversion: part of the cache key, so that a mended converter never meets its old results


GROUPS = 32  # channels of every published network are normalised in 32 groups


TIMESTEPS = 1000


LOWEST = 8  # pixels at the lowest level, where the size is unknown


_INPUTS = {"ddim": "conv_in", "adm": "input_blocks.0.0", "diffusers": "conv_in"}


_OUTPUTS = {"ddim": "conv_out", "adm": "out.2", "diffusers": "conv_out"}


_MARKS = {
    "ddim": "temb.dense.0.weight",
    "adm": "time_embed.0.weight",
    "diffusers": "time_embedding.linear_1.weight",
}


@dataclass(frozen=True)
class Recognised:
    """What names and shapes say about a foreign state dict.

    ``format`` is ``ddim``, ``adm`` or ``diffusers``; ``unet`` is what ``UNet2DModel`` takes (empty for ``diffusers``
    without its config.json); ``variance`` is one of ``VARIANCES``; ``unused`` names keys that are left out on purpose.
    """

    format: str
    unet: dict[str, Any]
    variance: str
    notes: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """A published model: what its shapes do not tell."""

    name: str
    image_size: int
    variance: str = "fixed_small"
    dropout: float = 0.0


# format, width of each level, blocks a level, levels with attention, channels out
KNOWN: dict[tuple[str, tuple[int, ...], int, tuple[int, ...], int], Known] = {
    ("ddim", (128, 128, 256, 256, 512, 512), 2, (4,), 3): Known("CelebA-HQ or LSUN 256", 256),
    ("ddim", (128, 256, 256, 256), 2, (1,), 3): Known("CIFAR-10", 32, "fixed_large", 0.1),
    ("adm", (128, 128, 256, 256, 512, 512), 1, (4,), 6): Known(
        "AFHQ or FFHQ 256 (ADM)", 256, "learned_range"
    ),
    ("adm", (128, 256, 256, 512, 512, 1024, 1024), 2, (4, 5, 6), 6): Known(
        "ImageNet 512 (ADM)", 512, "learned_range"
    ),
}


# ---------------------------------------------------------------------------------------------------- recognise


def recognise(
    state: Mapping[str, Tensor],
    head_dim: int = 64,
    image_size: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Recognised:
    """What network a state dict is of, from names and shapes alone (meta tensors will do).

    ``head_dim`` (channels an attention head) matters for ``adm`` only, ``image_size`` replaces the assumed one, ``config``
    is the config.json of the ``diffusers`` format. DclipError where no known architecture has such names.
    """
    kind = next((kind for kind, mark in _MARKS.items() if mark in state), None)
    if kind is None:
        raise DclipError(
            f"these weights are of no known diffusion format ({_first(state) or 'no tensors'}); known: {', '.join(_MARKS)}"
        )
    if kind == "diffusers":
        return _recognise_diffusers(state, image_size, config)
    return (
        _recognise_ddim(state, image_size)
        if kind == "ddim"
        else _recognise_adm(state, head_dim, image_size)
    )


def _side(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    """Length of one axis of a tensor that must be there."""
    value = state.get(key)
    if value is None or value.ndim <= axis:
        raise DclipError(
            f"these weights are not a whole diffusion model: {key} is missing or misshapen; fetch the file again"
        )
    return int(value.shape[axis])


def _indices(state: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for key in state if (match := re.match(pattern, key))}


def _recognise_ddim(state: Mapping[str, Tensor], image_size: int | None) -> Recognised:
    levels = range(len(_indices(state, r"down\.(\d+)\.")))
    layers = len(_indices(state, r"down\.0\.block\.(\d+)\."))
    widths = tuple(_side(state, f"down.{level}.block.0.conv1.weight") for level in levels)
    attention = tuple(level for level in levels if f"down.{level}.attn.0.q.weight" in state)
    own = {
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "downsample_padding": 0,
        "attention_head_dim": None,  # one head; any other number would load as well
    }
    return _described("ddim", state, widths, layers, attention, own, image_size)


def _recognise_adm(
    state: Mapping[str, Tensor], head_dim: int, image_size: int | None
) -> Recognised:
    blocks = len(_indices(state, r"output_blocks\.(\d+)\."))
    # a level ends where its last output block enlarges: a block of its own (no weights in the resampling), or a convolution
    ends = _indices(state, r"output_blocks\.(\d+)\.[12]\.(?:in_layers\.2|conv)\.weight")
    levels = range(len(ends) + 1)
    _need(
        blocks > 0 and blocks % len(levels) == 0,
        f"these adm weights have {blocks} output blocks for {len(levels)} levels",
    )
    layers = blocks // len(levels) - 1
    firsts = [
        f"input_blocks.{1 + level * (layers + 1)}" for level in levels
    ]  # the first block of each level
    widths = tuple(_side(state, f"{first}.0.out_layers.3.weight") for first in firsts)
    attention = tuple(level for level in levels if f"{firsts[level]}.1.qkv.weight" in state)
    for width in (*(widths[level] for level in attention), widths[-1]):
        _need(
            head_dim > 0 and width % head_dim == 0,
            f"head_dim={head_dim} does not divide {width} channels; give head_dim, the channels an attention head was trained with",
        )
    resamples = not ends or any(
        ".in_layers." in key for key in state if re.match(r"output_blocks\.\d+\.[12]\.in_", key)
    )
    own = _adm_settings(state, widths, head_dim, resamples)
    return _described("adm", state, widths, layers, attention, own, image_size)


def _adm_settings(
    state: Mapping[str, Tensor], widths: tuple[int, ...], head_dim: int, resamples: bool
) -> dict[str, Any]:
    scale_shift = _side(state, "middle_block.0.emb_layers.1.weight") == 2 * widths[-1]
    embedded = _side(state, "time_embed.0.weight")
    settings = {
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "downsample_type": "resnet" if resamples else "conv",
        "upsample_type": "resnet" if resamples else "conv",
        "attention_head_dim": head_dim,
        "attn_norm_num_groups": GROUPS,  # else diffusers leaves the middle attention's norm out under scale_shift
        "time_embedding_dim": embedded,
    }
    if _side(state, "time_embed.0.weight", 1) != widths[0]:
        # ImageNet-512 embeds time in 256 channels, its first level has 128, and UNet2DModel knows one number for both
        settings |= {"time_embedding_type": "learned", "num_train_timesteps": TIMESTEPS}
    return settings


def _block_types(
    levels: int, attention: tuple[int, ...], resamples: bool
) -> dict[str, tuple[str, ...]]:
    kind = "Resnet{}sampleBlock2D" if resamples else "{}Block2D"
    kinds = ["Attn{}Block2D" if level in attention else kind for level in range(levels)]
    down = tuple(name.format("Down") for name in kinds)
    return {
        "down_block_types": down,
        "up_block_types": tuple(name.format("Up") for name in reversed(kinds)),
    }


def _described(
    kind: str,
    state: Mapping[str, Tensor],
    widths: tuple[int, ...],
    layers: int,
    attention: tuple[int, ...],
    own: dict[str, Any],
    image_size: int | None,
) -> Recognised:
    """Put together what both published formats have in common."""
    _need(
        layers > 0 and len(widths) > 0, f"these {kind} weights have no blocks; fetch the file again"
    )
    odd = [str(width) for width in widths if width % GROUPS]
    _need(
        not odd,
        f"these {kind} weights have {', '.join(odd)} channels, not multiples of {GROUPS}: no published network has",
    )
    channels, out = (
        _side(state, f"{_INPUTS[kind]}.weight", 1),
        _side(state, f"{_OUTPUTS[kind]}.weight"),
    )
    known = KNOWN.get((kind, widths, layers, attention, out))
    assumed = known.image_size if known else LOWEST * 2 ** (len(widths) - 1)
    unet = {
        "sample_size": _size(assumed if image_size is None else image_size, len(widths)),
        "in_channels": channels,
        "out_channels": out,
        "block_out_channels": widths,
        "layers_per_block": layers,
        **_block_types(len(widths), attention, own.get("downsample_type") == "resnet"),
        "norm_num_groups": GROUPS,
        "dropout": known.dropout if known else 0.0,
        **own,
    }
    fixed = known.variance if known else "fixed_small"
    unused = tuple(key for key in state if kind == "adm" and key.startswith("label_emb."))
    return Recognised(
        kind,
        unet,
        "learned_range" if out == 2 * channels else fixed,
        _notes(kind, unet, known),
        unused,
    )


def _notes(kind: str, unet: dict[str, Any], known: Known | None) -> dict[str, Any]:
    assumed = {"image_size": unet["sample_size"], "dropout": unet["dropout"]}
    heads = {} if kind == "ddim" else {"head_dim": unet["attention_head_dim"]}
    return {"format": kind, "model": known.name if known else "unknown", "assumed": assumed | heads}


def _size(image_size: int, levels: int) -> int:
    step: int = 2 ** (levels - 1)
    _need(
        image_size > 0 and image_size % step == 0,
        f"image_size={image_size} is impossible: this network halves images {levels - 1} times; give a multiple of {step}",
    )
    return image_size


def _recognise_diffusers(
    state: Mapping[str, Tensor], image_size: int | None, config: Mapping[str, Any] | None
) -> Recognised:
    channels, out = _side(state, "conv_in.weight", 1), _side(state, "conv_out.weight")
    variance = "learned_range" if out == 2 * channels else "fixed_small"
    unused = tuple(key for key in state if key.startswith("class_embedding."))
    notes: dict[str, Any] = {"format": "diffusers"}
    if config is None:  # names do not tell the time embedding, nor the heads
        return Recognised("diffusers", {}, variance, notes | {"missing": "config.json"}, unused)
    unet = _diffusers_config(config)
    size = _square(unet.get("sample_size") if image_size is None else image_size)
    unet["sample_size"] = _size(size, len(unet["block_out_channels"]))
    return Recognised("diffusers", unet, variance, notes, unused)


def _square(size: Any) -> int:
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = sides.pop()
    _need(
        isinstance(side, int) and not sides,
        f"config.json: sample_size={size} is no square; give image_size",
    )
    return int(side)


def _diffusers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as arguments of ``UNet2DModel``, without class embedding."""
    from diffusers import UNet2DModel

    name, time = (
        config.get("_class_name", "UNet2DModel"),
        config.get("time_embedding_type", "positional"),
    )
    _need(
        name == "UNet2DModel",
        f"config.json describes a {name}; only an unconditional UNet2DModel in pixel space will do",
    )
    _need(
        time != "fourier",
        f"config.json: time_embedding_type={time} belongs to score models; a network that predicts eps is needed",
    )
    _need(
        "block_out_channels" in config,
        "config.json has no block_out_channels; give the config.json of these weights",
    )
    unet = {key: value for key, value in config.items() if not key.startswith("_")}
    strange = set(unet) - set(inspect.signature(UNet2DModel.__init__).parameters)
    # diffusers would ignore them, and load a network that differs from the trained one where they mattered
    _need(
        not strange,
        f"config.json has settings that UNet2DModel does not take ({_first(strange)}); take them out if they are idle",
    )
    return unet | {"class_embed_type": None, "num_class_embeds": None}


# ---------------------------------------------------------------------------------------------------- convert

# names inside a residual block and inside an attention block: theirs -> diffusers' (a fused qkv becomes three)
Renames = dict[str, tuple[str, ...]]


_DDIM_BLOCK: Renames = {
    "norm1": ("norm1",),
    "conv1": ("conv1",),
    "temb_proj": ("time_emb_proj",),
    "norm2": ("norm2",),
    "conv2": ("conv2",),
    "nin_shortcut": ("conv_shortcut",),
}


_ADM_BLOCK: Renames = {
    "in_layers.0": ("norm1",),
    "in_layers.2": ("conv1",),
    "emb_layers.1": ("time_emb_proj",),
    "out_layers.0": ("norm2",),
    "out_layers.3": ("conv2",),
    "skip_connection": ("conv_shortcut",),
}


_DDIM_ATTENTION: Renames = {
    "norm": ("group_norm",),
    "q": ("to_q",),
    "k": ("to_k",),
    "v": ("to_v",),
    "proj_out": ("to_out.0",),
}


_ADM_ATTENTION: Renames = {
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "proj_out": ("to_out.0",),
}


_RENAMES: dict[str, dict[str, Renames]] = {
    "ddim": {"res": _DDIM_BLOCK, "attn": _DDIM_ATTENTION, "one": {"": ("",)}},
    "adm": {"res": _ADM_BLOCK, "attn": _ADM_ATTENTION, "one": {"": ("",)}},
}


_OLD_ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}  # diffusers before 0.13


Module = tuple[
    str, str, str
]  # their name, diffusers' name, "res" | "attn" | "one" (a single layer)


@dataclass(frozen=True)
class Origin:
    """Where a tensor of ours comes from: their key, and which third of a fused qkv."""

    key: str
    part: int | None = None


def convert(state: Mapping[str, Tensor], recognised: Recognised) -> dict[str, Tensor]:
    """The state dict of the ``UNet2DModel`` that ``recognised.unet`` describes, float32, every tensor owning its memory.

    Strict: every key of theirs is used or is in ``recognised.unused``, every key of ours is filled, every shape agrees.
    DclipError in one line otherwise.
    """
    _need(
        bool(recognised.unet),
        "these diffusers weights need the config.json they were saved with; give its folder, or put it beside the file",
    )
    targets = _targets(json.dumps(recognised.unet, sort_keys=True))
    origins = key_map(recognised, state, targets)
    _check_names(state, recognised, origins, targets)
    head_dim = recognised.unet.get("attention_head_dim")
    filled = {new: _take(state[origin.key], origin, head_dim) for new, origin in origins.items()}
    if _folds_time(recognised):
        filled |= _time_table(
            filled["time_embedding.linear_1.weight"], recognised.unet["block_out_channels"][0]
        )
    return {new: _fit(filled[new], shape, new, origins) for new, shape in targets.items()}


@lru_cache(maxsize=4)
def _targets(unet: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of ours; built without memory."""
    try:
        with torch.device("meta"):
            net = build_unet(json.loads(unet))
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, AssertionError) as error:
        raise DclipError(
            f"UNet2DModel refuses this configuration ({' '.join(str(error).split())[:200]}); see config.json"
        ) from error
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def key_map(
    recognised: Recognised, state: Iterable[str], targets: Iterable[str]
) -> dict[str, Origin]:
    """Our key -> where it comes from, for every tensor in ``targets`` that has an origin of its own."""
    if recognised.format == "diffusers":
        return {_modern(key): Origin(key) for key in state if key not in recognised.unused}
    modules = (_ddim_modules if recognised.format == "ddim" else _adm_modules)(recognised.unet)
    wanted = set(targets)  # a 1 x 1 shortcut is there only where a block changes its width
    return {new: origin for new, origin in _leaves(recognised.format, modules) if new in wanted}


def _modern(key: str) -> str:
    return re.sub(
        r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.",
        lambda m: f"{m[1]}.{_OLD_ATTENTION[m[2]]}.",
        key,
    )


def _leaves(kind: str, modules: Iterable[Module]) -> Iterator[tuple[str, Origin]]:
    """Modules to tensors: every layer has a weight and a bias."""
    for theirs, ours, sort in modules:
        for old, news in _RENAMES[kind][sort].items():
            for part, new in enumerate(news):
                for leaf in ("weight", "bias"):
                    origin = Origin(
                        ".".join(filter(None, (theirs, old, leaf))), part if len(news) > 1 else None
                    )
                    yield ".".join(filter(None, (ours, new, leaf))), origin


def _attends(unet: Mapping[str, Any]) -> list[bool]:
    return [name.startswith("Attn") for name in unet["down_block_types"]]


def _ddim_modules(unet: Mapping[str, Any]) -> Iterator[Module]:
    """Their ``up`` list is in the order of levels (0 = full resolution), ours begins at the lowest."""
    layers, attends = unet["layers_per_block"], _attends(unet)
    yield from (
        ("temb.dense.0", "time_embedding.linear_1", "one"),
        ("temb.dense.1", "time_embedding.linear_2", "one"),
    )
    yield from (
        ("conv_in", "conv_in", "one"),
        ("norm_out", "conv_norm_out", "one"),
        ("conv_out", "conv_out", "one"),
    )
    yield from (
        ("mid.block_1", "mid_block.resnets.0", "res"),
        ("mid.block_2", "mid_block.resnets.1", "res"),
    )
    yield "mid.attn_1", "mid_block.attentions.0", "attn"
    for level, last in enumerate(
        reversed(range(len(attends)))
    ):  # `last` is the level's place in our up list
        for theirs, ours, count in (
            (f"down.{level}", f"down_blocks.{level}", layers),
            (f"up.{level}", f"up_blocks.{last}", layers + 1),
        ):
            yield from ((f"{theirs}.block.{j}", f"{ours}.resnets.{j}", "res") for j in range(count))
            yield from (
                (f"{theirs}.attn.{j}", f"{ours}.attentions.{j}", "attn")
                for j in range(count)
                if attends[level]
            )
        if last:
            yield f"down.{level}.downsample.conv", f"down_blocks.{level}.downsamplers.0.conv", "one"
        if level:
            yield f"up.{level}.upsample.conv", f"up_blocks.{last}.upsamplers.0.conv", "one"


def _adm_modules(unet: Mapping[str, Any]) -> Iterator[Module]:
    """Their blocks are one flat list a side, in the order in which they run."""
    yield from (
        ("time_embed.0", "time_embedding.linear_1", "one"),
        ("time_embed.2", "time_embedding.linear_2", "one"),
    )
    yield from (
        ("input_blocks.0.0", "conv_in", "one"),
        ("out.0", "conv_norm_out", "one"),
        ("out.2", "conv_out", "one"),
    )
    yield from (
        ("middle_block.0", "mid_block.resnets.0", "res"),
        ("middle_block.2", "mid_block.resnets.1", "res"),
    )
    yield "middle_block.1", "mid_block.attentions.0", "attn"
    yield from _adm_inputs(
        unet["layers_per_block"], _attends(unet), unet["downsample_type"] == "resnet"
    )
    yield from _adm_outputs(
        unet["layers_per_block"], _attends(unet), unet["upsample_type"] == "resnet"
    )


def _adm_inputs(layers: int, attends: list[bool], resamples: bool) -> Iterator[Module]:
    for level, attention in enumerate(attends):
        first, ours = 1 + level * (layers + 1), f"down_blocks.{level}"
        for j in range(layers):
            yield f"input_blocks.{first + j}.0", f"{ours}.resnets.{j}", "res"
            if attention:
                yield f"input_blocks.{first + j}.1", f"{ours}.attentions.{j}", "attn"
        if level < len(attends) - 1:
            theirs = f"input_blocks.{first + layers}.0"
            yield (
                (theirs, f"{ours}.downsamplers.0", "res")
                if resamples
                else (f"{theirs}.op", f"{ours}.downsamplers.0.conv", "one")
            )


def _adm_outputs(layers: int, attends: list[bool], resamples: bool) -> Iterator[Module]:
    for place, attention in enumerate(reversed(attends)):
        first, ours = place * (layers + 1), f"up_blocks.{place}"
        for j in range(layers + 1):
            yield f"output_blocks.{first + j}.0", f"{ours}.resnets.{j}", "res"
            if attention:
                yield f"output_blocks.{first + j}.1", f"{ours}.attentions.{j}", "attn"
        if place < len(attends) - 1:
            theirs = f"output_blocks.{first + layers}.{2 if attention else 1}"
            yield (
                (theirs, f"{ours}.upsamplers.0", "res")
                if resamples
                else (f"{theirs}.conv", f"{ours}.upsamplers.0.conv", "one")
            )


def _check_names(
    state: Mapping[str, Tensor],
    recognised: Recognised,
    origins: Mapping[str, Origin],
    targets: Mapping[str, tuple[int, ...]],
) -> None:
    used = {origin.key for origin in origins.values()} | set(recognised.unused)
    made = {"time_proj.weight"} if _folds_time(recognised) else set()
    missing = {key for key in used if key not in state} | set(targets) - set(origins) - made
    unknown = {key for key in state if key not in used} | {
        origins[key].key for key in set(origins) - set(targets)
    }
    problems = [f"missing {_first(missing)}"] * bool(missing) + [
        f"unknown {_first(unknown)}"
    ] * bool(unknown)
    _need(
        not problems,
        f"these {recognised.format} weights do not make a whole network: {'; '.join(problems)}; give the file as it was published",
    )


def _take(value: Tensor, origin: Origin, head_dim: int | None) -> Tensor:
    """A float32 copy of a tensor, or of its third of a fused qkv [3C, ...]."""
    value = value.detach().float()
    if origin.part is None:
        return value.clone()
    assert head_dim is not None
    # legacy order: the rows of each head lie together, [q | k | v], head_dim rows each
    _need(
        len(value) % (3 * head_dim) == 0,
        f"{origin.key} has {len(value)} rows, not a multiple of 3 x head_dim={head_dim}",
    )
    heads = value.reshape(-1, 3, head_dim, *value.shape[1:])
    return heads[:, origin.part].flatten(0, 1).clone()


def _fit(value: Tensor, shape: tuple[int, ...], new: str, origins: Mapping[str, Origin]) -> Tensor:
    """The tensor in its new shape: attention was written as 1 x 1 convolutions [C, C, 1(, 1)], ours is linear [C, C]."""
    if value.ndim > len(shape) == 2 and set(value.shape[2:]) == {1} and ".attentions." in new:
        value = value.flatten(1)
    name = origins[new].key if new in origins else new
    _need(
        tuple(value.shape) == shape,
        f"{name} has shape {tuple(value.shape)} where {shape} is needed (as {new}); give the file as it was published",
    )
    return value.contiguous()


def _folds_time(recognised: Recognised) -> bool:
    return recognised.format == "adm" and recognised.unet.get("time_embedding_type") == "learned"


def _time_table(weight: Tensor, width: int) -> dict[str, Tensor]:
    """A sinusoidal embedding of M channels and its first layer [E, M] as a table [T, width] and a layer [E, width].

    ``UNet2DModel`` embeds time in as many channels as its first level has; ImageNet-512 needs M = 256 where it has 128. The
    256 sinusoids at t = 0 .. 999 span only about 105 dimensions in float32 (most are slow), so their first 128 singular
    vectors hold all of them: the largest error is 5e-7, a hundredth of what float32 rounds away in sin(t).
    """
    sinusoids = _sinusoids(int(weight.shape[1])).double()
    u, s, vh = torch.linalg.svd(sinusoids, full_matrices=False)
    kept = min(width, len(s))
    table = torch.zeros(TIMESTEPS, width, dtype=torch.float64)
    table[:, :kept] = u[:, :kept] * s[:kept]
    error = float((table[:, :kept] @ vh[:kept] - sinusoids).abs().max())
    _need(
        error < 1e-5,
        f"time_embed.0.weight: {weight.shape[1]} time channels do not fit into {width} (error {error:.1g})",
    )
    linear = torch.zeros(len(weight), width, dtype=torch.float64)
    linear[:, :kept] = weight.double() @ vh[:kept].T
    return {"time_proj.weight": table.float(), "time_embedding.linear_1.weight": linear.float()}


def _sinusoids(channels: int) -> Tensor:
    """float32 [T, M], [cos | sin] of t * 1e4^(-i / (M/2)), rounded as the published code rounds."""
    half = channels // 2
    _need(
        channels == 2 * half > 0,
        f"time_embed.0.weight has {channels} time channels, an odd number; fetch the file again",
    )
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(TIMESTEPS, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], 1)


# ---------------------------------------------------------------------------------------------------- load


def load_foreign(
    path: str | Path, head_dim: int = 64, image_size: int | None = None, ema: bool = False
) -> tuple[nn.Module, ModelInfo]:
    """A foreign checkpoint as a ``UNet2DModel`` (float32, CPU, frozen, eval mode) with what is known about it.

    Its ``forward(x [N,3,H,W], t int64 [N], return_dict=False)[0]`` is the published network's. DclipError as
    :func:`read_foreign`, :func:`recognise` and :func:`convert` raise it.
    """
    file = weights_file(path)
    state = read_foreign(file, ema)
    config = _json(file.with_name("config.json")) if _MARKS["diffusers"] in state else None
    recognised = recognise(state, head_dim, image_size, config)
    schedule, recognised = _scheduled(file, recognised)
    weights = convert(state, recognised)
    with torch.device("meta"):  # no time and memory for random weights
        unet = build_unet(recognised.unet)
    unet.load_state_dict(weights, assign=True)
    notes = recognised.notes | {
        "source": file.name,
        "source_sha256": file_digest(file),
        "t0": t0_from_name(path),
    }
    if recognised.unused:
        notes["unused"] = list(recognised.unused)
    info = ModelInfo(Path(path).stem, recognised.unet, recognised.variance, schedule, notes)
    return unet.eval().requires_grad_(False), info


def converted(
    path: str | Path, head_dim: int = 64, image_size: int | None = None, ema: bool = False
) -> Path:
    """One of our safetensors files with a foreign checkpoint's weights, for ``load_model``; made once, then reused.

    It lies in ``cache_dir()/converted`` under the SHA-256 of the source and of the options.
    """
    file = weights_file(path)
    beside = {
        name.name: file_digest(name)
        for name in (file.with_name("config.json"), *_scheduler_files(file))
        if name.is_file()
    }
    key = json.dumps(
        [VERSION, file_digest(file), beside, Path(path).stem, head_dim, image_size, ema],
        sort_keys=True,
    )
    target = cache_dir() / "converted" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    if not _whole(target):
        unet, info = load_foreign(path, head_dim, image_size, ema)
        save_weights(target, unet, model_header(info))
    return target


def _whole(path: Path) -> bool:
    try:
        return path.is_file() and bool(read_header(path))
    except DclipError:
        return False  # made again


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DclipError(f"{file} is not JSON ({error}); fetch it again") from error
    _need(isinstance(content, dict), f"{file} holds no settings; fetch it again")
    return dict(content)


_SCHEDULE = {"num_train_timesteps": TIMESTEPS, "beta_start": 1e-4, "beta_end": 0.02}


def _scheduler_files(file: Path) -> list[Path]:
    """Beside the weights, or where a pipeline's folder has it."""
    pipeline = (
        [file.parent.parent / "scheduler" / "scheduler_config.json"]
        if file.parent.name == "unet"
        else []
    )
    return [file.with_name("scheduler_config.json"), *pipeline]


def _scheduled(file: Path, recognised: Recognised) -> tuple[Schedule, Recognised]:
    """The schedule that a diffusers folder names, and its kind of variance. DclipError for schedules that we do not have."""
    found = (
        (_json(place) for place in _scheduler_files(file))
        if recognised.format == "diffusers"
        else ()
    )
    config = next(filter(None, found), None)
    if config is None:
        return Schedule(), recognised
    needed = {
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "trained_betas": None,
        "rescale_betas_zero_snr": False,
    }
    other = [
        f"{key}={config[key]}" for key, value in needed.items() if config.get(key, value) != value
    ]
    _need(
        not other,
        f"scheduler_config.json has {', '.join(other)}; only models that predict epsilon on linear betas are known",
    )
    steps, start, end = (config.get(key, default) for key, default in _SCHEDULE.items())
    variance = str(config.get("variance_type", "fixed_small")).removesuffix("_log")
    keep = recognised.variance == "learned_range" or variance not in VARIANCES
    return Schedule(int(steps), float(start), float(end)), recognised if keep else replace(
        recognised, variance=variance
    )
