"""Everything that is measured of an edit, from one pass over its images.

A metric that cannot be computed is absent, with its reason under ``NAME_absent``; never zero, never a look-alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dclip import losses
from dclip.config import Metric, NoMetric, ParserName
from dclip.data.domain import Truth
from dclip.metrics import functional as F
from dclip.metrics.features import JudgeFeatures, lpips_network
from dclip.metrics.names import METRICS
from dclip.models.clip import ClipModel
from dclip.models.networks import Scorers
from dclip.types import Edited, batches


@dataclass
class Scores:
    """``values``: one number (or a reason) a metric; ``rows``: one number an image and metric."""

    values: dict[str, float | str] = field(default_factory=dict)
    rows: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, per_image: Tensor) -> None:
        """A metric from its values per image."""
        self.rows[name] = [round(float(v), 6) for v in per_image]
        self.values[name] = float(per_image.double().mean())

    def absent(self, name: str, reason: str) -> None:
        """A metric that cannot be computed, and why."""
        self.values[f"{name}_absent"] = reason


def apply_net(
    net: nn.Module, fn: Callable[[Tensor], Tensor], images: Tensor, size: int = 64
) -> Tensor:
    """``fn`` over all images in batches, on the network's device; the result on the CPU."""
    device = next(net.parameters()).device
    with torch.no_grad():
        return torch.cat([fn(images[part].to(device)).cpu() for part in batches(len(images), size)])


def measure(
    edited: Edited,
    options: Metric,
    scorers: Scorers,
    texts: tuple[str, str] | Callable[[ClipModel], Tensor] | None = None,
    truth: Truth | None = None,
) -> Scores:
    """All metrics of the edit that are asked for.

    Args:
        texts: (source, target) text, or a CLIP's direction by other means; without them there is no S_dir.
        truth: the edit's true meaning, where it is known.
    """
    scores = Scores()
    if len(edited.source) == 0:
        return scores
    if options.pixels:
        _pixels(scores, edited)
    if options.lpips:
        _lpips(scores, edited)
    if options.clip and texts is not None:
        _clip(scores, edited, scorers, texts)
    if options.identity:
        _identity(scores, edited, scorers)
    if options.judge or scorers.parser is not None:
        _parts(scores, edited, scorers, options)
    if options.judge:
        _judge(scores, edited, scorers, truth)
    if options.kid:
        _kid(scores, edited, scorers, options)
    for name, own in {} if isinstance(options, NoMetric) else METRICS.items():
        found = own(edited, scorers)
        scores.absent(name, found) if isinstance(found, str) else scores.add(name, found)
    return scores


def _pixels(scores: Scores, edited: Edited) -> None:
    source, result = edited.source.pixels, edited.result
    scores.add("mae", F.mae(result, source))
    scores.add("psnr", F.psnr(result, source))
    scores.add("ssim", F.ssim(result, source))
    if edited.truth is not None:
        ours, untouched = (
            F.truth_distance(result, edited.truth),
            F.truth_distance(source, edited.truth),
        )
        scores.rows["truth_distance"] = [round(float(v), 6) for v in ours]
        scores.rows["truth_distance_untouched"] = [round(float(v), 6) for v in untouched]
        scores.values["counterfactual_ratio"] = F.counterfactual_ratio(result, source, edited.truth)


def _clip(
    scores: Scores,
    edited: Edited,
    scorers: Scorers,
    texts: tuple[str, str] | Callable[[ClipModel], Tensor],
) -> None:
    for name, clip in (("s_dir", scorers.clip), ("s_dir_heldout", scorers.heldout)):
        if clip is None:
            scores.absent(
                name,
                "no held-out CLIP is set (clip.heldout)"
                if name == "s_dir_heldout"
                else "no CLIP is set",
            )
            continue
        direction = (
            texts(clip) if callable(texts) else losses.text_direction(clip.text_features, *texts)
        )
        after, before = (
            apply_net(clip, clip.image_features, x) for x in (edited.result, edited.source.pixels)
        )
        scores.add(name, losses.direction_cosine(after, before, direction.cpu()))


def _identity(scores: Scores, edited: Edited, scorers: Scorers) -> None:
    if scorers.identity is None:
        return scores.absent("id", "no identity network for this data set")
    after, before = (
        apply_net(scorers.identity, scorers.identity.features, x)
        for x in (edited.result, edited.source.pixels)
    )
    scores.add("id", (after * before).sum(1))
    return None


def _parts(scores: Scores, edited: Edited, scorers: Scorers, options: Metric) -> None:
    net = scorers.parser or scorers.judge
    if net is None or options.parser is ParserName.none:
        return scores.absent("sc", "no network finds the parts of these images (metric.parser)")
    size = 64 if net is scorers.judge else 4  # photographs are segmented at 512 x 512
    scores.add(
        "sc",
        F.part_agreement(
            *(apply_net(net, net.part_map, x, size) for x in (edited.result, edited.source.pixels))
        ),
    )
    if scorers.parser is not None:
        scores.values["sc_parser"] = scorers.parser.name
    return None


def _judge(scores: Scores, edited: Edited, scorers: Scorers, truth: Truth | None) -> None:
    judge = scorers.judge
    if judge is None:
        return None
    if truth is None:
        return scores.absent("judge_success", "the edit's true meaning is not known")
    seen = judge.sees(edited.result.to(next(judge.parameters()).device))
    scores.add("judge_success", F.judged_success(seen, truth.goal))
    for name, value in truth.goal if len(truth.goal) > 1 else ():
        scores.add(f"judge_success_{name}", F.judged_success(seen, [(name, value)]))
    if not edited.source.facts:
        return scores.absent("judge_preservation", "the faces behind the pictures are not known")
    kept = [truth.kept(facts) for facts in edited.source.facts]
    if not any(kept):
        return scores.absent(
            "judge_preservation", "a change of style changes every attribute's looks"
        )
    scores.add("judge_preservation", F.judged_preservation(seen, kept))
    return None


def _lpips(scores: Scores, edited: Edited) -> None:
    net = lpips_network("alex")
    if isinstance(net, str):
        return scores.absent("lpips", net)
    a, b = edited.result.clamp(-1, 1), edited.source.pixels.clamp(-1, 1)
    scores.add(
        "lpips", torch.stack([net(x[None], y[None]) for x, y in zip(a, b, strict=True)]).flatten()
    )
    return None


def _kid(scores: Scores, edited: Edited, scorers: Scorers, options: Metric) -> None:
    """KID of the edited images against the true ones (or, where there are none, against the sources)."""
    count = len(edited.source)
    if scorers.judge is None:
        return scores.absent(
            "kid",
            "in-domain features exist for ToonFaces only; for photographs use torch-fidelity's Inception",
        )
    if count < 4:
        return scores.absent("kid", f"{count} images are too few for a kernel estimate")
    from torchmetrics.image.kid import KernelInceptionDistance

    reference = edited.truth if edited.truth is not None else edited.source.pixels
    subset, device = min(options.kid_subset, count // 2), next(scorers.judge.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2020)
        features = JudgeFeatures(scorers.judge)
        kid: Any = KernelInceptionDistance(
            features, subsets=options.kid_subsets, subset_size=subset, normalize=True
        ).to(device)
        for part in batches(count, 64):
            kid.update(F.unit(reference[part]).to(device), real=True)
            kid.update(F.unit(edited.result[part]).to(device), real=False)
        mean, std = kid.compute()
    scores.values["kid"], scores.values["kid_std"] = float(mean), float(std)
    scores.values["kid_features"] = (
        f"judge, {subset} of {count}, against {'truth' if edited.truth is not None else 'sources'}"
    )
    return None
