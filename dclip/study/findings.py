"""What the runs of a study say of a claim (:mod:`dclip.study.claims`): a paired difference, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor

from dclip.data.masks import VARIANT
from dclip.metrics.benchmark.bootstrap import Draws, interval
from dclip.record.runs import Run
from dclip.study.claims import OPEN, Claim, Key, Pair, pairs_of

DRAWS = 2000

Seeds = Mapping[int, Run]  # the finished runs of one row
Images = Mapping[str, float]  # a number of every image


class Finding(NamedTuple):
    """What the runs say.

    Attributes:
        ours: the number of the claim's ``rows``.
        difference: how much more that is than the number of ``against``.
        low: the lower end of its 95 % interval; ``high`` is the upper.
        seeds: the difference of every seed.
        n: how many images; where the number is of whole runs, how many rows.
        unit: which of these.
        random: whether seeds differ in anything.
        why_open: why the runs do not decide it, whatever they say.
    """

    claim: Claim
    ours: float = nan
    difference: float = nan
    low: float = nan
    high: float = nan
    seeds: tuple[float, ...] = ()
    n: int = 0
    unit: str = "images"
    random: bool = True
    why_open: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a number at all."""
        return isfinite(self.difference)

    @property
    def verdict(self) -> str:
        """Confirmed, refuted or not decided."""
        if self.why_open or not self.measured:
            return OPEN
        return self.claim.verdict(self.low, self.high, self.seeds)


def find(
    claim: Claim, finished: Mapping[Key, Seeds], planned: Sequence[int], draws: int = DRAWS
) -> Finding:
    """What finished runs say of a claim; nothing where a row of it was not run.

    Args:
        finished: every row's finished runs by seed.
        planned: the seeds that the study has; fewer decide nothing.
        draws: of the bootstrap.
    """
    pairs = pairs_of(claim, list(finished))
    seeds = [seed for seed in planned if _all_have(seed, pairs, finished)]
    if not seeds:
        return Finding(claim, why_open="not run")
    tables = []
    for pair in pairs:
        tables.append([_compared(claim, pair, finished, seed) for seed in seeds])
    if not all(one.there for table in tables for one in table):
        return Finding(claim, why_open=f"the runs have no {claim.metric}")
    finding = _bootstrap(claim, _of_images(tables), draws)
    folders = {finished[pair[0]][seed].folder for pair in pairs for seed in seeds}
    finding = finding._replace(random=len(folders) > len(pairs) or len(seeds) == 1)
    if len(seeds) < len(planned):
        return finding._replace(why_open=f"{len(seeds)} of {len(planned)} seeds were run")
    return finding


def _all_have(seed: int, pairs: Sequence[Pair], finished: Mapping[Key, Seeds]) -> bool:
    rows = {row for pair in pairs for row in pair if row is not None}
    return bool(rows) and all(seed in finished[row] for row in rows)


# ------------------------------------------------------------------------------ what runs have


class Ratio(NamedTuple):
    """Of every image what is above and below the line; below is 1 where there is no line."""

    above: Images
    below: Images


class Compared(NamedTuple):
    """What two runs have of a metric; ``of_run``: one number for all images."""

    ours: Ratio
    theirs: Ratio
    of_run: bool

    @property
    def there(self) -> bool:
        """Whether both have it, above and below the line."""
        return all(self.ours) and all(self.theirs)


def _compared(claim: Claim, pair: Pair, finished: Mapping[Key, Seeds], seed: int) -> Compared:
    row, other = pair
    ours, of_run = numbers_of(finished[row][seed], claim.metric)
    if other is not None:
        theirs, _ = numbers_of(finished[other][seed], claim.metric)
        return Compared(ours, theirs, of_run)
    assert isinstance(claim.against, float)
    constant = dict.fromkeys(ours.above, claim.against)
    return Compared(ours, Ratio(constant, dict.fromkeys(constant, 1.0)), of_run)


def numbers_of(run: Run, metric: str) -> tuple[Ratio, bool]:
    """A metric of a run by image, variants averaged; else of the whole run (then true)."""
    above, _, below = (part.strip() for part in metric.partition("/"))
    if above in run.rows:
        top = _by_image(run, above)
        bottom = _by_image(run, below) if below else dict.fromkeys(top, 1.0)
        return Ratio(top, bottom), False
    value = run.value(metric)
    if not isinstance(value, int | float):
        return Ratio({}, {}), True
    return Ratio({"": float(value)}, {"": 1.0}), True


def _by_image(run: Run, column: str) -> Images:
    """A column by image; empty where the run does not have it."""
    if column not in run.rows:
        return {}
    values: dict[str, list[float]] = {}
    for name, value in zip(run.image_ids, run.rows[column], strict=True):
        values.setdefault(VARIANT.sub("", name), []).append(value)
    return {name: mean(several) for name, several in values.items()}


def _of_images(tables: list[list[Compared]]) -> list[list[Compared]]:
    """The same where numbers are of images; else one table, in which rows stand for images."""
    if not tables[0][0].of_run:
        return tables
    merged = []
    for of_seed in zip(*tables, strict=True):
        ours, theirs = {}, {}
        for k, one in enumerate(of_seed):
            ours[str(k)], theirs[str(k)] = one.ours.above[""], one.theirs.above[""]
        ones = dict.fromkeys(ours, 1.0)
        merged.append(Compared(Ratio(ours, ones), Ratio(theirs, ones), True))
    return [merged]


# ------------------------------------------------------------------------------- the interval


class Values(NamedTuple):
    """Above and below the line of both sides [4,S,F], where all four are known; else nan."""

    table: Tensor

    def ours(self, draws: Draws) -> Tensor:
        """The first side's number in each draw [B]."""
        return draws.means(self.table[0]) / draws.means(self.table[1])

    def differences(self, draws: Draws) -> Tensor:
        """The first side's number less the second's, in each draw [B]."""
        return self.ours(draws) - draws.means(self.table[2]) / draws.means(self.table[3])


def _values(seeds: Sequence[Compared], names: Sequence[str]) -> Values:
    sides: list[list[list[float]]] = [[], [], [], []]
    for one in seeds:
        four = (one.ours.above, one.ours.below, one.theirs.above, one.theirs.below)
        for side, images in zip(sides, four, strict=True):
            side.append([images.get(name, nan) for name in names])
    table = torch.tensor(sides, dtype=torch.float64)
    return Values(table.where(~table.isnan().any(0), nan))


def _bootstrap(claim: Claim, tables: Sequence[Sequence[Compared]], draws: int) -> Finding:
    """The mean difference over pairs of rows, and its interval.

    All pairs are drawn with the same seeds and images: what they share varies together.
    """
    names: dict[str, None] = {}
    for table in tables:
        for one in table:
            names |= dict.fromkeys(one.ours.above)
    pairs = [_values(table, list(names)) for table in tables]
    known = ~torch.stack([pair.table[0] for pair in pairs]).isnan()
    seeds, images = len(tables[0]), len(names)
    whole = Draws(torch.ones(1, seeds).double(), torch.ones(1, images).double())
    each = Draws(torch.eye(seeds).double(), torch.ones(seeds, images).double())
    low, high = interval(_mean_difference(pairs, Draws.of(seeds, images, draws)))
    return Finding(
        claim,
        ours=float(torch.stack([pair.ours(whole) for pair in pairs]).mean()),
        difference=float(_mean_difference(pairs, whole)),
        low=low,
        high=high,
        seeds=tuple(_mean_difference(pairs, each).tolist()),
        n=int(known.any(0).any(0).sum()),
        unit="rows" if tables[0][0].of_run else "images",
    )


def _mean_difference(pairs: Sequence[Values], draws: Draws) -> Tensor:
    return torch.stack([pair.differences(draws) for pair in pairs]).mean(0)
