"""The metrics of what edited pictures and samples show. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dclip.metrics.contract import Scores, metric

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.metrics.scorers import Scorers
    from dclip.types import Edited

# ------------------------------------------------------------------------------------ the judge


@metric(
    "judge_success",
    "higher",
    "Share of images that show the edit, by a network that no loss has seen.",
    needs=("judge", "goal"),
    readers=("edits", "folders", "samples"),
    switch="judge",
)
def judge_success(edited: Edited, scorers: Scorers) -> Scores:
    """All attributes of the goal at once; where there are several, each of them as well."""
    from dclip.metrics.functional import judged_success

    scores, goal = Scores(), scorers.goal or ()
    seen = scorers.judged(edited.result)
    scores.add("judge_success", judged_success(seen, goal))
    if len(goal) > 1:
        # Samples have always had the shorter names.
        prefix = "judge" if scorers.prompts else "judge_success"
        for name, value in goal:
            scores.add(f"{prefix}_{name}", judged_success(seen, [(name, value)]))
    return scores


@metric(
    "judge_preservation",
    "higher",
    "Share of all other attributes that are as they were.",
    needs=("judge", "truth"),
    readers=("edits",),
    switch="judge",
)
def judge_preservation(edited: Edited, scorers: Scorers) -> Tensor | str:
    """What the edit should have left alone, and has."""
    from dclip.metrics.functional import judged_preservation

    truth, facts = scorers.truth, edited.source.facts
    if truth is None or not facts:
        return "the faces behind the pictures are not known"
    kept = [truth.kept(one) for one in facts]
    if not any(kept):
        return "a change of style changes every attribute's looks"
    return judged_preservation(scorers.judged(edited.result), kept)


@metric(
    "judge_domain",
    "higher",
    "Share of translated images that look like the domain to the judge.",
    needs=("judge",),
    readers=("translations",),
)
def judge_domain(edited: Edited, scorers: Scorers) -> Scores:
    """Domain fit of the translations."""
    return Scores({"judge_domain": _domain_share(edited.result, scorers)})


@metric(
    "judge_domain_before",
    "higher",
    "Share of the sources that look like the domain to the judge.",
    needs=("judge",),
    readers=("translations",),
)
def judge_domain_before(edited: Edited, scorers: Scorers) -> Scores:
    """Domain fit of what was translated."""
    return Scores({"judge_domain_before": _domain_share(edited.source.pixels, scorers)})


def _domain_share(images: Tensor, scorers: Scorers) -> float:
    from dclip.metrics.functional import judged_success

    return float(judged_success(scorers.judged(images), scorers.looks.in_domain).mean())


@metric(
    "judge_painted",
    "higher",
    "Share of a painting's colours (hair, skin, clothes, background) that its translation has.",
    needs=("judge",),
    readers=("translations",),
)
def judge_painted(edited: Edited, scorers: Scorers) -> Scores:
    """Colours that survive; nothing where the faces behind the strokes are not known."""
    facts, painted = edited.source.facts, scorers.looks.painted
    if not facts:
        return Scores()
    right = 0
    for one, seen in zip(facts, scorers.judged(edited.result), strict=True):
        right += sum(seen[name] == one[name] for name in painted)
    return Scores({"judge_painted": right / (len(facts) * len(painted))})


# ------------------------------------------------------------------------------------ the prompts


@metric(
    "p_target_guide",
    "higher",
    "Probability of the target among its distractors, by the CLIP that guides.",
    needs=("distractors", "clip"),
    readers=("samples",),
    switch="clip",
)
def p_target_guide(edited: Edited, scorers: Scorers) -> Tensor:
    """What the guide thinks of its own work."""
    return scorers.target_probability("clip", edited.result)


@metric(
    "p_target_heldout",
    "higher",
    "Probability of the target among its distractors, by a CLIP that did not guide.",
    needs=("distractors", "heldout"),
    readers=("samples",),
    switch="clip",
)
def p_target_heldout(edited: Edited, scorers: Scorers) -> Tensor:
    """What a CLIP thinks that only scores."""
    return scorers.target_probability("heldout", edited.result)
