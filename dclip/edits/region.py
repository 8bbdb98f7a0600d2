"""Where an edit may act. Outside of its region, an image stays as it was, bit for bit.

    edited = x + gain m c,    c = edit(x) - reconstruction(x)

=======  ===============================================================================
symbol   meaning
=======  ===============================================================================
x        the source image
c        the change; with ``region_follow`` it follows the source's colours
m        the region [N,1,H,W] in [0, 1]: 1 may change, 0 stays
d        how much a pixel changes: the largest channel of abs(c), smoothed over
         3x3 pixels, the largest value 1
=======  ===============================================================================

``auto``: all of d above ``region_low`` that hangs together with some of it above ``region_high``
(hysteresis, as in Canny's edges), so that faint parts of a beard stay with it and faint spots
elsewhere go. Of the pieces, those stay that hold at least half as much change as the largest.
``quantile``: the same where the core is the top share of pixels. With ``region_prior``, d is in
part, or all, where the edit usually acts (usual.py). ``region_colors``: the colours of the core
decide, below. ``clip``: what CLIP needs to see the edit (seen.py). A picture: its grey values.
``truth``: where the true picture differs, on ToonFaces.

With ``region_colors``, the core is all of d above ``region_high``. What is below ``region_low`` says
which colours the edit leaves. The region is every piece that surely has a colour of the core, and a
quarter of which changes by half of ``region_low``, wherever it is: no beard is left half red. Its
edge is not softened, but shared between the colours of both sides (colors.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config.edit import FOUND
from dclip.config.edit import Edit as EditOptions
from dclip.edits.colors import FAINT, Tint, by_color, edge_shares, like_core
from dclip.edits.header import REGION
from dclip.errors import DclipError, choose

EVERYWHERE = EditOptions(source="before", target="after", region="none")
QUANTILE = 0.85  # of the pixels are outside of the core of region=quantile
SMOOTHING = 1e-3  # added to the colours' variance in a window, images in [-1, 1]
REACHED = 0.25  # of a piece of the core's colours that must change, so that all of it does
SHARE = 0.5  # of the largest piece's change that another piece must hold


def change_map(change: Tensor) -> Tensor:
    """How much each pixel changes, [N,1,H,W] in [0, 1] for a change [N,3,H,W]; 1 where most.

    Where nothing changes by more than half a grey level, the largest value stays below 1.
    """
    largest = change.abs().amax(1, keepdim=True)
    smooth = F.avg_pool2d(largest, 3, 1, 1, count_include_pad=False)
    peak = smooth.flatten(1).amax(1).clamp_min(1 / 255).view(-1, 1, 1, 1)
    return smooth / peak


def main_pieces(d: Tensor, low: float, high: float) -> Tensor:
    """The region of one image's d [H,W], as 0 and 1.

    Connected pixels (over edges and corners) above ``low`` are a piece. It stays where some of it
    is above ``high`` and it holds at least ``SHARE`` as much change as the largest piece.
    """
    from scipy import ndimage

    values = d.cpu().numpy()
    labels, count = ndimage.label(values >= low, structure=np.ones((3, 3)))
    region = torch.zeros_like(d)
    if count == 0:
        return region
    pieces = np.arange(1, count + 1)
    held = ndimage.sum(values, labels, pieces)
    peaks = ndimage.maximum(values, labels, pieces)
    stays = (peaks >= high) & (held >= SHARE * held[peaks >= high].max(initial=0))
    region[torch.from_numpy(np.isin(labels, pieces[stays]))] = 1
    return region


def close_holes(region: Tensor) -> Tensor:
    """The region with holes of a pixel or two closed."""
    return -F.max_pool2d(-F.max_pool2d(region, 3, 1, 1), 3, 1, 1)


def soften(region: Tensor, feather: float) -> Tensor:
    """The region with its border softened inwards and outwards."""
    if feather <= 0:
        return region
    radius = max(1, round(2 * feather))
    at = torch.arange(-radius, radius + 1, dtype=region.dtype, device=region.device)
    kernel = torch.exp(-(at**2) / (2 * feather**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(region, (radius, radius, radius, radius), mode="replicate")
    blurred = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    blurred = F.conv2d(blurred, kernel.view(1, 1, -1, 1))
    return torch.where(blurred < FAINT, torch.zeros_like(blurred), blurred).clamp(0, 1)


def followed(change: Tensor, source: Tensor, radius: int) -> Tensor:
    """The change [N,3,H,W] as a function of the source's colours, as far as ``radius`` pixels.

    In every window it becomes the affine function A x + b of the source x that is nearest to it: a
    guided filter (He et al. 2010) with a colour guide. Hair gets one new colour up to its edge, and
    what spilled over the edge becomes faint. So do shapes that the source does not have: it is for
    colours.
    """

    def mean(values: Tensor) -> Tensor:
        side = 2 * radius + 1
        for window, margin in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
            values = F.avg_pool2d(values, window, 1, margin, count_include_pad=False)
        return values

    def covariances(guide: Tensor, values: Tensor) -> Tensor:
        products = (guide[:, :, None] * values[:, None]).flatten(1, 2)
        means = (mean(guide)[:, :, None] * mean(values)[:, None]).flatten(1, 2)
        matrices: Tensor = (mean(products) - means).unflatten(1, (3, 3))
        return matrices.permute(0, 3, 4, 1, 2)

    spread = covariances(source, source) + SMOOTHING * torch.eye(3, device=source.device)
    slope = torch.linalg.solve(spread, covariances(source, change))
    offset = mean(change) - torch.einsum("nchw,nhwck->nkhw", mean(source), slope)
    slopes = mean(slope.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(3, (3, 3))
    following: Tensor = torch.einsum("nchw,nhwck->nkhw", source, slopes) + mean(offset)
    return following


def with_prior(d: Tensor, usual: Tensor, share: float) -> Tensor:
    """Maps of change d [N,1,H,W] with a share of the usual one u [1,1,S,S]: d^(1-share) u^share.

    The largest value of each is 1 again.
    """
    u = F.interpolate(usual.to(d), d.shape[-2:], mode="bilinear", align_corners=False)
    joint = d.pow(1 - share) * u.pow(share)
    return joint / joint.flatten(1).amax(1).clamp_min(1e-6).view(-1, 1, 1, 1)


def change_of(options: EditOptions, source: Tensor, edited: Tensor, plain: Tensor) -> Tensor:
    """The change [N,3,H,W] between images without and with the edit."""
    change = edited - plain
    if options.region_follow:
        change = followed(change, source, options.region_follow)
    return change


def found_region(
    options: EditOptions, source: Tensor, change: Tensor, usual: Tensor | None = None
) -> Tensor:
    """The region of ``auto`` or ``quantile``, [N,1,H,W], from a whole edit's change.

    Args:
        source, change: [N,3,H,W].
        usual: how much the edit usually changes each pixel, [1,1,S,S] in [0, 1].
    """
    own = maps = change_map(change)
    if usual is not None and options.region_prior > 0:
        maps = with_prior(own, usual, options.region_prior)
    regions = []
    for x, changed, d in zip(source, own[:, 0], maps[:, 0], strict=True):
        low, high = options.region_low, options.region_high
        if options.region == "quantile":
            high = float(d.flatten().quantile(QUANTILE))
            low = high / 2
        if options.region_colors:
            regions.append(_region_by_color(options, x, changed, d, low, high))
        else:
            regions.append(close_holes(main_pieces(d, low, high)[None])[0])
    region = torch.stack(regions)[:, None]
    return (
        edge_shares(source, region)
        if options.region_colors
        else soften(region, options.region_feather)
    )


def _region_by_color(
    options: EditOptions, source: Tensor, changed: Tensor, d: Tensor, low: float, high: float
) -> Tensor:
    """The region of one image in the colours of its core, [H,W] as 0 and 1.

    A core without colours of its own, such as that of a plain picture, is the region.

    Args:
        changed: how much each pixel changes, [H,W].
        d: the same, with where the edit usually acts in it.
    """
    from scipy import ndimage

    core = main_pieces(d, high, high) > 0
    surely = like_core(source, core, (d < low) & ~core) >= options.region_colors
    labels, count = ndimage.label(surely.cpu().numpy(), structure=np.ones((3, 3)))
    pieces = np.arange(1, count + 1)
    reached = ndimage.mean((changed >= low / 2).cpu().numpy(), labels, pieces) if count else pieces
    found = torch.from_numpy(np.isin(labels, pieces[reached >= REACHED]))
    return (found.to(core.device) if found.any() else core).to(d)


def where_of(learned: Mapping[str, Any], region: str | None) -> EditOptions | None:
    """The options of a region that is found, as an edit's header holds them; None for everywhere.

    Args:
        learned: the ``edit`` of a header.
        region: as asked for; None: as it was learned with.

    Raises:
        DclipError: it is another.
    """
    name = region or learned.get("region") or "none"
    if name == "none":
        return None
    if name not in FOUND:
        raise DclipError(f"region={name} does not exist here{choose(name, (*FOUND, 'none'))}")
    known = {key: learned[key] for key in REGION if key in learned and key != "region"}
    texts = {key: learned[key] for key in ("source", "target") if learned.get(key)}
    return replace(EVERYWHERE, region=name, **known, **texts)


def true_region(source: Tensor, truth: Tensor, feather: float) -> Tensor:
    """Where the true picture differs from the source, [N,1,H,W]."""
    differs = ((truth - source).abs().amax(1, keepdim=True) > 1 / 255).float()
    return soften(close_holes(differs), feather)


def acting_in(
    options: EditOptions,
    region: Tensor,
    source: Tensor,
    edited: Tensor,
    plain: Tensor,
    tint: Tint | None = None,
) -> Tensor:
    """Edited images [N,3,H,W] that change in the region only, as the options shape the change."""
    change = shaped_change(options, region, source, edited, plain)
    return confine(source, tint.added(source, change, region) if tint else change, region)


def shaped_change(
    options: EditOptions, region: Tensor, source: Tensor, edited: Tensor, plain: Tensor
) -> Tensor:
    """The change [N,3,H,W] as the options shape it."""
    change = _shaped(options, change_of(options, source, edited, plain), source, region)
    return options.region_gain * change


def tint_of(
    options: EditOptions,
    region: Tensor,
    source: Tensor,
    edited: Tensor,
    plain: Tensor,
    color: Tensor | None,
) -> Tint | None:
    """What brings whole edits (gamma = 1) to the colour [3] that they usually draw; None: nothing."""
    if color is None or options.region_tint == 0:
        return None
    change = shaped_change(options, region, source, edited, plain)
    return Tint.towards(color, options.region_tint, source, change, region)


def _shaped(options: EditOptions, change: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """The change [N,3,H,W], a function of the source's colours where the options say so."""
    return by_color(source, change, region) if options.region_colors else change


def union(regions: Sequence[Tensor]) -> Tensor:
    """Where any of several regions [N,1,H,W] is."""
    return torch.stack(list(regions)).amax(0)


def confine(source: Tensor, change: Tensor, region: Tensor) -> Tensor:
    """The source with a change in a region; its own pixels, bit for bit, where that is 0."""
    changed = source + region * change
    return torch.where(region > 0, changed.clamp(-1, 1), source)
