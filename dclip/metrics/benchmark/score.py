"""Scores of a folder of results: the truths are drawn, nothing but the results is read from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dclip.data.toonfaces.domain import TOONFACES
from dclip.data.toonfaces.faces import Drawing
from dclip.data.toonfaces.images import toonfaces
from dclip.errors import DclipError
from dclip.metrics.benchmark.bootstrap import Draws, interval, macro_means
from dclip.metrics.benchmark.minimality import Minimality
from dclip.metrics.benchmark.results import Results
from dclip.metrics.benchmark.tasks import AXIOMS, COMMUTATIVITY, SPLIT, BenchmarkTask
from dclip.metrics.contract import METRICS, Metric, Scores
from dclip.metrics.counterfactual import ERROR_COLORS, fates
from dclip.metrics.distribution import FeatureSets
from dclip.metrics.functional import mae
from dclip.metrics.masked import pasted
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import REASONS, comes_with, compare_sets, measure_each
from dclip.models.checkpoints import load_judge
from dclip.types import Edited, Images

MEASURED = (
    "closer",
    "counterfactual_ratio",
    "true_success",
    "judge_success",
    "judge_preservation",
    "effectiveness",
    "amplification",
    "edit_accuracy",
    "preservation_accuracy",
    "edit_iou",
    "mae",
)
"""The metrics of single pictures that runs report, too."""

IN_REGION = "truth_distance_in_region"
RATIOS = {
    "counterfactual_ratio": ("truth_distance", "truth_distance_untouched"),
    "truth_score": ("truth_distance", "truth_distance_untouched"),
    "truth_score_in_region": (IN_REGION, "truth_distance_untouched"),
}
"""Scores that are a ratio of two rows' means, or 1 minus that."""

COLUMNS = (
    "truth_score",
    "truth_score_in_region",
    *MEASURED,
    "cld",
    "kid",
    *AXIOMS,
    "commutativity",
)
"""What is scored, in the order of tables."""

NO_TRUTH = "a change of style has no single true picture"
KEPT = "attribute_"  # of rows that say whether an attribute is as it was


@dataclass
class TaskScores:
    """What the results of one task are worth.

    Attributes:
        rows: by name [seeds, faces]; nan where a picture is missing.
        values: one number (or the reason why there is none) a score, with its interval.
        draws: the score in every draw of the bootstrap, for macro scores.
        shown: results of the first seed that has any.
    """

    task: BenchmarkTask
    ids: tuple[str, ...]
    seeds: tuple[str, ...]
    rows: dict[str, Tensor]
    values: dict[str, float | str]
    draws: dict[str, Tensor]
    shown: Edited

    @property
    def count(self) -> int:
        """Pictures that were scored."""
        return int((~self.rows["mae"].isnan()).sum())

    @property
    def scored_seeds(self) -> int:
        """Seeds of which some picture was scored."""
        return int((~self.rows["mae"].isnan()).any(1).sum())

    @property
    def expected(self) -> int:
        """Pictures that there should be."""
        return len(self.seeds) * len(self.ids)


@dataclass
class Reference:
    """The scores of the untouched source and of the truth itself, by task."""

    source: dict[str, dict[str, float | str]] = field(default_factory=dict)
    truth: dict[str, dict[str, float | str]] = field(default_factory=dict)


# ----------------------------------------------------------------------------------- one task


@dataclass
class Measures:
    """The networks that score, loaded once."""

    scorers: Scorers
    minimality: Minimality

    @classmethod
    def load(cls, device: torch.device) -> Measures:
        """ToonFaces' judge, which comes with the package."""
        judge = load_judge(str(TOONFACES.networks.judge)).to(device).eval()
        scorers = Scorers(judge=judge, device=device)
        extractor = scorers.extractor()
        assert not isinstance(extractor, str)
        return cls(scorers, Minimality(extractor))

    def of(self, task: BenchmarkTask) -> Scorers:
        """The scorers that know what a task means."""
        return replace(self.scorers, truth=task.truth, goal=task.truth.goal)

    def rows(self, task: BenchmarkTask, edited: Edited) -> dict[str, Tensor]:
        """Every number of single pictures [N], by its name."""
        scorers = replace(self.of(task), beside=comes_with(edited))
        found = measure_each(_metrics(), edited, scorers, REASONS)
        rows = {name: torch.tensor(row, dtype=torch.float64) for name, row in found.rows.items()}
        rows |= _kept_rows(task, edited, scorers)
        pixels, facts = edited.source.pixels, edited.source.facts
        rows["cld"] = self.minimality(pixels, edited.result, facts, task.truth)
        if edited.truth is not None and edited.region is not None:
            inside = pasted(pixels, edited.result, edited.region)
            rows[IN_REGION] = mae(inside, edited.truth).double().round(decimals=6)
            shares = fates(edited.result, pixels, edited.truth).flatten(2).double().mean(2)
            rows |= dict(zip(fate_names(), shares, strict=True))
        return rows

    def kid(self, task: BenchmarkTask, result: Tensor, truth: Tensor | None, draws: int) -> Scores:
        """KID of results to the true pictures or, of a style, to other people drawn in it."""
        extractor = self.scorers.extractor()
        assert not isinstance(extractor, str)
        real = truth
        if real is None:
            style = Drawing(dict(task.truth.goal)["style"])
            real = toonfaces(SPLIT, len(task.ids()), None, style).pixels
        features = extractor(real), extractor(result)
        sizes = {"kid": min(len(real), len(result)) // 2}
        return compare_sets(
            "edits", FeatureSets(*features, sizes, "--faces", 100, draws, "--bootstrap")
        )


def _metrics() -> list[Metric]:
    chosen = []
    for name in MEASURED:
        metric = METRICS[name]
        assert isinstance(metric, Metric)
        chosen.append(metric)
    return chosen


def fate_names() -> list[str]:
    """The rows that hold the shares of an error map's colours, named after them."""
    return [color.replace(" ", "_") for color in ERROR_COLORS]


def _kept_rows(task: BenchmarkTask, edited: Edited, scorers: Scorers) -> dict[str, Tensor]:
    """For every attribute 1 where the judge still sees it, 0 where not, nan where it does not count."""
    kept = [task.truth.kept(facts) for facts in edited.source.facts]
    rows = {}
    seen = scorers.judged(edited.result)
    for name in scorers.looks.attributes:
        right = []
        for facts, one in zip(kept, seen, strict=True):
            right.append(float(one[name] == facts[name]) if name in facts else torch.nan)
        rows[KEPT + name] = torch.tensor(right, dtype=torch.float64)
    return rows


def score_task(
    measures: Measures, results: Results, task: BenchmarkTask, faces: int, draws: int
) -> TaskScores | None:
    """One task of all seeds; None, and troubles, where not one picture can be scored."""
    images = task.faces(faces)
    whole = with_truth(task, images)
    table = _Table(len(results.roots), images.ids)
    made: list[Tensor] = []
    shown: Edited | None = None
    for place, seed in enumerate(results.roots):
        pictures = results.edited(seed, task, images.ids)
        if not pictures:
            continue
        there = [i for i, name in enumerate(images.ids) if name in pictures]
        result = torch.stack([pictures[images.ids[i]] for i in there])
        edited = _taken(whole, there, result)
        table.fill(place, there, measures.rows(task, edited))
        _fill_axioms(table, place, _beside(results, seed, task, images), images, pictures)
        made.append(result)
        shown = shown or edited
    if shown is None:
        return None
    values, drawn = _summed(table.rows, draws)
    kid = measures.kid(task, torch.cat(made), whole.truth, draws)
    values |= {name: value for name, value in kid.values.items() if not name.endswith("_std")}
    _say_why(values, task)
    seeds = tuple(results.roots)
    return TaskScores(task, images.ids, seeds, table.rows, values, drawn, shown)


def with_truth(task: BenchmarkTask, images: Images) -> Edited:
    """The sources as their own results, with the truth and its region."""
    truth = task.truth.pictures(images)
    if truth is None:
        return Edited(images, images.pixels)
    from dclip.metrics.counterfactual import should_change

    region = should_change(images.pixels, truth)[:, None].float()
    return Edited(images, images.pixels, truth, region)


def _taken(whole: Edited, places: Sequence[int], result: Tensor) -> Edited:
    """Some of the faces, with these results."""
    index = list(places)
    truth = None if whole.truth is None else whole.truth[index]
    region = None if whole.region is None else whole.region[index]
    return Edited(whole.source.take(index), result, truth, region)


class _Table:
    """Rows [seeds, faces], filled seed by seed; nan where nothing is filled in."""

    def __init__(self, seeds: int, ids: Sequence[str]) -> None:
        self.shape = seeds, len(ids)
        self.rows: dict[str, Tensor] = {}

    def fill(self, seed: int, faces: Sequence[int], rows: Mapping[str, Tensor]) -> None:
        """The numbers of these faces, of one seed."""
        for name, values in rows.items():
            if name not in self.rows:
                self.rows[name] = torch.full(self.shape, torch.nan, dtype=torch.float64)
            self.rows[name][seed, list(faces)] = values.double()


def _beside(
    results: Results, seed: str, task: BenchmarkTask, images: Images
) -> dict[str, Mapping[str, Tensor]]:
    """The pictures behind composition, reversibility and commutativity, as far as they are there."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for axiom in AXIOMS:
        found[axiom] = results.beside(seed, f"{task.name}/{axiom}", task, images.ids)
    if task.other_order is not None:
        found[COMMUTATIVITY] = results.beside(seed, task.other_order, task, images.ids)
    return found


def _fill_axioms(
    table: _Table,
    place: int,
    beside: Mapping[str, Mapping[str, Tensor]],
    images: Images,
    edited: Mapping[str, Tensor],
) -> None:
    """How far those pictures are from what they should be: the sources, or the other order's."""
    source = dict(zip(images.ids, images.pixels, strict=True))
    for name, pictures in beside.items():
        wanted = edited if name == COMMUTATIVITY else source
        _fill_distance(table, place, name, images.ids, pictures, wanted)


def _fill_distance(
    table: _Table,
    place: int,
    name: str,
    ids: Sequence[str],
    one: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
) -> None:
    """Mean absolute differences of the pictures that both have."""
    both = [i for i, face in enumerate(ids) if face in one and face in other]
    if not both:
        return
    a = torch.stack([one[ids[i]] for i in both])
    b = torch.stack([other[ids[i]] for i in both])
    table.fill(place, both, {name: mae(a, b)})


# ------------------------------------------------------------------------------- rows to numbers


def _summed(
    rows: Mapping[str, Tensor], draws: int
) -> tuple[dict[str, float | str], dict[str, Tensor]]:
    """Every score of a task with its interval, and in each draw."""
    values: dict[str, float | str] = {}
    drawn: dict[str, Tensor] = {}
    seeds, faces = rows["mae"].shape
    draw = Draws.of(seeds, faces, draws) if draws and seeds * faces > 1 else None
    for name in rows_that_count(rows):
        point = _score(name, rows, None)
        if bool(point.isnan().all()):
            continue
        values[name] = float(point)
        if draw is not None:
            drawn[name] = _score(name, rows, draw)
            values[f"{name}_low"], values[f"{name}_high"] = interval(drawn[name])
    return values, drawn


def rows_that_count(rows: Mapping[str, Tensor]) -> list[str]:
    """The scores that can be computed from these rows, in the order of tables."""
    parts = {part for pair in RATIOS.values() for part in pair}
    names = []
    for name, (above, _) in RATIOS.items():
        if above in rows:
            names.append(name)
    names += [name for name in rows if name not in parts]
    places = {name: place for place, name in enumerate(COLUMNS)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def _score(name: str, rows: Mapping[str, Tensor], draw: Draws | None) -> Tensor:
    """A score, or what it is in each draw [B]."""
    if name not in RATIOS:
        return _mean(rows[name], draw)
    above, below = RATIOS[name]
    ratio = _mean(rows[above], draw) / _mean(rows[below], draw)
    if name == "counterfactual_ratio":
        return ratio
    return 1 - ratio


def _mean(values: Tensor, draw: Draws | None) -> Tensor:
    return values.nanmean() if draw is None else draw.means(values)


def _say_why(values: dict[str, float | str], task: BenchmarkTask) -> None:
    """The reason of every score that is absent."""
    for name in COLUMNS:
        if name in values or f"{name}_absent" in values:
            continue
        reason = NO_TRUTH
        if name in AXIOMS:
            reason = f"there are no pictures in {task.name}/{name}"
        elif name == "commutativity":
            reason = "it is of pairs of edits"
            if task.other_order is not None:
                reason = f"there are no pictures in {task.other_order}"
        values[f"{name}_absent"] = reason


def macro(tasks: Sequence[TaskScores]) -> dict[str, float | str]:
    """The mean of every score over tasks that have it, with its interval and their number."""
    values: dict[str, float | str] = {}
    names = dict.fromkeys(name for one in tasks for name in one.values)
    for name in names:
        having = [one for one in tasks if isinstance(one.values.get(name), float)]
        if not having or name.endswith(("_low", "_high")):
            continue
        points = [float(one.values[name]) for one in having]
        values[name] = sum(points) / len(points)
        values[f"{name}_tasks"] = float(len(points))
        draws = [one.draws[name] for one in having if name in one.draws]
        if len(draws) == len(having):
            values[f"{name}_low"], values[f"{name}_high"] = interval(macro_means(draws))
    return values


# ------------------------------------------------------------------------------------- all of it


def reference(measures: Measures, task: BenchmarkTask, faces: int, known: Reference) -> None:
    """Add the scores of the untouched source and of the truth."""
    whole = with_truth(task, task.faces(faces))
    known.source[task.name] = _means(measures.rows(task, whole))
    known.source[task.name] |= measures.kid(task, whole.result, whole.truth, 100).values
    if whole.truth is not None:
        perfect = replace(whole, result=whole.truth)
        known.truth[task.name] = _means(measures.rows(task, perfect))
        known.truth[task.name] |= measures.kid(task, whole.truth, whole.truth, 100).values


def _means(rows: Mapping[str, Tensor]) -> dict[str, float | str]:
    """Every score of one set of pictures, from rows [N]."""
    return _summed({name: values[None] for name, values in rows.items()}, 0)[0]


@dataclass
class ScoredResults:
    """Everything that is known of a folder of results."""

    results: Results
    tasks: list[TaskScores]
    known: Reference
    absent: list[str]
    faces: int

    @property
    def edits(self) -> dict[str, float | str]:
        """Macro scores over single edits."""
        return macro([one for one in self.tasks if not one.task.is_pair])

    @property
    def pairs(self) -> dict[str, float | str]:
        """Macro scores over pairs of edits."""
        return macro([one for one in self.tasks if one.task.is_pair])

    @property
    def complete(self) -> bool:
        """Whether every picture of every task was scored."""
        whole = all(one.count == one.expected for one in self.tasks)
        return whole and not self.absent


def score(
    results: Results,
    tasks: Sequence[BenchmarkTask],
    faces: int,
    draws: int,
    measures: Measures,
    known: Reference | None = None,
) -> ScoredResults:
    """Score every task that has results.

    Args:
        draws: behind the intervals.
        measures: the networks; several methods share them.
        known: scores of source and truth that were measured before; more are added.

    Raises:
        DclipError: not one picture can be scored.
    """
    scored: list[TaskScores] = []
    known, absent = known or Reference(), []
    with torch.no_grad():
        for task in tasks:
            one = None
            if results.has(task):
                one = score_task(measures, results, task, faces, draws)
            if one is None:
                absent.append(task.name)
                continue
            scored.append(one)
            if task.name not in known.source:
                reference(measures, task, faces, known)
    if not scored:
        raise DclipError(_nothing(results, tasks))
    return ScoredResults(results, scored, known, absent, faces)


def _nothing(results: Results, tasks: Sequence[BenchmarkTask]) -> str:
    first = f" ({results.troubles[0]})" if results.troubles else ""
    example = f"{results.path}/{tasks[0].name}/{tasks[0].ids(1)[0]}.png"
    return f"{results.path} holds no results that can be scored{first}; expected {example}"
