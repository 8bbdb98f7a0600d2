"""What network a foreign state dict is of, from the names and shapes of its tensors.

=============  ====================================================================================
format         whose files
=============  ====================================================================================
``ddim``       DDPM in PyTorch (CelebA-HQ, LSUN, CIFAR-10; SDEdit, DiffusionCLIP):
               ``down.0.block.0.conv1``
``adm``        improved / guided diffusion (AFHQ, FFHQ, ImageNet-512):
               ``input_blocks.1.0.in_layers.2``
``diffusers``  a ``UNet2DModel`` folder with its config.json: ``down_blocks.0.resnets.0.conv1``
=============  ====================================================================================

Names and shapes tell widths, levels, blocks, attention, learned variance, scale-shift and the kind
of resampling. They do not tell what follows, which is therefore taken as published, and said in
``Recognised.notes``:

* image size: that of the known model of these shapes, else 8 pixels at the lowest level
  (``image_size`` overrides);
* heads: one in ``ddim``; 64 channels a head in ``adm`` (``head_dim`` overrides; a wrong one loads
  and paints nonsense);
* dropout and the fixed variances: those of the known model, else 0 and ``fixed_small``;
* 32 groups in every norm, legacy attention order, timesteps 0 .. 999, Ho et al.'s linear schedule.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dclip.errors import DclipError, need
from dclip.models.foreign import first_names

GROUPS = 32  # channels of every published network are normalised in 32 groups
TIMESTEPS = 1000
LOWEST = 8  # pixels at the lowest level, where the size is unknown

MARKS = {
    "ddim": "temb.dense.0.weight",
    "adm": "time_embed.0.weight",
    "diffusers": "time_embedding.linear_1.weight",
}
_INPUTS = {"ddim": "conv_in", "adm": "input_blocks.0.0"}
_OUTPUTS = {"ddim": "conv_out", "adm": "out.2"}


@dataclass(frozen=True)
class Recognised:
    """What names and shapes say about a foreign state dict.

    ``format`` is ``ddim``, ``adm`` or ``diffusers``; ``unet`` is what ``UNet2DModel`` takes (empty
    for ``diffusers`` without its config.json); ``variance`` is one of ``VARIANCES``; ``unused``
    names keys that are left out on purpose.
    """

    format: str
    unet: dict[str, Any]
    variance: str
    notes: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A published model: what its shapes do not tell."""

    name: str
    image_size: int
    variance: str = "fixed_small"
    dropout: float = 0.0


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
        "ImageNet 512 (ADM)", 512, "learned_range"
    ),
}


def format_of(state: Iterable[str]) -> str:
    """The format whose names a state dict has. DclipError if none."""
    keys = set(state)
    for form, mark in MARKS.items():
        if mark in keys:
            return form
    raise DclipError(
        "these weights are of no known diffusion format "
        f"({first_names(keys) or 'no tensors'}); known: {', '.join(MARKS)}"
    )


def recognise(
    state: Mapping[str, Tensor],
    head_dim: int = 64,
    image_size: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Recognised:
    """What network a state dict is of, from names and shapes alone (meta tensors will do).

    ``head_dim`` (channels an attention head) matters for ``adm`` only, ``image_size`` replaces the
    assumed one, ``config`` is the config.json of the ``diffusers`` format. DclipError where no
    known architecture has such names.
    """
    form = format_of(state)
    if form == "diffusers":
        return _recognise_diffusers(state, image_size, config)
    if form == "ddim":
        return _recognise_ddim(state, image_size)
    return _recognise_adm(state, head_dim, image_size)


def _length(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    """Length of one axis of a tensor that must be there."""
    value = state.get(key)
    if value is None or value.ndim <= axis:
        raise DclipError(
            f"these weights are not a whole diffusion model: {key} is missing or misshapen; "
            "fetch the file again"
        )
    return int(value.shape[axis])


def _indices(state: Iterable[str], pattern: str) -> set[int]:
    """The numbers that stand at one place of the names."""
    numbers = set()
    for key in state:
        match = re.match(pattern, key)
        if match is not None:
            numbers.add(int(match[1]))
    return numbers


# ------------------------------------------------------------ ddim


def _recognise_ddim(state: Mapping[str, Tensor], image_size: int | None) -> Recognised:
    levels = range(len(_indices(state, r"down\.(\d+)\.")))
    shapes = Shapes(
        "ddim",
        tuple(_length(state, f"down.{level}.block.0.conv1.weight") for level in levels),
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
    return _described(shapes, state, settings, image_size)


# ------------------------------------------------------------ adm


def _recognise_adm(
    state: Mapping[str, Tensor], head_dim: int, image_size: int | None
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
    widths = tuple(_length(state, f"{first}.0.out_layers.3.weight") for first in firsts)
    attention = tuple(level for level in levels if f"{firsts[level]}.1.qkv.weight" in state)
    for level in (*attention, len(widths) - 1):
        need(
            head_dim > 0 and widths[level] % head_dim == 0,
            f"head_dim={head_dim} does not divide {widths[level]} channels; "
            "give head_dim, the channels an attention head was trained with",
        )
    shapes = Shapes("adm", widths, layers, attention, _channels_out("adm", state))
    own_blocks = bool(_indices(state, r"output_blocks\.(\d+)\.[12]\.in_layers\."))
    settings = _adm_settings(state, widths, head_dim, resamples=own_blocks or not ends)
    return _described(shapes, state, settings, image_size)


def _adm_settings(
    state: Mapping[str, Tensor], widths: tuple[int, ...], head_dim: int, resamples: bool
) -> dict[str, Any]:
    """``resamples``: levels are joined by residual blocks, not by bare convolutions."""
    scale_shift = _length(state, "middle_block.0.emb_layers.1.weight") == 2 * widths[-1]
    resampling = "resnet" if resamples else "conv"
    settings = {
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "downsample_type": resampling,
        "upsample_type": resampling,
        "attention_head_dim": head_dim,
        # else diffusers leaves the middle attention's norm out under scale_shift
        "attn_norm_num_groups": GROUPS,
        "time_embedding_dim": _length(state, "time_embed.0.weight"),
    }
    if _length(state, "time_embed.0.weight", 1) != widths[0]:
        # ImageNet-512 embeds time in 256 channels, its first level has 128, and UNet2DModel knows
        # one number for both
        settings |= {"time_embedding_type": "learned", "num_train_timesteps": TIMESTEPS}
    return settings


# ------------------------------------------------------------ what both have in common


def _channels_out(form: str, state: Mapping[str, Tensor]) -> int:
    return _length(state, f"{_OUTPUTS[form]}.weight")


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
    image_size: int | None,
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
    channels = _length(state, f"{_INPUTS[form]}.weight", 1)
    unknown = Published("unknown", LOWEST * 2 ** (levels - 1))
    published = PUBLISHED.get(shapes, unknown)
    if image_size is None:
        image_size = published.image_size
    unet = {
        "sample_size": _checked_size(image_size, levels),
        "in_channels": channels,
        "out_channels": shapes.channels_out,
        "block_out_channels": shapes.widths,
        "layers_per_block": shapes.layers,
        **_block_types(shapes, settings.get("downsample_type") == "resnet"),
        "norm_num_groups": GROUPS,
        "dropout": published.dropout,
        **settings,
    }
    variance = published.variance
    if shapes.channels_out == 2 * channels:
        variance = "learned_range"
    unused: tuple[str, ...] = ()
    if form == "adm":
        unused = _starting(state, "label_emb.")
    return Recognised(form, unet, variance, _notes(form, unet, published), unused)


def _starting(state: Iterable[str], prefix: str) -> tuple[str, ...]:
    return tuple(key for key in state if key.startswith(prefix))


def _notes(form: str, unet: Mapping[str, Any], published: Published) -> dict[str, Any]:
    assumed = {"image_size": unet["sample_size"], "dropout": unet["dropout"]}
    if form == "adm":
        assumed["head_dim"] = unet["attention_head_dim"]
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
    state: Mapping[str, Tensor], image_size: int | None, config: Mapping[str, Any] | None
) -> Recognised:
    variance = "fixed_small"
    if _length(state, "conv_out.weight") == 2 * _length(state, "conv_in.weight", 1):
        variance = "learned_range"
    unused = _starting(state, "class_embedding.")
    notes: dict[str, Any] = {"format": "diffusers"}
    if config is None:  # names do not tell the time embedding, nor the heads
        return Recognised("diffusers", {}, variance, notes | {"missing": "config.json"}, unused)
    unet = _unet_settings(config)
    if image_size is None:
        image_size = _side(unet.get("sample_size"))
    unet["sample_size"] = _checked_size(image_size, len(unet["block_out_channels"]))
    return Recognised("diffusers", unet, variance, notes, unused)


def _side(size: object) -> int:
    """The side of a config.json's ``sample_size``: a number, or a pair of equal ones."""
    sides = size if isinstance(size, list | tuple) else [size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise DclipError(f"config.json: sample_size={size} is no square; give image_size")
    return sides[0]


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
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    # diffusers would ignore unknown settings, and load a network that differs from the trained one
    # where they mattered
    unknown = set(settings) - set(inspect.signature(UNet2DModel.__init__).parameters)
    need(
        not unknown,
        f"config.json has settings that UNet2DModel does not take ({first_names(unknown)}); "
        "take them out if they are idle",
    )
    return settings | {"class_embed_type": None, "num_class_embeds": None}
