"""Asyrp's rule for where an edit ends (Kwon et al. 2023, Sec. 4.1).

    t_edit = the smallest t with d(x, P_t) >= threshold * cos(E(source), E(target))

=======  ==============================================================================
symbol   meaning
=======  ==============================================================================
x, P_t   a picture, and the clean picture that the original network predicts at t of its
         inversion
d        LPIPS, where its weights are on disk; else 1 - cosine of identity features
E        the text encoder of the CLIP that guides; the cosine is 1 without texts
=======  ==============================================================================

The published threshold, 0.33, is for LPIPS. Distances are means over a few validation pictures, at
the timesteps of the inversion.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config.edit import CALIBRATION_IMAGES
from dclip.diffusion.options import inverter_of, pairs_of
from dclip.diffusion.sampler import Step, sample
from dclip.errors import DclipError, need
from dclip.metrics.scorers import Scorers
from dclip.models.networks import Networks
from dclip.run import Run
from dclip.text.direction import direction_of
from dclip.types import Images

log = logging.getLogger("dclip")

Distance = Callable[[Tensor, Tensor], float]  # two batches of pictures -> their mean distance


def distance_of(networks: Networks) -> tuple[str, Distance]:
    """The best distance there is, with its name.

    Raises:
        DclipError: there is none.
    """
    scorers, identity = Scorers.of(networks), networks.identity
    blank = torch.zeros(1, 3, 64, 64)
    reason = scorers.perceptual_distance(blank, blank)
    if not isinstance(reason, str):
        return "LPIPS", lambda a, b: _mean(scorers.perceptual_distance(a, b))
    if identity is None:
        raise DclipError(
            f"method.t_edit=auto needs LPIPS ({reason}), or an identity network (loss.id above 0); "
            "or give method.t_edit a timestep"
        )

    def distance(a: Tensor, b: Tensor) -> float:
        return 1 - _mean(F.cosine_similarity(identity.features(a), identity.features(b)))

    return "1 - cosine of identity features", distance


def _mean(values: Tensor | str) -> float:
    assert isinstance(values, Tensor)
    return float(values.mean())


@torch.no_grad()
def likeness(run: Run, images: Images) -> float:
    """The cosine of the edit's texts, 0 to 1; 1 without texts."""
    clip, texts = run.networks.clip, direction_of(run.cfg, images)
    if clip is None or callable(texts):
        return 1.0
    source, target = clip.text_features(list(texts))
    return max(0.0, float(F.cosine_similarity(source, target, dim=0)))


@torch.no_grad()
def measured_t_edit(run: Run, images: Images, threshold: float) -> int:
    """The timestep below which nothing is edited, measured on a few of the images.

    Raises:
        DclipError: there are no images, or the distance is not reached below ``sampler.t0``.
    """
    few = images.take(range(min(CALIBRATION_IMAGES, len(images))))
    need(
        len(few) > 0,
        "method.t_edit=auto is measured on validation images, and there are none; "
        "choose dataset.validation=4 or more, or give method.t_edit a timestep",
    )
    name, distance = distance_of(run.networks)
    goal = threshold * likeness(run, few)
    reached = _distances(run, few.pixels.to(run.device), distance)
    for t, value in reached:
        if value >= goal:
            log.info(
                "t_edit %d: there the predicted picture is %.3f from its source (%s), on %d "
                "validation images; the rule asks for %.3f",
                t,
                value,
                name,
                len(few),
                goal,
            )
            return t
    need(
        bool(reached),
        f"method.t_edit=auto has no timestep above 0 to measure at with sampler.s_for="
        f"{run.cfg.sampler.s_for} and sampler.s_gen={run.cfg.sampler.s_gen}; choose more steps, or "
        "give method.t_edit a timestep (0: to the end)",
    )
    t, most = reached[-1]
    raise DclipError(
        f"method.t_edit=auto: below sampler.t0={run.cfg.sampler.t0} the predicted pictures come "
        f"{most:.3f} far from their sources (t={t}; {name}), and the rule asks for {goal:.3f}, so "
        "nothing would be edited; raise sampler.t0, lower method.t_edit_distance, or give "
        "method.t_edit a timestep (0: to the end)"
    )


def _distances(run: Run, x: Tensor, distance: Distance) -> list[tuple[int, float]]:
    """(t, distance of P_t from x) at the inversion's timesteps, from the smallest on."""
    found: list[tuple[int, float]] = []

    def note(step: Step) -> None:
        if step.t > 0:
            found.append((step.t, distance(step.x0.clamp(-1, 1), x)))

    options, model = run.cfg.sampler, run.model
    up = pairs_of(options)[0]
    sample(model.predict, x, up, model.schedule, solver=inverter_of(options), on_step=note)
    return sorted(found)
