"""Checkpoints of lucidrains' denoising_diffusion_pytorch: which tensor is which, and its training.

Names and shapes tell the network. The trainer's checkpoint also holds the betas and a weight of the
loss, which tell the noise schedule and what is predicted; the weights of the bare network do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError, need
from dclip.models.hints import Hints
from dclip.models.scheduler import schedule_of
from dclip.models.shapes import axis_length

MARK = "mid_block1.block1.proj.weight"

_RENAMED = (
    (r"\.fn\.fn\.", "."),  # before 1.8 norms were wrapped around the layers
    (r"\.fn\.norm\.", ".norm."),
    (r"^init_conv\.", "conv_in."),
    (r"^final_conv\.", "conv_out."),
    (r"^final_res_block\.", "last_block."),
    (r"^time_mlp\.1\.", "time_embedding.linear_1."),
    (r"^time_mlp\.3\.", "time_embedding.linear_2."),
    (r"^mid_block1\.", "mid_block.resnets.0."),
    (r"^mid_block2\.", "mid_block.resnets.1."),
    (r"^mid_attn\.", "mid_block.attentions.0."),
    (r"^(down|up)s\.(\d+)\.([01])\.", r"\1_blocks.\2.resnets.\3."),
    (r"^(down|up)s\.(\d+)\.2\.", r"\1_blocks.\2.attentions.0."),
    (r"^(down|up)s\.(\d+)\.3\.1\.", r"\1_blocks.\2.resample.conv."),
    (r"^(down|up)s\.(\d+)\.3\.", r"\1_blocks.\2.resample."),
    (r"\.mlp\.1\.", ".time_emb_proj."),
    (r"\.res_conv\.", ".conv_shortcut."),
    (r"\.proj\.", ".conv."),
    (r"\.to_out\.0\.", ".to_out."),
    (r"\.to_out\.1\.", ".norm_out."),
    (r"\.mem_kv$", ".memory"),
)


def renamed(key: str) -> str:
    """Our name of a tensor."""
    for pattern, ours in _RENAMED:
        key = re.sub(pattern, ours, key)
    return key


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's own tensors of a trainer's state, or of its running average."""
    for prefix in ("ema_model.model.", "ema_model.", "model."):
        if prefix + MARK in state:
            return {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
    return dict(state)


def is_wrapped(state: Iterable[str]) -> bool:
    """Whether a network is of a version before 1.8: its attention lies inside a norm."""
    return any(".fn.fn." in key for key in state)


def translated(state: Mapping[str, Tensor], centred: bool) -> dict[str, Tensor]:
    """The network's tensors under our names, as our network needs them.

    Memories become [2, heads, n, dim] everywhere. Blocks of versions before 1.8 standardise the
    weights of their convolutions at every call (Qiao et al. 2019): here it is done once, with the
    smallest variance added (``centred``, before 1.7) or as a limit.
    """
    wrapped = is_wrapped(state)
    ours = {}
    for key, value in state.items():
        if key.endswith("mem_kv") and key.replace("mem_kv", "to_out.0.weight") in state:
            value = value.transpose(2, 3)  # of linear attention
        if wrapped and re.search(r"block[12]\.proj\.weight$", key):
            value = _standardised(value.float(), centred)
        ours[renamed(key)] = value
    return ours


def _standardised(weight: Tensor, added: bool) -> Tensor:
    over = tuple(range(1, weight.ndim))
    variance = weight.var(dim=over, unbiased=False, keepdim=True)
    least = variance.clamp(min=1e-5)
    if added:
        least = variance + 1e-5
    return (weight - weight.mean(dim=over, keepdim=True)) * least.rsqrt()


# ------------------------------------------------------------ the network


def settings(state: Mapping[str, Tensor], image_size: int, version: str | None) -> dict[str, Any]:
    """What ``LinearUnet`` takes, from names and shapes. DclipError where they do not tell."""
    levels = 1 + max(int(match[1]) for match in map(_LEVEL.match, state) if match)
    wrapped = is_wrapped(state)
    need(
        not wrapped or version is not None,
        "these lucidrains weights have the layout of versions before 1.8, which compute differently "
        "under the same names; give the checkpoint as its Trainer saved it, with its version",
    )
    attentions = [_attention(state, f"downs.{level}.2") for level in range(levels)]
    widths = [_length(state, "init_conv.weight")]
    for level in range(levels):
        name = f"downs.{level}.3.weight"
        if name not in state:
            name = f"downs.{level}.3.1.weight"
        widths.append(_length(state, name))
    memories = [value.shape for key, value in state.items() if key == "mid_attn.mem_kv"]
    return {
        "network": "lucidrains",
        "sample_size": image_size,
        "in_channels": _length(state, "init_conv.weight", 1),
        "out_channels": _length(state, "final_conv.weight"),
        "time_channels": _length(state, "time_mlp.1.weight", 1),
        "block_out_channels": widths,
        "full_attention": [not one.linear for one in attentions],
        "heads": [one.heads for one in attentions],
        "head_dims": [one.head_dim for one in attentions],
        "memory": int(memories[0][2]) if memories else 0,
        "grouped": "mid_block1.block1.norm.weight" in state,
        "folds": levels == 1 or "downs.0.3.1.weight" in state,
        "centred": wrapped and _before(version, (1, 7)),
        "averages": wrapped,
    }


_LEVEL = re.compile(r"downs\.(\d+)\.")
_HEAD_DIM = 32  # where no memory tells it


@dataclass(frozen=True)
class _Attention:
    linear: bool
    heads: int
    head_dim: int


def _attention(state: Mapping[str, Tensor], name: str) -> _Attention:
    if f"{name}.fn.fn.to_qkv.weight" in state:
        name += ".fn.fn"
    linear = f"{name}.to_out.0.weight" in state
    width = _length(state, f"{name}.to_qkv.weight") // 3
    if f"{name}.mem_kv" not in state:
        return _Attention(linear, width // _HEAD_DIM, _HEAD_DIM)
    heads = _length(state, f"{name}.mem_kv", 1)
    return _Attention(linear, heads, width // heads)


def _length(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    return axis_length(state, key, axis, "lucidrains weights")


def _before(version: str | None, other: tuple[int, int]) -> bool:
    numbers = re.findall(r"\d+", version or "")[:2]
    return tuple(map(int, numbers)) < other


# ------------------------------------------------------------ its training


def training(state: Mapping[str, Tensor], hints: Hints) -> tuple[Schedule, str]:
    """Noise schedule and prediction, from the trainer's state; hints say what it does not.

    Raises:
        DclipError: neither the file nor a hint says them.
    """
    tensors = {key.rpartition(".")[2]: value for key, value in state.items() if key.count(".") < 2}
    betas = tensors.get("betas")
    if betas is None:
        need(
            hints.schedule is not None and hints.prediction is not None,
            "these lucidrains weights do not say how they were trained; give the checkpoint as its "
            "Trainer saved it, or checkpoint.schedule=sigmoid|cosine|linear (its beta_schedule) and "
            "checkpoint.prediction=v|epsilon|x0 (its objective)",
        )
        return Schedule(kind=hints.schedule or "linear"), hints.prediction or "epsilon"
    schedule = schedule_of(betas)
    if schedule is None:
        raise DclipError(
            f"these lucidrains weights were trained on {len(betas):,} betas of no known schedule"
        )
    prediction = hints.prediction
    if prediction is None and "loss_weight" in tensors:
        prediction = _predicted(tensors["loss_weight"].double(), schedule)
    if prediction is None:
        raise DclipError(
            "these lucidrains weights do not say what they predict; say it: "
            "checkpoint.prediction=epsilon|v|x0 (their objective)"
        )
    return schedule, prediction


def _predicted(weight: Tensor, schedule: Schedule) -> str | None:
    """What a network predicts whose loss has this weight [T] (Hang et al. 2023, gamma = 5)."""
    a, weight = schedule.alpha_bars[:-1], weight[:-1]  # at the last step it may be 0 / 0
    snr = a / (1 - a)
    for clipped in (snr, snr.clamp(max=5)):
        weights = {"epsilon": clipped / snr, "v": clipped / (snr + 1), "x0": clipped}
        for prediction, expected in weights.items():
            if torch.allclose(weight, expected, rtol=1e-2, atol=1e-6):
                return prediction
    return None
