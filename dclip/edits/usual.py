"""Where an edit usually acts, and in what colour: on average over a few images.

Pictures that are aligned, such as faces, are edited in the same place, and what one of them shows
faintly the others show plainly. Both are measured once, after learning (``edit.region_prior`` or
``edit.region_tint`` above 0), and kept in the edit's file.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.edits.colors import mean_within
from dclip.edits.region import change_map
from dclip.errors import DclipError

SIDE = 64  # the map's pixels a side, at most


def mean_map(change: Tensor) -> Tensor:
    """The mean of the maps of changes [N,3,H,W]: [1,1,S,S] in [0, 1], S at most ``SIDE``."""
    usual = change_map(change).mean(0, keepdim=True)
    if usual.shape[-1] > SIDE:
        usual = F.adaptive_avg_pool2d(usual, SIDE)
    usual = usual / usual.amax().clamp_min(1e-6)
    return (255 * usual).round() / 255  # as it is written


def mean_color(edited: Tensor, region: Tensor) -> Tensor:
    """The mean [3] over edited images [N,3,H,W] of the mean colours of their regions."""
    color = mean_within(edited, region).mean(0)
    return (1e4 * color).round() / 1e4  # as it is written


def written(usual: Tensor | None, color: Tensor | None = None) -> dict[str, Any]:
    """Map and colour as entries of an edit's header; empty without a map."""
    if usual is None:
        return {}
    known = {} if color is None else {"usual_color": [round(float(c), 4) for c in color]}
    values = (255 * usual[0, 0]).round().byte().cpu().contiguous()
    packed = base64.b64encode(zlib.compress(values.numpy().tobytes(), 9)).decode("ascii")
    return {"usual_change": {"side": values.shape[-1], "values": packed}, **known}


def read(header: Mapping[str, Any]) -> Tensor | None:
    """The map [1,1,S,S] of an edit's header; None where it holds none. DclipError if it is broken."""
    entry = header.get("usual_change")
    if entry is None:
        return None
    try:
        side = int(entry["side"])
        if not 0 < side <= SIDE:
            raise ValueError(side)
        unpacked = zlib.decompressobj().decompress(base64.b64decode(entry["values"]), side * side)
        values = torch.frombuffer(bytearray(unpacked), dtype=torch.uint8).reshape(1, 1, side, side)
    except (KeyError, TypeError, ValueError, RuntimeError, zlib.error, binascii.Error) as error:
        raise DclipError(
            "the edit's file does not say where it usually acts, though it should; "
            "learn it again, or set edit.region_prior=0"
        ) from error
    return values.float() / 255


def read_color(header: Mapping[str, Any]) -> Tensor | None:
    """The colour [3] of an edit's header; None where it holds none. DclipError if it is none."""
    entry = header.get("usual_color")
    if entry is None:
        return None
    try:
        color = torch.tensor([float(value) for value in entry])
        if color.shape != (3,) or not color.abs().max() <= 1:
            raise ValueError(entry)
    except (TypeError, ValueError) as error:
        raise DclipError(
            "the edit's file does not say in what colour it usually draws, though it should; "
            "learn it again, or set edit.region_tint=0"
        ) from error
    return color
