"""What is known of a study's runs: which are finished, which wait for others, which failed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dclip.config import Config, plain
from dclip.edits.named import FILE, epoch_file
from dclip.files import read_json, write_json
from dclip.prepare import needs
from dclip.prepare.checks import is_random
from dclip.prepare.compose import configured
from dclip.prepare.quoting import quoted
from dclip.record.identity import config_hash
from dclip.record.runs import Run, by_config, find_runs
from dclip.study.document import Settings
from dclip.study.grid import Job, Key, Study
from dclip.study.jobs import Folders

# parts of a configuration that the header of an edit holds
HEADER = ("edit", "sampler", "method", "loss", "clip", "seed")

First = tuple[tuple[str, Settings], ...]


@dataclass
class PlannedRun:
    """One process to run, for a job or for the jobs that build on it, and what is known of it.

    Attributes:
        settings: as typed; ``{NAME}`` stands for the folder of a run in ``first``.
        labels: of the jobs it is for.
        cfg: None where it was not composed.
        digest: hash of its configuration; empty while a run it builds on is not finished.
        state: that of its run, or new, waiting (for runs it builds on), or blocked (for want of
            files that cannot be fetched).
    """

    settings: Settings
    first: First = ()
    labels: list[str] = field(default_factory=list)
    cfg: Config | None = None
    digest: str = ""
    run: Run | None = None
    state: str = "new"
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was tried, or a run it builds on, and is not finished."""
        if self.state == "waiting":
            return bool(self.reason)
        return self.state not in ("new", "finished")

    @property
    def done(self) -> Run | None:
        """Its run, if that is finished."""
        return self.run if self.state == "finished" else None


class Progress:
    """All runs that a study plans.

    Every configuration is checked here, also of runs that build on others which are not finished:
    those are checked on stand-ins, files that say of themselves what the real ones will say.
    With ``collecting``, runs are only composed if there is anything to find.
    """

    def __init__(self, study: Study, folders: Folders, collecting: bool = False) -> None:
        self.study, self.folders, self.collecting = study, folders, collecting
        self.planned: dict[tuple[Settings, First], PlannedRun] = {}
        for job in study.jobs:
            for name, settings in job.first:
                self._plan(settings, ()).labels.append(f"{name} for {job.label}")
            self._plan(job.settings, job.first).labels.append(job.label)
        self.kept = _read_states(folders.states)
        self._standins: TemporaryDirectory[str] | None = None
        self.refresh()

    def _plan(self, settings: Settings, first: First) -> PlannedRun:
        return self.planned.setdefault((settings, first), PlannedRun(settings, first))

    def refresh(self) -> None:
        """Look again at what lies on disk."""
        runs = by_config(find_runs([self.folders.shared]))
        if self.collecting and not runs and not self.kept:
            return
        for planned in sorted(self.planned.values(), key=lambda one: bool(one.first)):
            self._look(planned, runs)

    def _look(self, planned: PlannedRun, runs: Mapping[str, Run]) -> None:
        settings = self.resolved(planned)
        if settings is None:
            planned.cfg = planned.cfg or configured(self._on_standins(planned))
            planned.state, planned.reason = "waiting", self._why_waiting(planned)
            return
        if not planned.digest:
            planned.cfg = self._with_seed(configured(settings))
            planned.digest = config_hash(planned.cfg)
        planned.run = runs.get(planned.digest)
        kept = self.kept.get(planned.digest, {})
        planned.state = planned.run.state if planned.run else kept.get("state", "new")
        planned.reason = planned.run.reason if planned.run else kept.get("reason", "")

    def _with_seed(self, cfg: Config) -> Config:
        """Settings in which nothing is random have one seed, so that they are run once."""
        return cfg if is_random(cfg) else replace(cfg, seed=self.study.seed)

    def _why_waiting(self, planned: PlannedRun) -> str:
        """Which run it waits for in vain; empty where that was not tried yet."""
        for name, run in self.runs_before(planned):
            if run.state not in ("new", "finished"):
                return f"{name}, which it builds on, is not finished: {run.reason or run.state}"
        return ""

    def resolved(self, planned: PlannedRun) -> Settings | None:
        """The run's settings with the folders of those it builds on; None while one is open."""
        places: dict[str, Path] = {}
        for name, run in self.runs_before(planned):
            if run.done is None:
                return None
            places[name] = run.done.folder
        return filled(planned.settings, places)

    def words(self, planned: PlannedRun) -> Settings:
        """What the run is started with: its settings, with the seed that it was planned with."""
        settings = self.resolved(planned)
        assert settings is not None and planned.cfg is not None
        others = [word for word in settings if not word.startswith("seed=")]
        return (*others, f"seed={planned.cfg.seed}")

    def runs_before(self, planned: PlannedRun) -> list[tuple[str, PlannedRun]]:
        """The runs that one builds on, by name."""
        return [(name, self.planned[settings, ()]) for name, settings in planned.first]

    def _on_standins(self, planned: PlannedRun) -> Settings:
        """The run's settings with stand-ins for what is not finished."""
        self._standins = self._standins or TemporaryDirectory(prefix="dclip-study-")
        places: dict[str, Path] = {}
        for name, run in self.runs_before(planned):
            assert run.cfg is not None
            places[name] = Path(self._standins.name) / config_hash(run.cfg)
            _write_standin(run.cfg, places[name])
        for place in used_files(planned.settings, places):
            place.touch()
        return filled(planned.settings, places)

    def unique(self, rows: set[Key] | None = None) -> list[PlannedRun]:
        """Runs with different configurations, those that others build on first.

        Of some rows, or of all. A configuration that several cells have is one run.
        """
        wanted: set[tuple[Settings, First]] = set()
        for job in self.study.jobs:
            if rows is None or job.row in rows:
                wanted.add((job.settings, job.first))
                for _, settings in job.first:
                    wanted.add((settings, ()))
        different: dict[str, PlannedRun] = {}
        for key, planned in sorted(self.planned.items(), key=lambda item: bool(item[1].first)):
            if key in wanted:
                different.setdefault(planned.digest or repr(key), planned)
        return list(different.values())

    def of(self, job: Job) -> PlannedRun:
        """The run of a job."""
        return self.planned[job.settings, job.first]

    def write(self) -> None:
        """Keep the state of every run: jobs.json."""
        states = []
        for planned in self.unique():
            states.append(
                {
                    "jobs": planned.labels,
                    "config": planned.digest,
                    "state": planned.state,
                    "reason": planned.reason,
                    "run": str(planned.run.folder) if planned.run else None,
                    "words": list(planned.settings),
                }
            )
        write_json(self.folders.states, {"study": self.study.name, "jobs": states})


def _read_states(path: Path) -> dict[str, dict[str, Any]]:
    """What jobs.json says of every configuration."""
    states = {}
    for state in read_json(path).get("jobs", []):
        states[state["config"]] = state
    return states


# ----------------------------------------------------------------- runs that build on others


def _pattern(name: str) -> str:
    return rf"\{{{re.escape(name)}\}}(/[\w./-]+)?"


def filled(settings: Settings, places: Mapping[str, Path]) -> Settings:
    """Settings with ``{NAME}`` and ``{NAME}/FILE`` replaced by folders and files."""
    return tuple(_fill(setting, places) for setting in settings)


def _fill(setting: str, places: Mapping[str, Path]) -> str:
    for name, place in places.items():
        for match in reversed(list(re.finditer(_pattern(name), setting))):
            path = quoted(f"{place}{match[1] or ''}")
            setting = f"{setting[: match.start()]}{path}{setting[match.end() :]}"
    return setting


def used_files(settings: Sequence[str], places: Mapping[str, Path]) -> list[Path]:
    """The files that settings name in some folders."""
    files = []
    for name, place in places.items():
        for match in re.finditer(_pattern(name), "\n".join(settings)):
            if match[1]:
                files.append(Path(f"{place}{match[1]}"))
    return files


def _write_standin(cfg: Config, folder: Path) -> None:
    """A folder with what checks look at in a finished run's: headers of edits, without weights."""
    settings = plain(cfg)
    document = {"kind": "edit", **{key: settings[key] for key in HEADER}}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = {"__metadata__": {"dclip": json.dumps(document)}, "x": tensor}
    head = json.dumps(header).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(4)
    epochs = settings["method"].get("epochs", 0)
    files = [folder / FILE, *(epoch_file(folder, k) for k in range(1, epochs + 1))]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


# --------------------------------------------------------------------------- what is missing


def missing(cfg: Config) -> list[str]:
    """What a run needs that is not here: weights by name, and data."""
    weights, data = needs.absent([cfg])
    names = [need.name for need in weights]
    return [*names, *map("data: {}".format, data)]


def unobtainable(cfg: Config, offline: str | None) -> list[str]:
    """What keeps a run from starting: data, and weights where ``offline`` says why none come."""
    if offline:
        return missing(cfg)
    return list(map("data: {}".format, needs.absent([cfg])[1]))


def refuse(cfgs: Sequence[Config], offline: str | None) -> None:
    """MissingFilesError with all that these runs need, once."""
    raise needs.MissingFilesError(needs.message(*needs.absent(cfgs), offline))
