"""Metrics of two folders of pictures, whatever system made them: pairs by name, or two sets.

Pictures are read in batches, which bounds the memory and never changes a score. What cannot be
scored (broken files, pairs of two sizes, pictures without a partner) is listed; the rest is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from dclip import losses
from dclip.data.domains import domain_named, networks_of
from dclip.data.folders import find_images
from dclip.data.images import exact, square
from dclip.data.pictures import MASK_GROUND, decode, mask_trouble
from dclip.errors import DclipError, need
from dclip.metrics.contract import Metric, Scores
from dclip.metrics.distribution import FeatureSets, mean_interval
from dclip.metrics.features import Extractor, missing
from dclip.metrics.functional import decibels
from dclip.metrics.intervals import add_intervals
from dclip.metrics.names import metrics_of, set_metrics_of
from dclip.metrics.presets import Choices
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import REASONS, Reasons, why_absent
from dclip.metrics.words import Beside, Need
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_parser
from dclip.text.features import in_forms
from dclip.types import Edited, Images, batches

SMALLEST = 32  # pixels a side: what LPIPS' trunks and SSIM's window need


@dataclass
class Request:
    """What is asked of two folders.

    Attributes:
        truth: folder of the true edited pictures.
        region: folder of masks: white where the edit may act, grey in part.
        texts: (source, target) for S_dir and clip_text.
        domain: what the pictures show, as ``dclip.data.domains`` calls it.
        size: pictures are scaled and cropped to squares of this side; None leaves them as they are.
        metrics: those asked for; empty for all.
    """

    real: Path
    edited: Path
    choices: Choices
    truth: Path | None = None
    region: Path | None = None
    texts: tuple[str, str] | None = None
    domain: str = "faces"
    sets: bool = False
    size: int | None = None
    batch: int = 16
    bootstrap: int = 1000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    metrics: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Whether a metric is asked for."""
        return not self.metrics or name in self.metrics

    @property
    def beside(self) -> dict[Beside, Path]:
        """The folders of what comes with the pictures."""
        folders: dict[Beside, Path] = {}
        if self.truth is not None:
            folders["true_pictures"] = self.truth
        if self.region is not None:
            folders["region"] = self.region
        return folders

    @property
    def pair_metrics(self) -> list[Metric]:
        """The metrics of pairs: those that were named, or all that could be measured here."""
        lacking = {"true_pictures", "region"} - set(self.beside)
        if networks_of(self.domain).judge is None:
            lacking.add("judge")
        found = []
        for metric in metrics_of("folders"):
            named = metric.name in self.metrics
            if named or (not self.metrics and not lacking & set(metric.needs)):
                found.append(metric)
        return found


@dataclass
class FolderScores:
    """What two folders are worth.

    Attributes:
        ids: of the pairs that were scored.
        troubles: a sentence for each that was not.
        first: the first pairs of one size, for a picture; None of two sets.
    """

    scores: Scores
    ids: tuple[str, ...]
    counts: dict[str, int]
    troubles: list[str]
    first: Edited | None = None


@dataclass
class Folder:
    """Pictures by name: the path below the folder, without suffix.

    Attributes:
        masks: whether they must be grey.
        broken: those that cannot be read.
    """

    setting: str
    path: Path
    pictures: dict[str, Path]
    masks: bool = False
    broken: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Its pictures, without those that cannot be read."""
        return len(self.pictures) - len(self.broken)

    def read(self, name: str, size: int | None, troubles: list[str]) -> Tensor | None:
        """[3,H,W] in [-1, 1]; None, and one trouble more, if the file is no picture."""
        path = self.pictures[name]
        try:
            picture = decode(path, str(path), MASK_GROUND if self.masks else "white")
            if self.masks:
                need(not mask_trouble(path), mask_trouble(path))
        except DclipError as error:
            troubles.append(str(error))
            self.broken.add(name)
            return None
        return exact(picture) if size is None else square(picture, size)


def measure_folders(request: Request) -> FolderScores:
    """Everything that can be measured of two folders. DclipError if that is nothing at all."""
    troubles: list[str] = []
    real = find_pictures("--real", request.real, troubles)
    edited = find_pictures("--edited", request.edited, troubles)
    with torch.no_grad():
        outcome = _measured(request, real, edited, troubles)
    _refuse_nothing(outcome.scores)
    return outcome


def _measured(request: Request, real: Folder, edited: Folder, troubles: list[str]) -> FolderScores:
    if request.sets:
        return measure_sets(request, real, edited, troubles)
    folders = {"real": real, "edited": edited}
    for name, path in request.beside.items():
        folders[name] = find_pictures(BESIDE[name], path, troubles, masks=name == "region")
    return measure_pairs(request, folders, troubles)


def _refuse_nothing(scores: Scores) -> None:
    """DclipError with the reasons, where not one number could be computed."""
    names: dict[str, list[str]] = {}
    for name, value in scores.values.items():
        if not isinstance(value, str):
            return
        names.setdefault(value, []).append(name.removesuffix("_absent"))
    reasons = [f"{', '.join(absent)}: {reason}" for reason, absent in names.items()]
    raise DclipError(f"nothing can be scored: {'; '.join(reasons)}")


# ------------------------------------------------------------------------------------ pictures

BESIDE: dict[Beside, str] = {"true_pictures": "--truth", "region": "--mask"}
"""The settings that say where the pictures are that come with a pair."""


def find_pictures(setting: str, path: Path, troubles: list[str], masks: bool = False) -> Folder:
    """The pictures of a folder. Of two with the same name the first counts."""
    if not path.is_dir():
        raise DclipError(
            f"{setting} {path} is not a folder; give a folder of PNG, JPEG or WebP files"
        )
    pictures: dict[str, Path] = {}
    for file in find_images(path):
        name = file.relative_to(path).with_suffix("").as_posix()
        if name in pictures:
            troubles.append(f"{file} is left out: {pictures[name].name} has the same name")
        pictures.setdefault(name, file)
    if not pictures:
        raise DclipError(
            f"{setting} {path} holds no pictures; give a folder of PNG, JPEG or WebP files"
        )
    return Folder(setting, path, pictures, masks)


@dataclass(frozen=True)
class Pair:
    """Pictures of one name and size, [3,H,W] each: ``real``, ``edited``, and what comes with them."""

    name: str
    pictures: dict[str, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each picture."""
        return tuple(self.pictures["real"].shape)


def read_pair(
    name: str, folders: Mapping[str, Folder], size: int | None, troubles: list[str]
) -> Pair | None:
    """Pictures of one name; None, and one trouble more, if they cannot be compared."""
    pictures = {}
    for role, folder in folders.items():
        picture = folder.read(name, size, troubles)
        if picture is not None:
            pictures[role] = picture
    if len(pictures) < len(folders):
        return None
    sizes = list(dict.fromkeys(_size(picture) for picture in pictures.values()))
    if len(sizes) > 1:
        troubles.append(
            f"{name}: the pictures are {' and '.join(sizes)}; give --size N to bring all to one size"
        )
        return None
    pair = Pair(name, pictures)
    if min(pair.shape[1:]) < SMALLEST:
        troubles.append(f"{name}: {sizes[0]} is too small; give --size {SMALLEST} or more")
        return None
    return pair


def _size(picture: Tensor) -> str:
    return f"{picture.shape[2]}x{picture.shape[1]}"


def stacked(pairs: Sequence[Pair], device: torch.device) -> Iterator[Edited]:
    """Pairs of one size together."""
    for _, group in groupby(sorted(pairs, key=_shape_of), key=_shape_of):
        same = list(group)
        stacks = {}
        for role in same[0].pictures:
            stacks[role] = torch.stack([pair.pictures[role] for pair in same]).to(device)
        region = stacks.get("region")
        if region is not None:
            region = (region.mean(1, keepdim=True) + 1) / 2
        names = tuple(pair.name for pair in same)
        source = Images(stacks["real"], names)
        yield Edited(source, stacks["edited"], stacks.get("true_pictures"), region)


def _shape_of(pair: Pair) -> tuple[int, ...]:
    return pair.shape


# ------------------------------------------------------------------------------------ networks

NO_TEXTS = "no texts; give --source-text and --text"


Network = TypeVar("Network", bound=nn.Module)


def networks_for(request: Request, metrics: Sequence[Metric]) -> tuple[Scorers, Reasons]:
    """The networks that these metrics need, as far as they are on disk; and why others are not."""
    known, choices = networks_of(request.domain), request.choices
    needs = _needs(metrics, request.texts is not None)
    if "parts" in needs or any(request.wants(metric.name) for metric in set_metrics_of("folders")):
        needs.add("judge")
    reasons: dict[Need, str] = {
        **REASONS,
        "direction": NO_TEXTS,
        "texts": NO_TEXTS,
        "identity": f"no identity network knows {request.domain} (--domain)",
        "parts": f"no network finds the parts of {request.domain} (--domain)",
        "judge": f"no judge knows {request.domain} (--domain)",
        "heldout": "two folders are scored by one CLIP (--clip)",
        "true_pictures": "no true pictures; give --truth",
        "region": "nobody says where the edit may act; give --mask",
        "goal": NO_TEXTS,
    }
    goal: tuple[tuple[str, str], ...] = ()
    if request.texts is not None:
        goal = tuple(domain_named(request.domain).grammar.attributes(request.texts[1]).items())
        reasons["goal"] = "--text names nothing that the judge knows"

    def load(need: Need, name: str | None, read: Callable[[str], Network]) -> Network | None:
        if name is None or need not in needs:
            return None
        reason = missing(name)
        if reason is not None:
            reasons[need] = reason
            return None
        return read(name).to(request.device)

    scorers = Scorers(
        clip=load("clip", choices.clip, load_clip),
        identity=load("identity", known.identity, load_identity),
        judge=load("judge", known.judge, load_judge),
        parser=load("parts", known.parser, load_parser),
        direction=request.texts,
        goal=goal or None,
        beside=frozenset(request.beside),
        choices=choices,
        device=request.device,
        batch=request.batch,
    )
    scorers.parts = scorers.parser or scorers.judge
    _check_texts(scorers)
    return scorers, reasons


def _needs(metrics: Sequence[Metric], texts: bool) -> set[Need]:
    """What the metrics need; without texts, those that compare with texts need nothing."""
    needs: set[Need] = set()
    for metric in metrics:
        if texts or not {"direction", "texts", "goal"} & set(metric.needs):
            needs.update(metric.needs)
    return needs


def _check_texts(scorers: Scorers) -> None:
    """DclipError if a text is too long for CLIP, or CLIP reads both as the same."""
    if scorers.clip is None or not isinstance(scorers.direction, tuple):
        return
    forms = losses.templates(scorers.choices.templates)
    for option, text in zip(("--source-text", "--text"), scorers.direction, strict=True):
        scorers.clip.check_lengths(in_forms([text], forms), option)
    try:
        scorers.edit_direction("clip")
    except ValueError as error:
        raise DclipError(f"--source-text, --text: {error}") from error


def set_extractor(request: Request, scorers: Scorers, scores: Scores) -> Extractor | None:
    """The network behind KID and FID; None where they are absent or not asked for."""
    wanted = [metric.name for metric in set_metrics_of("folders") if request.wants(metric.name)]
    if not wanted:
        return None
    extractor = scorers.extractor()
    if isinstance(extractor, Extractor):
        return extractor
    for name in wanted:
        scores.absent(name, extractor)
    return None


# --------------------------------------------------------------------------------------- pairs


def measure_pairs(
    request: Request, folders: Mapping[str, Folder], troubles: list[str]
) -> FolderScores:
    """Scores of the pictures that all folders have."""
    names = _common_names(folders, troubles)
    metrics = request.pair_metrics
    scorers, reasons = networks_for(request, metrics)
    scores = Scores()
    extractor = set_extractor(request, scorers, scores)
    table = _Table(metrics, scorers, reasons)
    features: dict[str, tuple[Tensor, Tensor]] = {}
    done: list[str] = []
    first: Edited | None = None
    for part in batches(len(names), request.batch):
        pairs = []
        for name in names[part]:
            pair = read_pair(name, folders, request.size, troubles)
            if pair is not None:
                pairs.append(pair)
        for stack in stacked(pairs, request.device):
            table.measure(stack)
            first = first or stack
            if extractor is not None:
                before = extractor(stack.source.pixels, request.batch)
                after = extractor(stack.result, request.batch)
                features |= zip(stack.source.ids, zip(before, after, strict=True), strict=True)
        done += [pair.name for pair in pairs]
    if not done:
        raise DclipError(f"none of {len(names)} pairs can be scored: {troubles[0]}")
    scores.merge(table.scores(done))
    _add_intervals(scores, request)
    if extractor is not None:
        before = torch.stack([features[name][0] for name in done])
        after = torch.stack([features[name][1] for name in done])
        scores.merge(_distances(request, before, after))
    counts = {"real": folders["real"].count, "edited": folders["edited"].count}
    counts["pairs"] = len(done)
    return FolderScores(scores, tuple(done), counts, troubles, first)


def _common_names(folders: Mapping[str, Folder], troubles: list[str]) -> list[str]:
    """The names that all folders have. DclipError if there are none."""
    real, *others = folders.values()
    names = list(real.pictures)
    for other in others:
        for mine, theirs in ((real, other), (other, real)):
            for name, path in mine.pictures.items():
                if name not in theirs.pictures:
                    troubles.append(f"{path}: {theirs.path} has no {name}")
        names = [name for name in names if name in other.pictures]
        if not names:
            raise DclipError(
                f"{real.setting} {real.path} and {other.setting} {other.path} have no name in "
                "common; pairs are found by name, or compare the folders as two sets: --sets"
            )
    return names


class _Table:
    """The values of every pair by row, filled batch by batch."""

    def __init__(self, metrics: Sequence[Metric], scorers: Scorers, reasons: Reasons) -> None:
        self.metrics, self.scorers = metrics, scorers
        self.rows: dict[str, dict[str, float]] = {}  # row -> pair -> value
        self.means: set[str] = set()  # the rows whose mean is a metric
        self.ratios: dict[str, tuple[str, str]] = {}
        self.absent: dict[str, str] = {}
        for metric in metrics:
            reason = why_absent(metric, scorers, reasons)
            if reason is not None:
                self.absent[metric.name] = reason

    def measure(self, stack: Edited) -> None:
        """Add some pairs."""
        for metric in self.metrics:
            if metric.name in self.absent:
                continue
            result = metric.compute(stack, self.scorers)
            if isinstance(result, str):
                self.absent[metric.name] = result
                continue
            found = Scores()
            found.take(metric.name, result)
            if not found.rows:
                self.absent[metric.name] = "it is no number of a single pair"
            self._take(found, stack.source.ids)
        self.scorers.forget()

    def _take(self, found: Scores, names: Sequence[str]) -> None:
        """Add one batch of a metric's rows."""
        self.ratios |= found.ratios
        for row, values in found.rows.items():
            self.rows.setdefault(row, {}).update(zip(names, values, strict=True))
            if row in found.values or f"{row}_absent" in found.values:
                self.means.add(row)

    def scores(self, names: Sequence[str]) -> Scores:
        """The scores of the pairs with these names.

        A row that lacks one of them is left out: its metric gave a reason for a later batch.
        """
        scores, columns = Scores(), {}
        for row, by_name in self.rows.items():
            if not by_name.keys() >= set(names):
                continue
            values = [by_name[name] for name in names]
            columns[row] = torch.tensor(values, dtype=torch.float64)
            if row in self.means:
                scores.add(row, columns[row])
        for name, (of, to) in self.ratios.items():
            if of in columns and to in columns:
                scores.ratio(name, of, to, columns[of], columns[to])
        for name, reason in self.absent.items():
            scores.absent(name, reason)
        return scores


def _add_intervals(scores: Scores, request: Request) -> None:
    """95 % bootstrap intervals of the means, and PSNR over the whole set where that is chosen."""
    add_intervals(scores, request.bootstrap)
    if "psnr" in scores.rows and request.choices.psnr_over == "set":
        psnr = torch.tensor(scores.rows["psnr"], dtype=torch.float64)
        _add_psnr_of_set(scores, psnr, request.bootstrap if len(psnr) > 1 else 0)


def _add_psnr_of_set(scores: Scores, psnr: Tensor, draws: int) -> None:
    """The PSNR of the mean squared error over all images, and its interval."""
    squares = 10 ** (-psnr / 10)
    scores.values["psnr"] = float(decibels(squares.mean()))
    if draws:
        most, least = mean_interval(squares, draws)
        low, high = decibels(torch.tensor([least, most])).tolist()
        scores.values |= {"psnr_low": low, "psnr_high": high}


# ---------------------------------------------------------------------------------------- sets


def measure_sets(
    request: Request, real: Folder, edited: Folder, troubles: list[str]
) -> FolderScores:
    """KID and FID of two folders whose pictures need not correspond."""
    scores = Scores()
    for metric in metrics_of("folders"):
        if metric.name in request.metrics:
            scores.absent(metric.name, "it compares pairs; remove --sets")
    scorers, _ = networks_for(request, [])
    extractor = set_extractor(request, scorers, scores)
    if extractor is None:
        return FolderScores(scores, (), {"real": real.count, "edited": edited.count}, troubles)
    before = _features_of(real, extractor, request, troubles)
    after = _features_of(edited, extractor, request, troubles)
    scores.merge(_distances(request, before, after))
    counts = {"real": real.count, "edited": edited.count}
    counts |= {"real_scored": len(before), "edited_scored": len(after)}
    return FolderScores(scores, (), counts, troubles)


def _features_of(
    folder: Folder, extractor: Extractor, request: Request, troubles: list[str]
) -> Tensor:
    """Features [N, D] of a folder's pictures. DclipError if none can be read."""
    found: list[Tensor] = []
    names = list(folder.pictures)
    for part in batches(len(names), request.batch):
        pictures = []
        for name in names[part]:
            picture = folder.read(name, request.size, troubles)
            if picture is not None:
                pictures.append(picture)
        pictures.sort(key=_shape)
        for _, group in groupby(pictures, key=_shape):
            found.append(extractor(torch.stack(list(group)), request.batch))
    if not found:
        raise DclipError(
            f"{folder.setting}: none of the files can be read as a picture ({troubles[0]})"
        )
    return torch.cat(found)


def _shape(picture: Tensor) -> tuple[int, ...]:
    return tuple(picture.shape)


def _distances(request: Request, real: Tensor, edited: Tensor) -> Scores:
    """KID and FID of features [M, D] and [N, D]."""
    choices, scores = request.choices, Scores()
    sizes = {"kid": choices.kid_subset}
    sets = FeatureSets(
        real,
        edited,
        sizes,
        "--kid-subset",
        choices.kid_subsets,
        request.bootstrap,
        "--bootstrap",
    )
    for metric in set_metrics_of("folders"):
        if request.wants(metric.name):
            scores.take(metric.name, metric.compare(sets))
    return scores
