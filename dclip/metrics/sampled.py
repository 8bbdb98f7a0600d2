"""What is measured of images drawn from noise: do they show what was asked for, and do they look like pictures that do?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dclip.config import Features, Metric
from dclip.metrics.distribution import Kernels, frechet, kid_interval, mean_interval, subset_kid
from dclip.metrics.features import Extractor, extractor
from dclip.metrics.functional import judged_success
from dclip.metrics.suite import Scores, apply_net
from dclip.models.judge import Judge
from dclip.text.prompts import Prompt, attributes_of
from dclip.text.reader import Reader, target_probability
from dclip.types import batches


def measure_samples(
    images: Tensor,
    prompts: Sequence[Prompt],
    options: Metric,
    readers: dict[str, Reader | None],
    judge: Judge | None,
    reference: Tensor | str,
) -> Scores:
    """All metrics of drawn images [N,3,H,W] in [-1, 1] that are asked for.

    Args:
        readers: the CLIPs that have read the prompts: ``guide`` and ``heldout``.
        judge: ToonFaces' judge; None for photographs.
        reference: true pictures [M,3,H,W] of what is asked for, or why there are none.
    """
    scores = Scores()
    if options.clip and prompts:
        _targets(scores, images, prompts, readers)
    if options.judge and prompts:
        _judged(scores, images, prompts, judge)
    for name in list(scores.rows) if options.bootstrap else ():
        low, high = mean_interval(torch.tensor(scores.rows[name]), options.bootstrap)
        scores.values[f"{name}_low"], scores.values[f"{name}_high"] = low, high
    if options.kid:
        _distances(scores, images, options, readers.get("heldout"), judge, reference)
    return scores


def _targets(
    scores: Scores, images: Tensor, prompts: Sequence[Prompt], readers: dict[str, Reader | None]
) -> None:
    for role, reader in readers.items():
        name = f"p_target_{role}"
        if not all(prompt.distractors for prompt in prompts):
            scores.absent(name, "nothing competes with the target; give guidance.distractors")
        elif reader is None:
            scores.absent(name, "no held-out CLIP is set (clip.heldout)")
        else:
            features = apply_net(reader.clip, reader.clip.image_features, images)
            device = reader.targets.device
            scores.add(name, target_probability(reader, features.to(device)).cpu())


def _judged(scores: Scores, images: Tensor, prompts: Sequence[Prompt], judge: Judge | None) -> None:
    wanted = attributes_of(prompts)
    if judge is None:
        return scores.absent("judge_success", "there is a judge for ToonFaces only")
    if not wanted:
        return scores.absent("judge_success", "the prompts name no attribute of ToonFaces")
    goal, device = list(wanted.items()), next(judge.parameters()).device
    seen: list[dict[str, str]] = []
    for part in batches(len(images), 64):
        seen += judge.sees(images[part].to(device))
    for name, value in goal if len(goal) > 1 else ():
        scores.add(f"judge_{name}", judged_success(seen, [(name, value)]))
    scores.add("judge_success", judged_success(seen, goal))
    return None


def _extractor(options: Metric, heldout: Reader | None, judge: Judge | None) -> Extractor | str:
    """What ``metric.features`` names. A CLIP's are scaled so that KID's kernel is (1 + cosine)^3."""
    if options.features is Features.auto:
        return extractor(judge)
    if heldout is None:
        return "metric.features=heldout needs clip.heldout, metric.clip=true and guidance.targets"
    clip = heldout.clip
    return (
        clip,
        lambda x: clip.image_features(x) * heldout.targets.shape[-1] ** 0.5,
        f"held-out CLIP {clip.name}",
    )


def _distances(
    scores: Scores,
    images: Tensor,
    options: Metric,
    heldout: Reader | None,
    judge: Judge | None,
    reference: Tensor | str,
) -> None:
    names = [f"kid_{size}" for size in options.kid_sizes]
    found = reference if isinstance(reference, str) else _extractor(options, heldout, judge)
    if isinstance(found, str) or isinstance(reference, str):
        for name in (*names, "fid"):
            scores.absent(name, str(found))
        return
    net, extract, label = found
    real, fake = (apply_net(net, extract, x) for x in (reference, images))
    kernels = Kernels.of(real, fake)
    for name, size in zip(names, options.kid_sizes, strict=True):
        if size > min(len(real), len(fake)):
            scores.absent(
                name, f"{min(len(real), len(fake))} images are fewer than the subset size"
            )
            continue
        scores.values[name], scores.values[f"{name}_std"] = subset_kid(
            kernels, size, options.kid_subsets
        )
    if options.bootstrap and min(len(real), len(fake)) > 3:
        scores.values["kid_low"], scores.values["kid_high"] = kid_interval(
            kernels, options.bootstrap
        )
    if len(fake) > 1:
        scores.values["fid"] = frechet(real, fake)
    scores.values["kid_features"] = f"{label}, {len(fake)} images against {len(real)} true ones"
