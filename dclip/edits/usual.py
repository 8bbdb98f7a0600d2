"""What an edit usually does, on average over a few images.

Pictures that are aligned, such as faces, are edited in the same place, and what one of them shows
faintly the others show plainly. It is measured once, after learning (``edit.region_prior``,
``edit.region_tint`` or ``edit.region_palette`` above 0), and kept in the edit's file.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config.edit import Edit as EditOptions
from dclip.edits.colors import mean_within
from dclip.edits.matte import Matte, Palette, origin_of, usual_share
from dclip.edits.region import change_map
from dclip.errors import DclipError

SIDE = 64  # the map's pixels a side, at most


@dataclass(frozen=True)
class Usual:
    """What an edit usually does; None: unknown.

    Attributes:
        change: how much it changes each pixel, [1,1,S,S] in [0, 1].
        color: the mean colour [3] of its region as it draws it, in [-1, 1].
        origin: where in a picture the colour is that it draws, [1,1,S,S] in [0, 1].
        share: how far each pixel goes to that colour, [1,1,S,S] in [0, 1] (matte.py).
        seen: how often CLIP needs its change, [1,1,S,S] in [0, 1] (seen.py).
    """

    change: Tensor | None = None
    color: Tensor | None = None
    origin: Tensor | None = None
    share: Tensor | None = None
    seen: Tensor | None = None


def mean_map(change: Tensor) -> Tensor:
    """The mean of the maps of changes [N,3,H,W]: [1,1,S,S] in [0, 1], S at most ``SIDE``."""
    return mean_region(change_map(change))


def mean_region(regions: Tensor) -> Tensor:
    """The mean of regions [N,1,H,W]: [1,1,S,S] in [0, 1], the largest value 1."""
    usual = _small(regions.mean(0, keepdim=True))
    return _as_written(usual / usual.amax().clamp_min(1e-6))


def mean_color(edited: Tensor, region: Tensor) -> Tensor:
    """The mean [3] over edited images [N,3,H,W] of the mean colours of their regions."""
    color = mean_within(edited, region).mean(0)
    return (1e4 * color).round() / 1e4  # as it is written


def origin_map(source: Tensor, change: Tensor, region: Tensor) -> Tensor:
    """Where the colours usually come from that an edit draws (matte.py): [1,1,S,S] in [0, 1].

    Args:
        source, change: [N,3,H,W].
        region: what it usually changes, [1,1,S,S] of truth values, S at most ``SIDE``.
    """
    return _as_written(origin_of(_small(source), _small(change), region))


def share_map(source: Tensor, change: Tensor, origin: Tensor, width: float) -> Tensor:
    """How far a change usually goes to the colours of this origin: [1,1,S,S] in [0, 1]."""
    return _as_written(usual_share(Palette(origin, width), _small(source), _small(change)))


def matte_of(options: EditOptions, usual: Usual, source: Tensor, change: Tensor) -> Matte | None:
    """The matte of an edit's whole change [N,3,H,W], where ``edit.region_palette`` asks for one.

    None too where the edit does not know what colour it draws.
    """
    if options.region_palette == 0 or usual.origin is None or usual.share is None:
        return None
    palette = Palette(usual.origin, options.region_palette)
    gain, low = options.region_gain, options.region_low
    return Matte.of(palette, usual.share, source, change, gain, low)


def _as_written(values: Tensor) -> Tensor:
    """A map [1,1,S,S] in [0, 1] as it is written, in 255 steps."""
    return (255 * values).round() / 255


def _small(values: Tensor) -> Tensor:
    """Maps or images of ``SIDE`` pixels a side at most."""
    return F.adaptive_avg_pool2d(values, SIDE) if values.shape[-1] > SIDE else values


def written(usual: Usual) -> dict[str, Any]:
    """What is known as entries of an edit's header."""
    maps = {
        "usual_change": usual.change,
        "usual_origin": usual.origin,
        "usual_share": usual.share,
        "usual_seen": usual.seen,
    }
    known = {key: _packed(values) for key, values in maps.items() if values is not None}
    if usual.color is None:
        return known
    return {**known, "usual_color": [round(float(c), 4) for c in usual.color]}


def read(header: Mapping[str, Any]) -> Usual:
    """What an edit's header knows. DclipError if it is broken."""
    return Usual(
        _map(header, "usual_change", "where it usually acts", "region_prior"),
        _color(header),
        _map(header, "usual_origin", "where its colours usually come from", "region_palette"),
        _map(header, "usual_share", "how far it usually goes to these colours", "region_palette"),
        _map(header, "usual_seen", "where CLIP usually needs it", "region_prior"),
    )


def _packed(values: Tensor) -> dict[str, Any]:
    steps = (255 * values[0, 0]).round().byte().cpu().contiguous()
    packed = base64.b64encode(zlib.compress(steps.numpy().tobytes(), 9)).decode("ascii")
    return {"side": steps.shape[-1], "values": packed}


def _map(header: Mapping[str, Any], key: str, what: str, setting: str) -> Tensor | None:
    """A map [1,1,S,S] of an edit's header; None where it holds none."""
    entry = header.get(key)
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
            f"the edit's file does not say {what}, though it should; "
            f"learn it again, or set edit.{setting}=0"
        ) from error
    return values.float() / 255


def _color(header: Mapping[str, Any]) -> Tensor | None:
    """The colour [3] of an edit's header; None where it holds none."""
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
