"""Foreign diffusion checkpoints become ours: published U-Nets in, diffusers' ``UNet2DModel`` out.

Nothing is lost on the way: every tensor of theirs is used or left out on purpose, every one of ours
is filled. ``dclip.models.recognise`` says what network a file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError, need, one_line
from dclip.files import cache_dir
from dclip.models import lucid_layout
from dclip.models.folders import config_file, parts, read_object, scheduler_file, weights_file
from dclip.models.foreign import Contents, first_names, read_contents
from dclip.models.header import read_header, t0_from_name
from dclip.models.hints import NO_HINTS, Hints
from dclip.models.inert import held
from dclip.models.recognise import MARKS, Recognised, recognise, told
from dclip.models.saved import file_digest, model_header, save_weights
from dclip.models.scheduler import read_training
from dclip.models.unet import ModelInfo, build_unet
from dclip.runtime.cache import can_keep

# Of the conversion: part of the cache key, so that a mended converter never meets its old results.
VERSION = 3


# ------------------------------------------------------------ which tensor becomes which


@dataclass(frozen=True)
class Origin:
    """Where a tensor of ours comes from.

    Attributes:
        key: their name.
        part: which third of a fused qkv.
        filled: the value of a tensor that they do not have.
        factor: what a tensor is multiplied with.
    """

    key: str
    part: int | None = None
    filled: float | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class Module:
    """A part of the network under their name and ours; ``kind`` is a key of ``_LAYERS``."""

    theirs: str
    ours: str
    kind: str = "layer"


# The layers inside a module: their name -> ours (a fused qkv becomes three).
Layers = dict[str, tuple[str, ...]]

_DDIM_BLOCK: Layers = {
    "norm1": ("norm1",),
    "conv1": ("conv1",),
    "temb_proj": ("time_emb_proj",),
    "norm2": ("norm2",),
    "conv2": ("conv2",),
    "nin_shortcut": ("conv_shortcut",),
}
_ADM_BLOCK: Layers = {
    "in_layers.0": ("norm1",),
    "in_layers.2": ("conv1",),
    "emb_layers.1": ("time_emb_proj",),
    "out_layers.0": ("norm2",),
    "out_layers.3": ("conv2",),
    "skip_connection": ("conv_shortcut",),
}
_DDIM_ATTENTION: Layers = {
    "norm": ("group_norm",),
    "q": ("to_q",),
    "k": ("to_k",),
    "v": ("to_v",),
    "proj_out": ("to_out.0",),
}
_ADM_ATTENTION: Layers = {
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "proj_out": ("to_out.0",),
}
_ROSINALITY_BLOCK: Layers = {
    "norm1": ("norm1",),
    "conv1": ("conv1",),
    "time.1": ("time_emb_proj",),
    "norm2": ("norm2",),
    "conv2": ("conv2",),
    "skip": ("conv_shortcut",),
}
_ROSINALITY_ATTENTION: Layers = {
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "out": ("to_out.0",),
}
_LAYERS: dict[str, dict[str, Layers]] = {
    "ddim": {"block": _DDIM_BLOCK, "attention": _DDIM_ATTENTION, "layer": {"": ("",)}},
    "adm": {"block": _ADM_BLOCK, "attention": _ADM_ATTENTION, "layer": {"": ("",)}},
    "rosinality": {
        "block": _ROSINALITY_BLOCK,
        "attention": _ROSINALITY_ATTENTION,
        "layer": {"": ("",)},
    },
}

# Names of attention layers in diffusers before 0.13.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAMES = re.compile(r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.")


def key_map(
    recognised: Recognised, state: Iterable[str], targets: Iterable[str]
) -> dict[str, Origin]:
    """Our key -> where it comes from, for every tensor of ``targets`` that has an origin."""
    origins = {}
    if recognised.format not in _MODULES:
        for key in state:
            if key not in recognised.unused:
                origins[_modern(key)] = Origin(key)
        return origins
    modules = _MODULES[recognised.format](recognised.unet)
    wanted = set(targets)  # a 1 x 1 shortcut is there only where a block changes its width
    for module in modules:
        for ours, origin in _tensors(module, _LAYERS[recognised.format][module.kind]):
            if ours in wanted:
                origins[ours] = origin
    if recognised.format == "rosinality":
        return _as_rosinality(origins, set(state), recognised.unet["attention_heads"])
    return origins


def _modern(key: str) -> str:
    return _OLD_NAMES.sub(lambda match: f"{match[1]}.{_OLD_ATTENTION[match[2]]}.", key)


def _tensors(module: Module, layers: Layers) -> Iterator[tuple[str, Origin]]:
    """Every layer of a module has a weight and a bias: (our key, its origin)."""
    for old, news in layers.items():
        for part, new in enumerate(news):
            third = part if len(news) > 1 else None
            for leaf in ("weight", "bias"):
                theirs = _joined(module.theirs, old, leaf)
                yield _joined(module.ours, new, leaf), Origin(theirs, third)


def _joined(*names: str) -> str:
    return ".".join(name for name in names if name)


def _attends(unet: Mapping[str, Any]) -> list[bool]:
    """Whether each level has attention, from full resolution down."""
    return [name.startswith("Attn") for name in unet["down_block_types"]]


def _ddim_modules(unet: Mapping[str, Any]) -> Iterator[Module]:
    """Their ``up`` list begins at full resolution (level 0), ours at the lowest."""
    yield Module("temb.dense.0", "time_embedding.linear_1")
    yield Module("temb.dense.1", "time_embedding.linear_2")
    yield Module("conv_in", "conv_in")
    yield Module("norm_out", "conv_norm_out")
    yield Module("conv_out", "conv_out")
    yield Module("mid.block_1", "mid_block.resnets.0", "block")
    yield Module("mid.block_2", "mid_block.resnets.1", "block")
    yield Module("mid.attn_1", "mid_block.attentions.0", "attention")
    layers, attends = unet["layers_per_block"], _attends(unet)
    lowest = len(attends) - 1
    for level, attention in enumerate(attends):
        down, up = f"down_blocks.{level}", f"up_blocks.{lowest - level}"
        yield from _ddim_level(f"down.{level}", down, layers, attention)
        yield from _ddim_level(f"up.{level}", up, layers + 1, attention)
        if level < lowest:
            yield Module(f"down.{level}.downsample.conv", f"{down}.downsamplers.0.conv")
        if level > 0:
            yield Module(f"up.{level}.upsample.conv", f"{up}.upsamplers.0.conv")


def _ddim_level(theirs: str, ours: str, count: int, attention: bool) -> Iterator[Module]:
    for index in range(count):
        yield Module(f"{theirs}.block.{index}", f"{ours}.resnets.{index}", "block")
        if attention:
            yield Module(f"{theirs}.attn.{index}", f"{ours}.attentions.{index}", "attention")


def _adm_modules(unet: Mapping[str, Any]) -> Iterator[Module]:
    """Their blocks are one flat list a side, in the order in which they run."""
    yield Module("time_embed.0", "time_embedding.linear_1")
    yield Module("time_embed.2", "time_embedding.linear_2")
    yield Module("input_blocks.0.0", "conv_in")
    yield Module("out.0", "conv_norm_out")
    yield Module("out.2", "conv_out")
    yield Module("middle_block.0", "mid_block.resnets.0", "block")
    yield Module("middle_block.2", "mid_block.resnets.1", "block")
    yield Module("middle_block.1", "mid_block.attentions.0", "attention")
    layers, attends = unet["layers_per_block"], _attends(unet)
    yield from _adm_inputs(layers, attends, unet["downsample_type"] == "resnet")
    yield from _adm_outputs(layers, attends, unet["upsample_type"] == "resnet")


def _adm_inputs(layers: int, attends: list[bool], resamples: bool) -> Iterator[Module]:
    lowest = len(attends) - 1
    for level, attention in enumerate(attends):
        first, ours = 1 + level * (layers + 1), f"down_blocks.{level}"
        yield from _adm_level("input_blocks", ours, first, layers, attention)
        if level == lowest:
            continue
        theirs = f"input_blocks.{first + layers}.0"
        if resamples:
            yield Module(theirs, f"{ours}.downsamplers.0", "block")
        else:
            yield Module(f"{theirs}.op", f"{ours}.downsamplers.0.conv")


def _adm_outputs(layers: int, attends: list[bool], resamples: bool) -> Iterator[Module]:
    last = len(attends) - 1
    for place, attention in enumerate(reversed(attends)):
        first, ours = place * (layers + 1), f"up_blocks.{place}"
        yield from _adm_level("output_blocks", ours, first, layers + 1, attention)
        if place == last:
            continue
        theirs = f"output_blocks.{first + layers}.{2 if attention else 1}"
        if resamples:
            yield Module(theirs, f"{ours}.upsamplers.0", "block")
        else:
            yield Module(f"{theirs}.conv", f"{ours}.upsamplers.0.conv")


def _adm_level(side: str, ours: str, first: int, count: int, attention: bool) -> Iterator[Module]:
    for index in range(count):
        theirs = f"{side}.{first + index}"
        yield Module(f"{theirs}.0", f"{ours}.resnets.{index}", "block")
        if attention:
            yield Module(f"{theirs}.1", f"{ours}.attentions.{index}", "attention")


def _rosinality_modules(unet: Mapping[str, Any]) -> Iterator[Module]:
    """Flat lists a side: blocks with their attention, and convolutions between the levels."""
    yield Module("time.1", "time_embedding.linear_1")
    yield Module("time.3", "time_embedding.linear_2")
    yield Module("down.0", "conv_in")
    yield Module("out.0", "conv_norm_out")
    yield Module("out.2", "conv_out")
    yield Module("mid.0.resblocks", "mid_block.resnets.0", "block")
    yield Module("mid.1.resblocks", "mid_block.resnets.1", "block")
    yield Module("mid.0.attention", "mid_block.attentions.0", "attention")
    layers, attends = unet["layers_per_block"], _attends(unet)
    last = len(attends) - 1
    for level, attention in enumerate(attends):
        first, ours = 1 + level * (layers + 1), f"down_blocks.{level}"
        yield from _rosinality_level("down", ours, first, layers, attention)
        if level < last:
            yield Module(f"down.{first + layers}.0", f"{ours}.downsamplers.0.conv")
    for place, attention in enumerate(reversed(attends)):
        first, ours = place * (layers + 2), f"up_blocks.{place}"
        yield from _rosinality_level("up", ours, first, layers + 1, attention)
        if place < last:
            yield Module(f"up.{first + layers + 1}.1", f"{ours}.upsamplers.0.conv")


def _rosinality_level(
    side: str, ours: str, first: int, count: int, attention: bool
) -> Iterator[Module]:
    for index in range(count):
        theirs = f"{side}.{first + index}"
        yield Module(f"{theirs}.resblocks", f"{ours}.resnets.{index}", "block")
        if attention:
            yield Module(f"{theirs}.attention", f"{ours}.attentions.{index}", "attention")


def _as_rosinality(origins: Mapping[str, Origin], state: set[str], heads: int) -> dict[str, Origin]:
    """Their attention divides by the root of all channels, not of a head's; their second norm under
    scale and shift has no weights of its own."""
    result = {}
    for ours, origin in origins.items():
        if ".to_q." in ours:
            origin = replace(origin, factor=heads**-0.5)
        if ".norm2." in ours and origin.key not in state:
            origin = Origin("", filled=float(ours.endswith("weight")))
        result[ours] = origin
    return result


_MODULES: dict[str, Callable[[Mapping[str, Any]], Iterator[Module]]] = {
    "ddim": _ddim_modules,
    "adm": _adm_modules,
    "rosinality": _rosinality_modules,
}


# ------------------------------------------------------------ convert


def convert(state: Mapping[str, Tensor], recognised: Recognised) -> dict[str, Tensor]:
    """The float32 state dict of the ``UNet2DModel`` that ``recognised.unet`` describes.

    Every key of theirs is used or is in ``recognised.unused``, every key of ours is filled, every
    shape agrees, every tensor owns its memory. DclipError in one line otherwise.
    """
    need(
        bool(recognised.unet),
        "these diffusers weights need the config.json they were saved with; "
        "give its folder, or put it beside the file",
    )
    if recognised.format == "lucidrains":
        state = lucid_layout.translated(state, recognised.unet["centred"])
    targets = _targets(json.dumps(recognised.unet, sort_keys=True))
    origins = key_map(recognised, state, targets)
    _check_names(state, recognised, origins, targets)
    filled = {}
    for ours, origin in origins.items():
        if origin.filled is not None:
            filled[ours] = torch.full(targets[ours], origin.filled)
        else:
            filled[ours] = _take(state[origin.key], origin, recognised)
    if _folds_time(recognised):
        filled |= _time_table(filled["time_embedding.linear_1.weight"], recognised)
    if recognised.embedding is not None and recognised.label is not None:
        embedded = state[recognised.embedding][recognised.label].detach().float()
        filled["time_embedding.linear_2.bias"] += embedded
    return {ours: _fit(filled[ours], shape, ours, origins) for ours, shape in targets.items()}


@lru_cache(maxsize=4)
def _targets(unet: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of ours; built without memory."""
    try:
        with torch.device("meta"):
            net = build_unet(json.loads(unet))
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, AssertionError) as error:
        raise DclipError(
            f"UNet2DModel refuses this configuration ({one_line(error)}); see config.json"
        ) from error
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def _check_names(
    state: Mapping[str, Tensor],
    recognised: Recognised,
    origins: Mapping[str, Origin],
    targets: Mapping[str, tuple[int, ...]],
) -> None:
    """DclipError for a key of either side that has no partner."""
    taken = {origin.key for origin in origins.values() if origin.filled is None}
    used = taken | set(recognised.unused)
    computed = {"time_proj.weight"} if _folds_time(recognised) else set()
    missing = (used - set(state)) | (set(targets) - set(origins) - computed)
    unknown = (set(state) - used) | {origins[ours].key for ours in set(origins) - set(targets)}
    problems = []
    if missing:
        problems.append(f"missing {first_names(missing)}")
    if unknown:
        problems.append(f"unknown {first_names(unknown)}")
    need(
        not problems,
        f"these {recognised.format} weights do not make a whole network: {'; '.join(problems)}; "
        "give the file as it was published",
    )


def _take(value: Tensor, origin: Origin, recognised: Recognised) -> Tensor:
    """A float32 copy of a tensor, or of its third of a fused qkv [3C, ...]."""
    value = value.detach().float()
    if origin.part is None:
        return value * origin.factor
    rows = _rows_a_head(len(value) // 3, recognised)
    # legacy order: the rows of each head lie together, [q | k | v], so many rows each
    need(
        rows > 0 and len(value) % (3 * rows) == 0,
        f"{origin.key} has {len(value)} rows, not a multiple of 3 x head_dim={rows}",
    )
    heads = value.reshape(-1, 3, rows, *value.shape[1:])
    return heads[:, origin.part].flatten(0, 1) * origin.factor


def _rows_a_head(channels: int, recognised: Recognised) -> int:
    """How many rows of a fused qkv lie together."""
    if recognised.parts_first:
        return channels
    heads = recognised.unet.get("attention_heads")
    if heads is not None:
        return channels // int(heads)
    head_dim = recognised.unet["attention_head_dim"]
    return channels if head_dim is None else int(head_dim)


def _fit(value: Tensor, shape: tuple[int, ...], ours: str, origins: Mapping[str, Origin]) -> Tensor:
    """The tensor in its new shape.

    Attention was written as 1 x 1 convolutions [C, C, 1(, 1)], ours is linear [C, C].
    """
    if value.ndim > len(shape) == 2 and set(value.shape[2:]) == {1} and ".attentions." in ours:
        value = value.flatten(1)
    name = ours
    if ours in origins:
        name = origins[ours].key
    need(
        tuple(value.shape) == shape,
        f"{name} has shape {tuple(value.shape)} where {shape} is needed (as {ours}); "
        "give the file as it was published",
    )
    return value.contiguous()


# ------------------------------------------------------------ an embedding of time as a table


def _folds_time(recognised: Recognised) -> bool:
    return recognised.format == "adm" and recognised.unet.get("time_embedding_type") == "learned"


def _time_table(weight: Tensor, recognised: Recognised) -> dict[str, Tensor]:
    """A sinusoidal embedding of M channels and its first layer [E, M], as a table and a layer.

    ``UNet2DModel`` embeds integer steps in as many channels as its first level has. Of networks of
    4,000 steps every fourth is taken, some see a quarter of it, and ImageNet-512 needs M = 256 where it has 128. The 256
    sinusoids at t = 0 .. 999 span only about 105 dimensions in float32 (most are slow), so their
    first 128 singular vectors hold all of them: the largest error is 5e-7, a hundredth of what
    float32 rounds away in sin(t).
    """
    width = recognised.unet["block_out_channels"][0]
    steps = recognised.unet["num_train_timesteps"]
    times = (torch.arange(steps, dtype=torch.float32) + 1) * recognised.time_stride - 1
    sinusoids = _sinusoids(int(weight.shape[1]), times * recognised.time_scale)
    if weight.shape[1] == width:
        return {"time_proj.weight": sinusoids}
    sinusoids = sinusoids.double()
    u, s, vh = torch.linalg.svd(sinusoids, full_matrices=False)
    kept = min(width, len(s))
    table = torch.zeros(steps, width, dtype=torch.float64)
    table[:, :kept] = u[:, :kept] * s[:kept]
    error = float((table[:, :kept] @ vh[:kept] - sinusoids).abs().max())
    need(
        error < 1e-5,
        f"time_embed.0.weight: {weight.shape[1]} time channels do not fit into {width} "
        f"(error {error:.1g})",
    )
    linear = torch.zeros(len(weight), width, dtype=torch.float64)
    linear[:, :kept] = weight.double() @ vh[:kept].T
    return {"time_proj.weight": table.float(), "time_embedding.linear_1.weight": linear.float()}


def _sinusoids(channels: int, times: Tensor) -> Tensor:
    """float32 [T, M], [cos | sin] of t * 1e4^(-i / (M/2)), rounded as the published code rounds."""
    half = channels // 2
    need(
        channels == 2 * half > 0,
        f"time_embed.0.weight has {channels} time channels, an odd number; fetch the file again",
    )
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = times[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], 1)


# ------------------------------------------------------------ load


def load_foreign(path: str | Path, hints: Hints = NO_HINTS) -> tuple[nn.Module, ModelInfo]:
    """A foreign checkpoint as a U-Net with what is known about it.

    Its ``forward(x [N,3,H,W], t int64 [N], return_dict=False)[0]`` is the published network's; it
    is float32, on the CPU, frozen and in eval mode. DclipError as :func:`read_contents`,
    :func:`recognise` and :func:`convert` raise it.
    """
    file = weights_file(path)
    contents = read_contents(file)
    state = _published_weights(contents)
    config: Mapping[str, Any] | None = contents.facts
    if MARKS["diffusers"] in state:
        config = read_object(config_file(file))
    recognised = recognise(state, hints, config)
    recognised = told(_trained(recognised, file, contents, hints), hints)
    weights = convert(state, recognised)
    with torch.device("meta"):  # no time and memory for random weights
        unet = build_unet(recognised.unet)
    unet.load_state_dict(weights, assign=True)
    info = ModelInfo(
        Path(path).stem,
        recognised.unet,
        recognised.variance,
        recognised.schedule,
        _notes(recognised, path, hints),
        recognised.prediction,
    )
    return unet.eval().requires_grad_(False), info


def _published_weights(contents: Contents) -> dict[str, Tensor]:
    """The weights that a project's own sampling uses: of two, the running average."""
    state = lucid_layout.bare(contents.state)
    averaged = MARKS["rosinality"] in state or MARKS["lucidrains"] in state
    if contents.average is not None and averaged:
        return lucid_layout.bare(contents.average)
    return state


def _trained(recognised: Recognised, file: Path, contents: Contents, hints: Hints) -> Recognised:
    """With the noise that the checkpoint says it was trained on, where it says it."""
    if recognised.format == "diffusers":
        return _with_scheduler(file, recognised)
    if recognised.format == "lucidrains":
        schedule, prediction = lucid_layout.training(contents.state, hints)
        return replace(recognised, schedule=schedule, prediction=prediction)
    if recognised.format == "rosinality":
        return replace(recognised, schedule=_rosinality_schedule(contents, recognised.schedule))
    return recognised


def _rosinality_schedule(contents: Contents, default: Schedule) -> Schedule:
    """The schedule in the checkpoint's configuration; what they call linear is so in sqrt(beta)."""
    kinds = {"linear": "scaled_linear", "cosine": "cosine"}
    named = {}
    for name in ("schedule", "n_timestep", "linear_start", "linear_end"):
        value = held(contents.facts.get("conf"), "diffusion", "beta_schedule", name)
        if value is not None:
            named[name] = value
    kind = str(named.get("schedule", "linear"))
    need(
        kind in kinds,
        f"this rosinality checkpoint was trained on a {kind} schedule; known: {', '.join(kinds)}",
    )
    return Schedule(
        int(str(named.get("n_timestep", default.steps))),
        float(str(named.get("linear_start", default.beta_start))),
        float(str(named.get("linear_end", default.beta_end))),
        kinds[kind],
    )


def _notes(recognised: Recognised, path: str | Path, hints: Hints) -> dict[str, Any]:
    file = weights_file(path)
    notes = recognised.notes | {
        "source": file.name,
        "source_sha256": file_digest(file),
        "t0": t0_from_name(path),
    }
    if recognised.unused:
        notes["unused"] = list(recognised.unused)
    hinted = hints.given()
    for name in ("head_dim", "image_size"):  # the network's settings say them
        hinted.pop(name, None)
    if hinted:
        notes["hints"] = hinted
    return notes


def converted(path: str | Path, hints: Hints = NO_HINTS) -> Path:
    """One of our safetensors files with a foreign checkpoint's weights; made once, then reused.

    It lies in ``cache_dir()/converted`` under the SHA-256 of the source and of the options; where
    that cannot be written, in a folder that goes with the process.
    """
    file = weights_file(path)
    beside = {}
    for other in (config_file(file), scheduler_file(file), *parts(file)):
        if other is not None and other.is_file():
            beside[other.name] = file_digest(other)
    key = [VERSION, beside, Path(path).stem, hints.given()]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    target = cache_dir() / "converted" / f"{name}.safetensors"
    if not _whole(target) and not can_keep():
        target = Path(_passing().name) / target.name
    if not _whole(target):
        unet, info = load_foreign(path, hints)
        save_weights(target, unet, model_header(info))
    return target


@cache
def _passing() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dclip_converted_")


def _whole(path: Path) -> bool:
    try:
        return path.is_file() and bool(read_header(path))
    except DclipError:
        return False  # made again


def _with_scheduler(file: Path, recognised: Recognised) -> Recognised:
    """With the schedule, prediction and variance that the folder's scheduler names.

    DclipError for those that we do not have.
    """
    place = scheduler_file(file)
    if place is None:
        return recognised
    training = read_training(read_object(place) or {})
    variance = recognised.variance
    if variance != "learned_range" and training.variance in ("fixed_small", "fixed_large"):
        variance = training.variance
    return replace(
        recognised,
        schedule=training.schedule,
        prediction=training.prediction,
        variance=variance,
    )
