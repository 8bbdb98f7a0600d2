"""``edit.region=clip``: the smallest part of a change in which CLIP still sees the edit.

    m* = argmin_m  sum(m |c|) / sum |c|    subject to    s(m) >= share s(1)
    s(m) = <E(x + m c) - E(x), dT>

=======  ===============================================================================
symbol   meaning
=======  ===============================================================================
x, c     a source image, and the change of the whole edit
m        the region, in [0, 1]
E, dT    CLIP's image encoder; the unit direction of the edit's texts (losses.py)
share    how much of what CLIP sees must be left (``edit.region_share``)
w        what the constraint weighs: as long as too little is left, it rises
=======  ===============================================================================

The size of a change does not say what it is for: a smile moves brows and cheeks, and the largest
change may be none of it. Here every pixel pays for its change, and stays where CLIP gives as much
for it. It is the smallest sufficient part of Fong and Vedaldi (ICCV 2017), of an edit's change in
place of a picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config.edit import Edit as EditOptions
from dclip.edits.colors import FAINT
from dclip.models.clip import ClipModel
from dclip.types import batches

SIDE = 64  # the region's pixels a side, at most; and half of the picture's, or it falls into specks
STEPS, LR, BEGIN = 60, 0.3, 2.0  # Adam's, on the logits of m, which begin here
LEAST, RISE = 1 / 3, 0.1  # w at the beginning, and what it gains a step
BATCH = 64


def seen_region(
    options: EditOptions,
    clip: ClipModel,
    direction: Tensor,
    source: Tensor,
    change: Tensor,
    usual: Tensor | None = None,
) -> Tensor:
    """The region [N,1,H,W] in [0, 1] of changes [N,3,H,W] of source images in [-1, 1].

    Args:
        options: ``region_share``, from 0 to 1. Where CLIP sees nothing of the edit, nothing is left
            of its change. With ``region_prior``, less is left where it is seldom needed.
        direction: the edit's, [D], a unit vector.
        usual: how often CLIP needs a pixel's change, [1,1,S,S] in [0, 1], the largest value 1.
    """
    device = clip.mean.device
    pieces = []
    for few in batches(len(source), BATCH):
        x, c = source[few].to(device), change[few].to(device)
        region = _smallest(clip, direction.to(device), x, c, options.region_share)
        pieces.append(region.to(source.device))
    region = torch.cat(pieces) if pieces else source[:, :1]
    if usual is None or options.region_prior == 0:
        return region
    left = 1 - options.region_prior * (1 - _often(options, usual, source))
    return _without_faint(region * left)


def _often(options: EditOptions, usual: Tensor, source: Tensor) -> Tensor:
    """1 where it is needed often, above ``region_high`` of the most; 0 below ``region_low``."""
    u = F.interpolate(usual.to(source), source.shape[-2:], mode="bilinear", align_corners=False)
    rise = max(options.region_high - options.region_low, 1e-6)
    often: Tensor = ((u - options.region_low) / rise).clamp(0, 1)
    return often


@torch.inference_mode(False)
@torch.enable_grad()
def _smallest(clip: ClipModel, direction: Tensor, x: Tensor, c: Tensor, share: float) -> Tensor:
    # clones: no gradient passes what was made in inference mode
    x, c, direction = x.clone(), c.clone(), direction.clone()
    size, side = x.shape[-2:], min(SIDE, x.shape[-1] // 2)
    amount = c.abs().mean(1, keepdim=True)
    amount = amount / amount.flatten(1).sum(1).clamp_min(1e-6).view(-1, 1, 1, 1)
    with torch.no_grad():
        before = clip.image_features(x) @ direction

    def seen(region: Tensor | float) -> Tensor:
        return clip.image_features((x + region * c).clamp(-1, 1)) @ direction - before

    with torch.no_grad():
        enough = (share * seen(1.0)).clamp_min(1e-3)
    weight = torch.full_like(enough, LEAST)
    logits = torch.full((len(x), 1, side, side), BEGIN, device=x.device, requires_grad=True)
    optimiser = torch.optim.Adam([logits], LR)
    for _ in range(STEPS):
        region = _region(logits, size)
        lacking = 1 - seen(region) / enough
        loss = weight * lacking.clamp_min(0) + (region * amount).flatten(1).sum(1)
        (logits.grad,) = torch.autograd.grad(loss.sum(), logits)
        optimiser.step()
        weight = (weight + RISE * lacking.detach()).clamp_min(LEAST)
    return _without_faint(_region(logits.detach(), size))


def _without_faint(region: Tensor) -> Tensor:
    return torch.where(region < FAINT, 0.0, region)


def _region(logits: Tensor, size: torch.Size) -> Tensor:
    region = torch.sigmoid(logits)
    if region.shape[-2:] == size:
        return region
    return F.interpolate(region, size, mode="bilinear", align_corners=False)
