"""What network a foreign state dict is of, from the names and shapes of its tensors.

=============  ====================================================================================
format         whose files
=============  ====================================================================================
``ddim``       DDPM in PyTorch (CelebA-HQ, LSUN, CIFAR-10; SDEdit, DiffusionCLIP):
               ``down.0.block.0.conv1``
``adm``        improved / guided diffusion (AFHQ, FFHQ, ImageNet-512):
               ``input_blocks.1.0.in_layers.2``
``diffusers``  a ``UNet2DModel`` folder with its config.json: ``down_blocks.0.resnets.0.conv1``
``rosinality`` denoising-diffusion-pytorch of rosinality: ``down.1.resblocks.conv1``
``lucidrains`` denoising_diffusion_pytorch of lucidrains: ``downs.0.0.block1.proj``
=============  ====================================================================================

Names and shapes tell widths, levels, blocks, attention, learned variance, scale-shift and the kind
of resampling. They do not tell what follows, which is therefore taken as published, and said in
``Recognised.notes``; ``Hints`` say otherwise:

* image size: that of the known model of these shapes, else 8 pixels at the lowest level;
* heads: one in ``ddim``; 64 channels a head in ``adm`` (a wrong number loads and paints nonsense);
* dropout and the fixed variances: those of the known model, else 0 and ``fixed_small``;
* noise: that of the known model, else eps on Ho et al.'s linear schedule of 1,000 steps;
* 32 groups in every norm, and the order of a fused qkv.

A class-conditional network becomes the unconditional one of its class ``Hints.label``: the class
only adds to the embedding of time, so it goes into that layer's bias.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dclip.diffusion.schedule import HO, Schedule
from dclip.diffusion.timesteps import STEPS
from dclip.errors import DclipError, need
from dclip.models import lucid_layout
from dclip.models.foreign import first_names
from dclip.models.hints import NO_HINTS, Hints
from dclip.models.scheduler import short
from dclip.models.shapes import axis_length
from dclip.models.strangers import stranger
from dclip.models.unet import check_channels

GROUPS = 32  # channels of every published network are normalised in 32 groups
LOWEST = 8  # pixels at the lowest level, where the size is unknown

MARKS = {
    "ddim": "temb.dense.0.weight",
    "adm": "time_embed.0.weight",
    "diffusers": "time_embedding.linear_1.weight",
    "rosinality": "mid.0.resblocks.conv1.weight",
    "lucidrains": lucid_layout.MARK,
}
_INPUTS = {"ddim": "conv_in", "adm": "input_blocks.0.0", "rosinality": "down.0"}
_OUTPUTS = {"ddim": "conv_out", "adm": "out.2", "rosinality": "out.2"}


@dataclass(frozen=True)
class Recognised:
    """What names and shapes say about a foreign state dict.

    Attributes:
        format: a key of ``MARKS``.
        unet: what ``build_unet`` takes; empty for ``diffusers`` without its config.json.
        variance: one of ``VARIANCES``.
        unused: keys that are left out on purpose.
        schedule, prediction: how the network was trained.
        time_scale: what a timestep is multiplied with before it is embedded.
        time_stride: how many of its timesteps are one of ours: settings count 1,000.
        parts_first: a fused qkv holds all of q, then all of k, then all of v; else head by head.
        embedding: the key of the class embedding [classes, E].
        label: the class that goes into the network; None where there are none.
    """

    format: str
    unet: dict[str, Any]
    variance: str
    notes: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    schedule: Schedule = HO
    prediction: str = "epsilon"
    time_scale: float = 1.0
    time_stride: int = 1
    parts_first: bool = False
    embedding: str | None = None
    label: int | None = None


@dataclass(frozen=True)
class Published:
    """A published model: what its shapes do not tell."""

    name: str
    image_size: int
    variance: str = "fixed_small"
    dropout: float = 0.0
    schedule: Schedule = HO
    time_scale: float = 1.0
    heads: int | None = None  # of every layer; None: by head_dim
    parts_first: bool = False
    classless: bool = False  # its class embedding is left out, as published


@dataclass(frozen=True)
class Shapes:
    """What names and shapes tell of a ``ddim`` or ``adm`` network."""

    format: str
    widths: tuple[int, ...]  # of each level
    layers: int  # blocks a level
    attention: tuple[int, ...]  # levels with attention
    channels_out: int


PUBLISHED = {
    Shapes("ddim", (128, 128, 256, 256, 512, 512), 2, (4,), 3): Published(
        "CelebA-HQ or LSUN 256", 256
    ),
    Shapes("ddim", (128, 256, 256, 256), 2, (1,), 3): Published("CIFAR-10", 32, "fixed_large", 0.1),
    Shapes("adm", (128, 128, 256, 256, 512, 512), 1, (4,), 6): Published(
        "AFHQ or FFHQ 256 (ADM)", 256, "learned_range"
    ),
    Shapes("adm", (128, 256, 256, 512, 512, 1024, 1024), 2, (4, 5, 6), 6): Published(
        "ImageNet 512 (ADM)", 512, "learned_range", classless=True
    ),
    Shapes("adm", (256, 256, 512, 512, 1024, 1024), 2, (3, 4, 5), 6): Published(
        "ImageNet or LSUN 256 (ADM)", 256, "learned_range"
    ),
    Shapes("adm", (256, 256, 512, 768, 1024), 2, (2, 3, 4), 6): Published(
        "ImageNet 128 (ADM)", 128, "learned_range", heads=4
    ),
    Shapes("adm", (192, 384, 576, 768), 3, (1, 2, 3), 6): Published(
        "ImageNet 64 (ADM)",
        64,
        "learned_range",
        0.1,
        Schedule(kind="cosine"),
        parts_first=True,
    ),
    # improved diffusion
    Shapes("adm", (128, 256, 384, 512), 3, (2, 3), 6): Published(
        "ImageNet 64 (improved diffusion)",
        64,
        "learned_range",
        schedule=Schedule(4000, kind="cosine"),
        time_scale=0.25,
        heads=4,
    ),
    Shapes("adm", (192, 384, 576, 768), 3, (2, 3), 6): Published(
        "ImageNet 64 with classes (improved diffusion)",
        64,
        "learned_range",
        schedule=Schedule(4000, kind="cosine"),
        heads=4,
    ),
    Shapes("adm", (128, 256, 256, 256), 3, (1, 2), 6): Published(
        "CIFAR-10 (improved diffusion)",
        32,
        "learned_range",
        0.3,
        Schedule(4000, kind="cosine"),
        time_scale=0.25,
        heads=4,
    ),
    Shapes("adm", (128, 128, 256, 256, 512, 512), 2, (4,), 6): Published(
        "LSUN bedroom 256 (improved diffusion)", 256, "learned_range", heads=1
    ),
    Shapes("rosinality", (128, 128, 256, 256, 512, 512), 2, (4,), 3): Published(
        "FFHQ (rosinality)", 256, schedule=Schedule(kind="scaled_linear"), heads=1
    ),
}


def format_of(state: Iterable[str]) -> str:
    """The format whose names a state dict has. DclipError if none."""
    keys = set(state)
    other = stranger(keys)
    if other is not None:
        raise DclipError(f"these are the weights of a {other.name}: {other.why}")
    for form, mark in MARKS.items():
        if mark in keys:
            return form
    raise DclipError(
        "these weights are of no known diffusion format "
        f"({first_names(keys) or 'no tensors'}); known: {', '.join(MARKS)}"
    )


def recognise(
    state: Mapping[str, Tensor],
    hints: Hints = NO_HINTS,
    config: Mapping[str, Any] | None = None,
) -> Recognised:
    """What network a state dict is of, from names and shapes alone (meta tensors will do).

    ``hints`` say what these do not tell, ``config`` is the config.json of the ``diffusers`` format.
    DclipError where no known architecture has such names, where the network is not of RGB images,
    and where it needs a class that is not given.
    """
    form = format_of(state)
    recognised = _RECOGNISERS[form](state, hints, config)
    if recognised.unet:
        check_channels(recognised.unet, f"this {form} checkpoint")
    return _with_class(recognised, state, hints)


def told(recognised: Recognised, hints: Hints) -> Recognised:
    """With what the hints say of the training, in place of what was assumed or read."""
    schedule = _told_schedule(recognised.schedule, hints)
    schedule = replace(schedule, steps=schedule.steps // recognised.time_stride)
    prediction = hints.prediction or recognised.prediction
    return replace(recognised, schedule=schedule, prediction=prediction)


def _told_schedule(schedule: Schedule, hints: Hints) -> Schedule:
    if hints.schedule is not None:
        schedule = replace(schedule, kind=hints.schedule)
    if hints.timesteps is not None:
        schedule = replace(schedule, steps=hints.timesteps)
    return schedule


def _stride(schedule: Schedule) -> int:
    """How many timesteps count as one, so that there are ``STEPS``; 1 where that is not possible.

    Of these kinds alpha_bar depends on t / T alone: every fourth step of 4,000 is a step of 1,000.
    """
    if schedule.kind in ("cosine", "sigmoid") and schedule.steps % STEPS == 0:
        return schedule.steps // STEPS
    return 1


def _with_class(recognised: Recognised, state: Mapping[str, Tensor], hints: Hints) -> Recognised:
    """With the class that a class-conditional network is to draw.

    Raises:
        DclipError: a class is needed and not given, or given and not there.
    """
    key, label = recognised.embedding, hints.label
    if key is None:
        need(
            label is None,
            f"checkpoint.label={label}: this network has no classes; leave checkpoint.label out",
        )
        return recognised
    classes = axis_length(state, key)
    if label is None:
        raise DclipError(
            f"this network is class-conditional ({key}: {classes:,} classes); "
            f"say which class it is to draw: checkpoint.label=N, 0 to {classes - 1}"
        )
    need(
        label < classes,
        f"checkpoint.label={label}: this network has the classes 0 to {classes - 1}",
    )
    return replace(recognised, label=label, unused=(*recognised.unused, key))


def _indices(state: Iterable[str], pattern: str) -> set[int]:
    """The numbers that stand at one place of the names."""
    numbers = set()
    for key in state:
        match = re.match(pattern, key)
        if match is not None:
            numbers.add(int(match[1]))
    return numbers


# ------------------------------------------------------------ ddim


def _recognise_ddim(
    state: Mapping[str, Tensor], hints: Hints, config: Mapping[str, Any] | None
) -> Recognised:
    levels = range(len(_indices(state, r"down\.(\d+)\.")))
    shapes = Shapes(
        "ddim",
        tuple(axis_length(state, f"down.{level}.block.0.conv1.weight") for level in levels),
        len(_indices(state, r"down\.0\.block\.(\d+)\.")),
        tuple(level for level in levels if f"down.{level}.attn.0.q.weight" in state),
        _channels_out("ddim", state),
    )
    settings = {
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "downsample_padding": 0,
        "attention_head_dim": None,  # one head; any other number would load as well
    }
    return _described(shapes, state, settings, hints)


# ------------------------------------------------------------ adm


def _recognise_adm(
    state: Mapping[str, Tensor], hints: Hints, config: Mapping[str, Any] | None
) -> Recognised:
    blocks = len(_indices(state, r"output_blocks\.(\d+)\."))
    # A level ends where its last output block enlarges: with a block of its own (no weights in the
    # resampling), or with a convolution.
    ends = _indices(state, r"output_blocks\.(\d+)\.[12]\.(?:in_layers\.2|conv)\.weight")
    levels = range(len(ends) + 1)
    need(
        blocks > 0 and blocks % len(levels) == 0,
        f"these adm weights have {blocks} output blocks for {len(levels)} levels",
    )
    layers = blocks // len(levels) - 1
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in levels]
    widths = tuple(axis_length(state, f"{first}.0.out_layers.3.weight") for first in firsts)
    attention = tuple(level for level in levels if f"{firsts[level]}.1.qkv.weight" in state)
    shapes = Shapes("adm", widths, layers, attention, _channels_out("adm", state))
    attended = [widths[level] for level in (*attention, len(widths) - 1)]
    heads = hints.heads or _known(shapes).heads
    own_blocks = bool(_indices(state, r"output_blocks\.(\d+)\.[12]\.in_layers\."))
    settings = _adm_settings(state, widths, resamples=own_blocks or not ends)
    settings |= _attention_settings(attended, hints.head_dim, heads)
    stride = _stride(_told_schedule(_known(shapes).schedule, hints))
    if _time_needs_table(state, widths[0], _known(shapes).time_scale, stride):
        # UNet2DModel knows one number for both, and integer steps
        settings |= {"time_embedding_type": "learned"}
    return _described(shapes, state, settings, hints)


def _attention_settings(
    widths: Iterable[int], head_dim: int, heads: int | None
) -> dict[str, int | None]:
    """Channels of a head, or a number of heads that all levels have.

    Raises:
        DclipError: they do not divide the channels.
    """
    for width in widths:
        if heads is not None:
            need(
                width % heads == 0,
                f"checkpoint.heads={heads} does not divide {width} channels; "
                "give the number of attention heads that this network was trained with",
            )
            continue
        need(
            head_dim > 0 and width % head_dim == 0,
            f"head_dim={head_dim} does not divide {width} channels; "
            "give head_dim, the channels an attention head was trained with",
        )
    if heads is not None:
        return {"attention_head_dim": None, "attention_heads": heads}
    return {"attention_head_dim": head_dim}


def _time_needs_table(state: Mapping[str, Tensor], width: int, scale: float, stride: int) -> bool:
    """Whether time is embedded in other channels than the first level has, or scaled before.

    ImageNet-512 embeds it in 256 channels, its first level has 128; of networks of 4,000 steps every
    fourth is taken.
    """
    return axis_length(state, "time_embed.0.weight", 1) != width or scale != 1.0 or stride > 1


def _adm_settings(
    state: Mapping[str, Tensor], widths: tuple[int, ...], resamples: bool
) -> dict[str, Any]:
    """``resamples``: levels are joined by residual blocks, not by bare convolutions."""
    scale_shift = axis_length(state, "middle_block.0.emb_layers.1.weight") == 2 * widths[-1]
    resampling = "resnet" if resamples else "conv"
    return {
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "downsample_type": resampling,
        "upsample_type": resampling,
        # else diffusers leaves the middle attention's norm out under scale_shift
        "attn_norm_num_groups": GROUPS,
        "time_embedding_dim": axis_length(state, "time_embed.0.weight"),
    }


# ------------------------------------------------------------ rosinality


def _recognise_rosinality(
    state: Mapping[str, Tensor], hints: Hints, config: Mapping[str, Any] | None
) -> Recognised:
    """One flat list a side: the first convolution, blocks, and a convolution between levels."""
    last = max(_indices(state, r"down\.(\d+)\."))
    levels: list[list[int]] = [[]]
    for index in range(1, last + 1):
        if f"down.{index}.resblocks.conv1.weight" in state:
            levels[-1].append(index)
        else:
            levels.append([])
    layers = len(levels[0])
    need(
        all(len(level) == layers for level in levels),
        "these rosinality weights do not have as many blocks on every level; fetch the file again",
    )
    widths = []
    attention = []
    for number, level in enumerate(levels):
        widths.append(axis_length(state, f"down.{level[0]}.resblocks.conv1.weight"))
        if f"down.{level[0]}.attention.qkv.weight" in state:
            attention.append(number)
    shapes = Shapes(
        "rosinality", tuple(widths), layers, tuple(attention), _channels_out("rosinality", state)
    )
    affine = "mid.0.resblocks.norm2.weight" not in state
    settings = {
        "flip_sin_to_cos": False,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if affine else "default",
        "attn_norm_num_groups": GROUPS,
        **_attention_settings(widths, hints.head_dim, hints.heads or 1),
    }
    found = _described(shapes, state, settings, hints)
    return replace(
        found,
        schedule=Schedule(kind="scaled_linear"),  # what rosinality calls linear
        unused=_starting(state, "time.0."),
    )


# ------------------------------------------------------------ lucidrains


def _recognise_lucidrains(
    state: Mapping[str, Tensor], hints: Hints, config: Mapping[str, Any] | None
) -> Recognised:
    """``config``: what lies beside the weights; of it, the version of the package."""
    levels = len(_indices(state, r"downs\.(\d+)\."))
    size = hints.image_size
    if size is None:
        size = LOWEST * 2 ** (levels - 1)
    version = (config or {}).get("version")
    unet = lucid_layout.settings(state, _checked_size(size, levels), version)
    variance = "fixed_small"
    if unet["out_channels"] == 2 * unet["in_channels"]:
        variance = "learned_range"
    notes = {"format": "lucidrains", "model": "unknown", "assumed": {"image_size": size}}
    return Recognised("lucidrains", unet, variance, notes)


# ------------------------------------------------------------ what several have in common


def _channels_out(form: str, state: Mapping[str, Tensor]) -> int:
    return axis_length(state, f"{_OUTPUTS[form]}.weight")


def _block_types(shapes: Shapes, resamples: bool) -> dict[str, tuple[str, ...]]:
    plain = "Resnet{}sampleBlock2D" if resamples else "{}Block2D"
    kinds = [plain] * len(shapes.widths)
    for level in shapes.attention:
        kinds[level] = "Attn{}Block2D"
    return {
        "down_block_types": tuple(kind.format("Down") for kind in kinds),
        "up_block_types": tuple(kind.format("Up") for kind in reversed(kinds)),
    }


def _described(
    shapes: Shapes,
    state: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    hints: Hints,
) -> Recognised:
    """The network of these shapes; ``settings`` are its format's own."""
    form, levels = shapes.format, len(shapes.widths)
    need(
        shapes.layers > 0 and levels > 0,
        f"these {form} weights have no blocks; fetch the file again",
    )
    odd = [str(width) for width in shapes.widths if width % GROUPS]
    need(
        not odd,
        f"these {form} weights have {', '.join(odd)} channels, not multiples of {GROUPS}: "
        "no published network has",
    )
    channels = axis_length(state, f"{_INPUTS[form]}.weight", 1)
    published = _known(shapes)
    size = hints.image_size
    if size is None:
        size = published.image_size
    noise = _told_schedule(published.schedule, hints)
    unet = {
        "sample_size": _checked_size(size, levels),
        "in_channels": channels,
        "out_channels": shapes.channels_out,
        "block_out_channels": shapes.widths,
        "layers_per_block": shapes.layers,
        **_block_types(shapes, settings.get("downsample_type") == "resnet"),
        "norm_num_groups": GROUPS,
        "dropout": published.dropout,
        **settings,
    }
    if "time_embedding_type" in unet:
        unet["num_train_timesteps"] = noise.steps // _stride(noise)
    variance = published.variance
    if shapes.channels_out == 2 * channels:
        variance = "learned_range"
    unused: tuple[str, ...] = ()
    embedding = None
    if form == "adm" and "label_emb.weight" in state:
        embedding = "label_emb.weight"
    if embedding is not None and published.classless and hints.label is None:
        unused, embedding = (embedding,), None
    return Recognised(
        form,
        unet,
        variance,
        _notes(form, unet, published),
        unused,
        published.schedule,
        time_scale=published.time_scale,
        time_stride=_stride(noise) if "time_embedding_type" in unet else 1,
        parts_first=published.parts_first,
        embedding=embedding,
    )


def _known(shapes: Shapes) -> Published:
    """The published model of these shapes, or what is assumed of a model that is not known."""
    return PUBLISHED.get(shapes, Published("unknown", LOWEST * 2 ** (len(shapes.widths) - 1)))


def _starting(state: Iterable[str], prefix: str) -> tuple[str, ...]:
    return tuple(key for key in state if key.startswith(prefix))


def _notes(form: str, unet: Mapping[str, Any], published: Published) -> dict[str, Any]:
    assumed = {"image_size": unet["sample_size"], "dropout": unet["dropout"]}
    if form == "adm":
        assumed["head_dim"] = unet["attention_head_dim"]
    if unet.get("attention_heads"):
        assumed["heads"] = unet["attention_heads"]
    return {"format": form, "model": published.name, "assumed": assumed}


def _checked_size(image_size: int, levels: int) -> int:
    step: int = 2 ** (levels - 1)
    need(
        image_size > 0 and image_size % step == 0,
        f"image_size={image_size} is impossible: this network halves images {levels - 1} times; "
        f"give a multiple of {step}",
    )
    return image_size


# ------------------------------------------------------------ diffusers


def _recognise_diffusers(
    state: Mapping[str, Tensor], hints: Hints, config: Mapping[str, Any] | None
) -> Recognised:
    variance = "fixed_small"
    if axis_length(state, "conv_out.weight") == 2 * axis_length(state, "conv_in.weight", 1):
        variance = "learned_range"
    notes: dict[str, Any] = {"format": "diffusers"}
    if config is None:  # names do not tell the time embedding, nor the heads
        return Recognised("diffusers", {}, variance, notes | {"missing": "config.json"})
    unet = _unet_settings(config)
    size = hints.image_size
    if size is None:
        size = _side(unet.get("sample_size"))
    unet["sample_size"] = _checked_size(size, len(unet["block_out_channels"]))
    embedding = None
    if "class_embedding.weight" in state:
        embedding = "class_embedding.weight"
    return Recognised("diffusers", unet, variance, notes, embedding=embedding)


def _side(size: object) -> int:
    """The side of a config.json's ``sample_size``: a number, or a pair of equal ones."""
    sides = size if isinstance(size, list | tuple) else [size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise DclipError(f"config.json: sample_size={short(size)} is no square; give image_size")
    return sides[0]


# Idle settings that diffusers' EMAModel leaves among those of the network.
_OF_AVERAGES = {
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
}


def _unet_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as arguments of ``UNet2DModel``, without class embedding."""
    from diffusers import UNet2DModel

    name = config.get("_class_name", "UNet2DModel")
    need(
        name == "UNet2DModel",
        f"config.json describes a {name}; only an unconditional UNet2DModel in pixel space will do",
    )
    time = config.get("time_embedding_type", "positional")
    need(
        time != "fourier",
        f"config.json: time_embedding_type={time} belongs to score models; "
        "a network that predicts eps is needed",
    )
    need(
        "block_out_channels" in config,
        "config.json has no block_out_channels; give the config.json of these weights",
    )
    kind = config.get("class_embed_type")
    need(
        kind is None,
        f"config.json: class_embed_type={short(kind)}; of class-conditional networks those with a "
        "table of classes (class_embed_type=null, num_class_embeds=N) can be used",
    )
    settings = {}
    for key, value in config.items():
        if not key.startswith("_") and key not in _OF_AVERAGES:
            settings[key] = value
    # diffusers would ignore unknown settings, and load a network that differs from the trained one
    # where they mattered
    unknown = set(settings) - set(inspect.signature(UNet2DModel.__init__).parameters)
    need(
        not unknown,
        f"config.json has settings that UNet2DModel does not take ({first_names(unknown)}); "
        "take them out if they are idle",
    )
    return settings | {"class_embed_type": None, "num_class_embeds": None}


# ------------------------------------------------------------ by format

_RECOGNISERS: dict[
    str, Callable[[Mapping[str, Tensor], Hints, Mapping[str, Any] | None], Recognised]
] = {
    "ddim": _recognise_ddim,
    "adm": _recognise_adm,
    "diffusers": _recognise_diffusers,
    "rosinality": _recognise_rosinality,
    "lucidrains": _recognise_lucidrains,
}
