"""Metrics of two folders of pictures, whatever system made them: pairs by name, or two sets.

Every network sees every picture once: KID and FID share their features, S_dir and clip_text theirs. Batches only bound the
memory. What cannot be scored (broken files, pairs of two sizes, pictures without a partner) is listed, and the rest is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from dclip import losses
from dclip.data.images import decode, exact, square
from dclip.data.pools import find_images
from dclip.errors import DclipError
from dclip.metrics import functional as F
from dclip.metrics.distribution import Kernels, frechet, kid_interval, mean_interval, subset_kid
from dclip.metrics.features import extractor, lpips_network
from dclip.metrics.presets import Choices
from dclip.metrics.suite import Scores
from dclip.models import registry
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_parser
from dclip.types import batches

SMALLEST = 32  # pixels a side: what LPIPS' trunks and SSIM's window need


PIXELS = ("mae", "mse", "psnr", "ssim", "ssim_luma")


Measure = Callable[
    [Tensor, Tensor], dict[str, Tensor]
]  # real, edited [N,3,H,W] in [-1, 1] -> values [N] by name


@dataclass
class Request:
    """What is asked of two folders.

    Attributes:
        texts: (source, target) for S_dir and clip_text.
        domain: ``faces``, ``scenes``, ``objects`` or ``toonfaces``: which networks know these pictures.
        size: pictures are scaled and cropped to squares of this side; None leaves them as they are.
        metrics: those asked for; empty for all.
    """

    real: Path
    edited: Path
    choices: Choices
    texts: tuple[str, str] | None = None
    domain: str = "faces"
    sets: bool = False
    size: int | None = None
    batch: int = 16
    bootstrap: int = 1000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    metrics: tuple[str, ...] = ()

    def wants(self, *names: str) -> bool:
        """Whether any of these is asked for."""
        return not self.metrics or bool(set(names) & set(self.metrics))


@dataclass
class Outcome:
    """``scores``: values and rows; ``ids``: of the pairs that were scored; ``troubles``: a sentence for what was not."""

    scores: Scores
    ids: tuple[str, ...]
    counts: dict[str, int]
    troubles: list[str]


# ---------------------------------------------------------------------------------------------------- pictures


def _named(folder: Path, setting: str, troubles: list[str]) -> dict[str, Path]:
    """Pictures by their path below the folder without suffix. Of two that are called alike the first counts."""
    if not folder.is_dir():
        raise DclipError(
            f"{setting} {folder} is not a folder; give a folder of PNG, JPEG or WebP files"
        )
    named: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            troubles.append(f"{path} is left out: {named[name].name} has the same name")
        named.setdefault(name, path)
    if not named:
        raise DclipError(
            f"{setting} {folder} holds no pictures; give a folder of PNG, JPEG or WebP files"
        )
    return named


def _read(path: Path, size: int | None) -> Tensor:
    """[3,H,W] in [-1, 1]. DclipError if the file is no picture."""
    picture = decode(path, str(path))
    return exact(picture) if size is None else square(picture, size)


def _readable(
    paths: Sequence[tuple[str, Path]], size: int | None, troubles: list[str]
) -> Iterator[tuple[str, Tensor]]:
    for name, path in paths:
        try:
            yield name, _read(path, size)
        except DclipError as error:
            troubles.append(str(error))


def _read_pairs(
    names: Sequence[str],
    real: dict[str, Path],
    edited: dict[str, Path],
    size: int | None,
    troubles: list[str],
) -> Iterator[tuple[str, Tensor, Tensor]]:
    for name in names:
        both = [x for _, x in _readable([(name, real[name]), (name, edited[name])], size, troubles)]
        if len(both) < 2:
            continue
        a, b = both
        if a.shape != b.shape:
            sizes = " and ".join(f"{x.shape[2]}x{x.shape[1]}" for x in both)
            troubles.append(
                f"{name}: the two pictures are {sizes}; give --size N to bring all to one size"
            )
            continue
        if min(a.shape[1:]) < SMALLEST:
            troubles.append(
                f"{name}: {a.shape[2]}x{a.shape[1]} is too small; give --size {SMALLEST} or more"
            )
            continue
        yield name, a, b


def _stacks(
    pairs: Sequence[tuple[str, Tensor, Tensor]],
) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Pairs of one size together."""
    ordered = sorted(pairs, key=lambda pair: tuple(pair[1].shape))
    for _, group in groupby(ordered, key=lambda pair: tuple(pair[1].shape)):
        names, a, b = zip(*group, strict=True)
        yield list(names), torch.stack(a), torch.stack(b)


# ---------------------------------------------------------------------------------------------------- measures


def _network(name: str) -> str | None:
    """Why a network cannot be used; None if it can. Nothing is fetched here."""
    entry = registry.find(name)
    if entry is None or registry.located(entry) is not None:
        return None
    return f"its weights are not here; run dclip weights fetch {name}"


def _pixels(request: Request, real: Tensor, edited: Tensor) -> dict[str, Tensor]:
    span = request.choices.ssim_range
    made: dict[str, Callable[[], Tensor]] = {
        "mae": lambda: F.mae(edited, real),
        "mse": lambda: F.mse(edited, real),
        "psnr": lambda: F.psnr(edited, real),
        "ssim": lambda: F.ssim(edited, real, span=span),
        "ssim_luma": lambda: F.ssim(edited, real, color="luma", border="valid"),
    }
    return {name: make() for name, make in made.items() if request.wants(name)}


def _lpips(net: nn.Module, real: Tensor, edited: Tensor) -> dict[str, Tensor]:
    return {"lpips": net(edited, real).flatten()}


def _clip_measure(request: Request, texts: tuple[str, str]) -> Measure:
    net = load_clip(request.choices.clip).to(request.device)
    try:
        direction = losses.text_direction(
            net.text_features, *texts, losses.templates(request.choices.templates)
        )
    except ValueError as error:
        raise DclipError(f"--source-text, --text: {error}") from error
    target = net.text_features([texts[1]])[0]

    def measure(real: Tensor, edited: Tensor) -> dict[str, Tensor]:
        before, after = net.image_features(real), net.image_features(edited)
        return {
            "s_dir": losses.direction_cosine(after, before, direction),
            "clip_text": after @ target,
        }

    return measure


def _measures(request: Request, scores: Scores) -> list[Measure]:
    """What can be measured of pairs; what cannot is absent with its reason."""
    found: list[Measure] = []
    choices, domain = request.choices, request.domain
    if request.wants(*PIXELS):
        found.append(partial(_pixels, request))
    if request.wants("lpips"):
        net = lpips_network(choices.lpips_trunk)
        if isinstance(net, str):
            scores.absent("lpips", net)
        else:
            found.append(partial(_lpips, net.to(request.device)))
    if request.wants("s_dir", "clip_text"):
        reason = (
            "no texts; give --source-text and --text"
            if request.texts is None
            else _network(choices.clip)
        )
        if reason:
            for name in ("s_dir", "clip_text"):
                scores.absent(name, reason)
        elif request.texts:
            found.append(_clip_measure(request, request.texts))
    if request.wants("id"):
        identity = {"toonfaces": "toonfaces_identity", "faces": "arcface"}.get(domain)
        reason = (
            _network(identity) if identity else f"no identity network knows {domain} (--domain)"
        )
        if reason or identity is None:
            scores.absent("id", reason or "")
        else:
            embed = load_identity(identity).to(request.device).features
            found.append(lambda a, b: {"id": (embed(b) * embed(a)).sum(1)})
    if request.wants("sc"):
        parser = {"toonfaces": "toonfaces_judge", "faces": "bisenet", "scenes": "ade20k"}.get(
            domain
        )
        reason = (
            _network(parser) if parser else f"no network finds the parts of {domain} (--domain)"
        )
        if reason or parser is None:
            scores.absent("sc", reason or "")
        else:
            parts = (
                (load_judge() if domain == "toonfaces" else load_parser(parser))
                .to(request.device)
                .part_map
            )
            found.append(lambda a, b: {"sc": F.part_agreement(parts(b), parts(a))})
    return found


def _features(request: Request, scores: Scores) -> Callable[[Tensor], Tensor] | None:
    """Features of KID and FID; None where they are absent or not asked for."""
    if not request.wants("kid", "fid"):
        return None
    found = extractor(load_judge().to(request.device) if request.domain == "toonfaces" else None)
    if isinstance(found, str):
        for name in ("kid", "fid"):
            scores.absent(name, found)
        return None
    net, extract, _ = found
    net.to(request.device)
    return extract


# ---------------------------------------------------------------------------------------------------- scores


def measure_folders(request: Request) -> Outcome:
    """Everything that can be measured of two folders. DclipError if that is nothing at all."""
    troubles: list[str] = []
    real, edited = (
        _named(request.real, "--real", troubles),
        _named(request.edited, "--edited", troubles),
    )
    with torch.no_grad():
        return (_sets if request.sets else _pairs)(request, real, edited, troubles)


def _pairs(
    request: Request, real: dict[str, Path], edited: dict[str, Path], troubles: list[str]
) -> Outcome:
    names = [name for name in real if name in edited]
    for mine, other, folder in ((real, edited, request.edited), (edited, real, request.real)):
        troubles += [
            f"{path}: {folder} has no {name}" for name, path in mine.items() if name not in other
        ]
    if not names:
        raise DclipError(
            f"--real {request.real} and --edited {request.edited} have no name in common; pairs are found by name, "
            "or compare the folders as two sets: --sets"
        )
    scores = Scores()
    measures, extract = _measures(request, scores), _features(request, scores)
    values: dict[str, dict[str, float]] = defaultdict(dict)
    features: dict[str, tuple[Tensor, Tensor]] = {}
    done: dict[str, None] = {}
    for part in batches(len(names), request.batch):
        read = list(_read_pairs(names[part], real, edited, request.size, troubles))
        for group, a, b in _stacks(read):
            a, b = a.to(request.device), b.to(request.device)
            for measure in measures:
                for metric, scored in measure(a, b).items():
                    values[metric] |= dict(zip(group, scored.double().tolist(), strict=True))
            if extract:
                features |= dict(
                    zip(group, zip(extract(a).cpu(), extract(b).cpu(), strict=True), strict=True)
                )
        done |= dict.fromkeys(name for name, *_ in read)
    if not done:
        raise DclipError(f"none of {len(names)} pairs can be scored: {troubles[0]}")
    for metric, column in values.items():
        if request.wants(metric):
            scores.add(metric, torch.tensor([column[name] for name in done], dtype=torch.float64))
    _intervals(scores, request)
    if extract:
        _distances(
            scores, request, *(torch.stack([features[name][k] for name in done]) for k in (0, 1))
        )
    return Outcome(
        scores,
        tuple(done),
        {"real": len(real), "edited": len(edited), "pairs": len(done)},
        troubles,
    )


def _intervals(scores: Scores, request: Request) -> None:
    """95 % bootstrap intervals of the means, and PSNR over the set where that is chosen."""
    squares: Tensor | None = None
    if request.choices.psnr_over == "set" and "psnr" in scores.rows:
        squares = 10 ** (-torch.tensor(scores.rows["psnr"], dtype=torch.float64) / 10)
        scores.values["psnr"] = float(F.decibels(squares.mean()))
    if not request.bootstrap or len(next(iter(scores.rows.values()), [])) < 2:
        return
    for name, row in scores.rows.items():
        if name == "psnr" and squares is not None:
            high, low = F.decibels(torch.tensor(mean_interval(squares, request.bootstrap))).tolist()
        else:
            low, high = mean_interval(torch.tensor(row, dtype=torch.float64), request.bootstrap)
        scores.values[f"{name}_low"], scores.values[f"{name}_high"] = low, high


def _sets(
    request: Request, real: dict[str, Path], edited: dict[str, Path], troubles: list[str]
) -> Outcome:
    scores = Scores()
    for name in (*PIXELS, "lpips", "s_dir", "id", "sc"):
        if request.metrics and name in request.metrics:
            scores.absent(name, "it compares pairs; leave --sets away")
    extract = _features(request, scores)
    counts = {"real": len(real), "edited": len(edited)}
    if extract is None:
        return Outcome(scores, (), counts, troubles)
    both = [_features_of(list(of.items()), extract, request, troubles) for of in (real, edited)]
    for setting, found in zip(("--real", "--edited"), both, strict=True):
        if not len(found):
            raise DclipError(
                f"{setting}: none of the files can be read as a picture ({troubles[0]})"
            )
    _distances(scores, request, *both)
    return Outcome(
        scores, (), counts | {"real_scored": len(both[0]), "edited_scored": len(both[1])}, troubles
    )


def _features_of(
    paths: list[tuple[str, Path]],
    extract: Callable[[Tensor], Tensor],
    request: Request,
    troubles: list[str],
) -> Tensor:
    found: list[Tensor] = []
    for part in batches(len(paths), request.batch):
        read = sorted(
            _readable(paths[part], request.size, troubles), key=lambda one: tuple(one[1].shape)
        )
        for _, group in groupby(read, key=lambda one: tuple(one[1].shape)):
            found.append(extract(torch.stack([x for _, x in group]).to(request.device)).cpu())
    return torch.cat(found) if found else torch.zeros(0, 1)


def _distances(scores: Scores, request: Request, real: Tensor, edited: Tensor) -> None:
    """KID and FID of features [M,D], [N,D]."""
    choices, fewest = request.choices, min(len(real), len(edited))
    if fewest < 2:
        for name in ("kid", "fid"):
            scores.absent(name, "one picture has no spread")
        return
    if request.wants("kid"):
        if choices.kid_subset > fewest:
            scores.absent(
                "kid",
                f"{fewest} pictures are fewer than a subset of {choices.kid_subset}; give --kid-subset",
            )
        else:
            kernels = Kernels.of(real, edited)
            scores.values["kid"], scores.values["kid_std"] = subset_kid(
                kernels, choices.kid_subset, choices.kid_subsets
            )
            if request.bootstrap and fewest > 3:
                scores.values["kid_low"], scores.values["kid_high"] = kid_interval(
                    kernels, request.bootstrap
                )
    if request.wants("fid"):
        scores.values["fid"] = frechet(real, edited)
