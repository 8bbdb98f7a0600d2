"""``leaderboard: true``: a study's runs as results of ToonFaces-CF, one line a method.

A row's label ``method`` names the line, its label ``edit`` the benchmark's edit or pair of edits.
Imports nothing heavy; scoring does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from dclip.config import Config, option_name
from dclip.errors import DclipError
from dclip.files import write_json
from dclip.metrics.benchmark.tasks import (
    AXIOMS,
    AXIOMS_FOLDER,
    COMMUTATIVITY,
    FACES,
    TEXTS,
    task_named,
)
from dclip.prepare import plan
from dclip.record.identity import slug
from dclip.record.runs import Run
from dclip.runtime.typed import typed
from dclip.study.document import QUIET, Settings
from dclip.study.grid import Job, Study
from dclip.study.progress import PlannedRun, Progress

if TYPE_CHECKING:
    from dclip.pages.leaderboard import Written

LABELS = ("method", "edit")
SAMPLES = "image_*.png"


@dataclass
class Cost:
    """What a method takes, a number a run: network calls and seconds to learn, and for each face."""

    learn_calls: list[float] = field(default_factory=list)
    face_calls: list[float] = field(default_factory=list)
    learn_seconds: list[float] = field(default_factory=list)
    face_seconds: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """The mean of each; the largest memory. What was never measured is absent."""
        values = {}
        for name, found in vars(self).items():
            if found:
                values[name] = round(mean(found), 4)
        if self.memory_mb:
            values["memory_mb"] = round(max(self.memory_mb), 1)
        return values


@dataclass
class Entry:
    """One line: a method's results, and what made them."""

    name: str
    folder: Path
    command: str
    cost: Cost = field(default_factory=Cost)
    seeds: set[int] = field(default_factory=set)
    edits: dict[str, int] = field(default_factory=dict)  # edit -> its faces
    oracle: bool = False  # it was told the true region


def check_labels(study: Study) -> None:
    """DclipError where a row is of no method, or of no edit of the benchmark, or two are of one."""
    names: dict[str, str] = {}  # folder -> method
    for row in study.rows:
        key = dict(row)
        lacking = [label for label in LABELS if label not in key]
        if lacking:
            raise DclipError(
                f"{study.name}: leaderboard needs the label {lacking[0]} on every row; "
                "give it as an axis, or in key"
            )
        if key["edit"] not in TEXTS:
            raise DclipError(
                f"{study.name}: the leaderboard has no edit {key['edit']}; "
                f"choose from {', '.join(TEXTS)}"
            )
        more = [label for label in key if label not in LABELS]
        if more:
            raise DclipError(
                f"{study.name}: the label {more[0]} would give a method several results for an edit; "
                f"a leaderboard's rows have {' and '.join(LABELS)} only"
            )
        other = names.setdefault(slug(key["method"]), key["method"])
        if other != key["method"]:
            raise DclipError(
                f"{study.name}: the methods {other!r} and {key['method']!r} would share a folder; "
                "name one of them otherwise"
            )
    if any(job.averaged for job in study.jobs):
        raise DclipError(
            f"{study.name}: average would give a method several results for an edit; leave it out"
        )


def check_faces(study: Study, cfgs: Iterable[Config]) -> None:
    """DclipError where a run has other pictures than the benchmark, or more."""
    for cfg in cfgs:
        name = option_name("dataset", cfg.dataset)
        if name != "toonfaces":
            raise DclipError(
                f"{study.name}: a leaderboard is of the benchmark's faces; choose dataset=toonfaces, "
                f"not {name}"
            )
        if cfg.dataset.test > FACES:
            raise DclipError(
                f"{study.name}: the benchmark has {FACES} faces of each edit; choose "
                f"dataset.test={FACES} or fewer, not {cfg.dataset.test}"
            )


# ---------------------------------------------------------------------------------- gathering


def gather(progress: Progress, folder: Path) -> list[Entry]:
    """The pictures of all finished runs as folders of results, in the study's order."""
    check_labels(progress.study)
    shutil.rmtree(folder, ignore_errors=True)
    entries: dict[str, Entry] = {}
    taken: set[tuple[str, str, Path]] = set()
    for job, planned, run in _finished(progress):
        key = dict(job.row)
        name, edit = key["method"], key["edit"]
        if (name, edit, run.folder) in taken:  # nothing is random: seeds share one run
            continue
        taken.add((name, edit, run.folder))
        if name not in entries:
            entries[name] = Entry(name, folder / slug(name), command_of(job))
        _add(entries[name], progress, job, planned, run)
    for entry in entries.values():
        _write_card(entry)
    return list(entries.values())


def _finished(progress: Progress) -> Iterator[tuple[Job, PlannedRun, Run]]:
    for job in progress.study.jobs:
        planned = progress.of(job)
        if planned.done is not None:
            yield job, planned, planned.done


def command_of(job: Job) -> str:
    """The command of a job, after those of the runs that it builds on: {NAME} is such a run."""
    commands = [f"{name}: {_typed(settings)}" for name, settings in job.first]
    return "; ".join([*commands, _typed(job.settings)])


def _typed(settings: Settings) -> str:
    """A command line, without what every job of a study is given."""
    words = [word for word in settings if word not in QUIET]
    return typed(words)


def _add(entry: Entry, progress: Progress, job: Job, planned: PlannedRun, run: Run) -> None:
    edit = dict(job.row)["edit"]
    cfg = planned.cfg
    assert cfg is not None
    other_order = task_named(edit).other_order
    if cfg.mix.in_turn and cfg.edit.name == other_order:
        raise DclipError(
            f"{progress.study.name}: the row edit={edit} applies {cfg.edit.name}; "
            "with mix.in_turn=true give edit.adapter in the order of the label"
        )
    target = entry.folder / f"seed_{job.seed}" / edit
    _copy_pictures(run.folder / "samples", target)
    beside = {name: target / name for name in AXIOMS}
    if other_order is not None:
        beside[COMMUTATIVITY] = target.with_name(other_order)
    for name, place in beside.items():
        pictures = run.folder / AXIOMS_FOLDER / name
        if pictures.is_dir():
            _copy_pictures(pictures, place)
    entry.seeds.add(job.seed)
    entry.edits[edit] = cfg.dataset.test
    entry.oracle = entry.oracle or cfg.edit.region == "truth"
    _count(entry.cost, progress, planned, run)


def _copy_pictures(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for picture in sorted(folder.glob(SAMPLES)):
        shutil.copyfile(picture, target / picture.name.removeprefix("image_"))


def _count(cost: Cost, progress: Progress, planned: PlannedRun, run: Run) -> None:
    """Add what one run took, with the runs that it builds on."""
    assert planned.cfg is not None
    learned, each = calls_of(planned.cfg)
    seconds = float(run.metrics.get("seconds_adapt", 0))
    for _, before in progress.runs_before(planned):
        assert before.cfg is not None
        learned += calls_of(before.cfg)[0]
        if before.done is not None:
            seconds += float(before.done.metrics.get("seconds_adapt", 0))
    cost.learn_calls.append(learned)
    cost.face_calls.append(each)
    cost.learn_seconds.append(seconds)
    spent = run.value("seconds_per_image")
    if spent is None:
        spent = run.value("seconds_edit / images")
    if isinstance(spent, float):
        cost.face_seconds.append(spent)
    memory = run.value("peak_memory_mb")
    if isinstance(memory, float):
        cost.memory_mb.append(memory)


def calls_of(cfg: Config) -> tuple[float, float]:
    """Network calls (in forward passes of one picture) to learn, and for each face to edit.

    What only measures or shows is neither.
    """
    faces = cfg.dataset.test
    cfg = replace(cfg, degrees=[], metric=replace(cfg.metric, axioms=0))
    doubled = replace(cfg, dataset=replace(cfg.dataset, test=2 * faces))
    once, twice = sum(plan.calls(cfg).values()), sum(plan.calls(doubled).values())
    return max(0.0, 2 * once - twice), (twice - once) / faces


def _write_card(entry: Entry) -> None:
    card = {"name": entry.name, "command": entry.command, "seeds": len(entry.seeds)}
    write_json(entry.folder / "method.json", {**card, **entry.cost.means()})


# ----------------------------------------------------------------------------------- writing


def write_leaderboard(progress: Progress) -> Written | None:
    """Score every method and write leaderboard.md, .csv and .html; None where nothing is finished.

    In experiments/, the lines of other methods stay. If they cannot stand beside the new ones, the
    leaderboard is left alone; the new one lies beside the runs.
    """
    entries = gather(progress, progress.folders.runs / "results")
    if not entries:
        return None
    from dclip.pages.leaderboard import Line, write

    faces = min(min(entry.edits.values()) for entry in entries)
    lines = []
    for entry in entries:
        lines.append(Line(entry.folder, tuple(entry.edits), entry.cost.means(), entry.oracle))
    folders = progress.folders
    beside = folders.runs / "table" if folders.published else None
    return write(folders.table, lines, faces, folders.runs / "scores", beside)
