"""``python run.py study=tune_NAME``: a search for good settings. Each trial is an ordinary run, in a process of its own.

A search (``conf/study/tune_NAME.yaml``) says what all trials have in common (``base``), what is tried (``space``), what is wanted
(``goal``), how many ``trials`` there are, and what else is shown (``columns``). The goal is a metric of the finished run, or a
value that runs write after every epoch (``val_...``); then a trial that is worse than half of the earlier ones were at its epoch
is stopped there (``prune``).

Optuna proposes the settings. What it knows is in one journal file that all workers, commands and machines with the same folder
share. A trial whose command was stopped or killed is taken up again by the next one, in its own folder and from its checkpoint;
so one worker finds the same, interrupted or not.

Imports nothing heavy but Optuna: the jobs do the work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import shlex
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from threading import Event
from typing import Any

from filelock import FileLock

from dclip.errors import DclipError
from dclip.metrics.names import HIGHER_IS_BETTER
from dclip.models import fetch
from dclip.prepare import plan
from dclip.prepare.compose import configured
from dclip.record.identity import config_hash
from dclip.record.processes import alive, this_process
from dclip.record.runs import Run, by_config, find_runs, read_curves
from dclip.study import jobs
from dclip.study.jobs import QUIET, Place, Words, columns_of, document, setting, words_of

KEYS = {"title", "about", "base", "space", "goal", "direction", "trials", "prune", "columns"}


RANDOM = 8  # trials that are drawn at random before the search learns from them


BEFORE_PRUNING = 5  # finished trials, and


WARM_UP = 1  # epochs that no trial is stopped before


POLL = 0.5  # seconds


PATIENCE = 60.0  # seconds for a run to stop when it is told to


@dataclass(frozen=True)
class Range:
    """Numbers between two limits, both possible: whole ones if the limits (and the step) are."""

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and (self.low <= 0 or self.step is not None)):
            raise DclipError(
                f"space: {self.name} needs low < high, and with log a low above 0 and no step"
            )

    def words(self, value: Any) -> Words:
        """A value as a setting."""
        return (f"{self.name}={value}" if isinstance(value, int) else f"{self.name}={value:.4g}",)

    def label(self, value: Any) -> str:
        """A value in a table."""
        return self.words(value)[0].split("=", 1)[-1]

    @property
    def ends(self) -> tuple[Any, Any]:
        """What has to be possible."""
        return self.low, self.high

    def distribution(self) -> Any:
        """As Optuna has it."""
        from optuna import distributions

        whole = all(isinstance(x, int) for x in (self.low, self.high, self.step or 1))
        if whole:
            return distributions.IntDistribution(
                int(self.low), int(self.high), self.log, int(self.step or 1)
            )
        return distributions.FloatDistribution(self.low, self.high, self.log, self.step)

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True)
class Choice:
    """One of several: a list holds values of the setting, a mapping labels with their settings."""

    name: str
    told: Mapping[str, Words]

    def words(self, value: Any) -> Words:
        """A label's settings."""
        return self.told[value]

    def label(self, value: Any) -> str:
        """A value in a table."""
        return str(value)

    @property
    def ends(self) -> tuple[Any, ...]:
        """What has to be possible."""
        return tuple(self.told)

    def distribution(self) -> Any:
        """As Optuna has it."""
        from optuna import distributions

        return distributions.CategoricalDistribution(list(self.told))

    def __str__(self) -> str:
        return ", ".join(self.told)


Axis = Range | Choice


@dataclass(frozen=True)
class Search:
    """What is searched, and for what."""

    name: str
    title: str
    base: Words
    space: Mapping[str, Axis]
    goal: str
    maximize: bool
    trials: int
    columns: dict[str, str]
    about: str = ""
    prune: bool = True

    @property
    def by_epoch(self) -> bool:
        """Whether runs report the goal while they run."""
        return self.goal.startswith("val_")

    @cached_property
    def digest(self) -> str:
        """Changes with everything that makes other trials: one journal can hold several searches."""
        space = {
            name: axis.told if isinstance(axis, Choice) else str(axis)
            for name, axis in self.space.items()
        }
        told = [self.base, space, self.goal, self.maximize, self.prune]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]

    def words(self, params: Mapping[str, Any]) -> Words:
        """The settings of a trial."""
        return (
            *self.base,
            *(word for name, axis in self.space.items() for word in axis.words(params[name])),
        )

    def value(self, run: Run) -> float | None:
        """The goal of a finished run; None where it has none."""
        if self.by_epoch:
            found: float | str | None = next(reversed(self.reports(run)), None)
        else:
            found = run.value(self.goal)
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None

    def reports(self, run: Run) -> list[float]:
        """The goal after every epoch so far."""
        return (
            [value for _, value in read_curves(run.folder / "curves.jsonl").get(self.goal, [])]
            if self.by_epoch
            else []
        )


def read_search(name: str, more: Sequence[str] = (), trials: int | None = None) -> Search:
    """A search from its file, with settings that are added to every trial. DclipError for a file that cannot be one."""
    path, told = document(name)
    unknown = sorted(set(told) - KEYS)
    if unknown:
        raise DclipError(
            f"{path.name} has {', '.join(unknown)}, which no search has; known: {', '.join(sorted(KEYS))}"
        )
    if not isinstance(told["space"], dict) or not told["space"]:
        raise DclipError(
            f"{path.name}: space is empty; give settings with low and high, or with a list of values"
        )
    if "goal" not in told:
        raise DclipError(
            f"{path.name} has no goal: a metric of a run, or a val_ value that runs report after every epoch"
        )
    twice = sorted({word.lstrip("+").split("=")[0] for word in more} & set(told["space"]))
    if twice:
        raise DclipError(
            f"{', '.join(twice)} is what {path.stem} searches; leave it out, or take it from the space of a file of your own"
        )
    goal, known = str(told["goal"]), HIGHER_IS_BETTER.get(str(told["goal"]).removeprefix("val_"))
    direction = told.get("direction", {True: "maximize", False: "minimize"}.get(known))  # type: ignore[arg-type]
    if direction not in ("maximize", "minimize"):
        raise DclipError(
            f"{path.name}: which way is {goal} better? direction: maximize or minimize"
        )
    return Search(
        name=path.stem, title=str(told["title"]), base=(*QUIET, *words_of(told.get("base", [])), *more),
        space={name: _axis(name, axis) for name, axis in told["space"].items()}, goal=goal, maximize=direction == "maximize",
        trials=trials or int(told.get("trials", 40)), columns=columns_of(told["columns"]), about=str(told.get("about", "")).strip(),
        prune=bool(told.get("prune", True)),
    )  # fmt: skip


def _axis(name: str, told: Any) -> Axis:
    if isinstance(told, list):
        return Choice(name, {str(value): (f"{name}={value}",) for value in told})
    if isinstance(told, dict) and "low" not in told:
        return Choice(name, {str(label): words_of(words) for label, words in told.items()})
    if not isinstance(told, dict) or not {"low", "high"} <= set(told) <= {
        "low",
        "high",
        "step",
        "log",
    }:
        raise DclipError(
            f"space: {name} needs low and high (with step, or log: true), a list of values, or labels with settings"
        )
    return Range(name, **told)


# ---------------------------------------------------------------------------------------------------- trials


class Trials:
    """The trials of a search as its journal has them."""

    def __init__(self, search: Search, place: Place) -> None:
        if find_spec("optuna") is None:
            raise DclipError(
                f"study={search.name} searches with Optuna, which is not installed: pip install 'dclip[sweep]'"
            )
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.search, self.place, self.optuna = search, place, optuna
        self.states = optuna.trial.TrialState
        place.runs.mkdir(parents=True, exist_ok=True)
        self.journal = place.runs / "journal.log"
        self.guard = FileLock(place.runs / "journal.guard")
        pruner = (
            optuna.pruners.MedianPruner(BEFORE_PRUNING, WARM_UP)
            if search.prune
            else optuna.pruners.NopPruner()
        )
        with self.guard:
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self.journal))), study_name=f"{search.name}-{search.digest}",
                direction="maximize" if search.maximize else "minimize", pruner=pruner, load_if_exists=True,
            )  # fmt: skip

    def counted(self) -> list[Any]:
        """All that were finished, are running, or failed for a reason; not those that were left behind and taken up again."""
        waiting, failed = self.states.WAITING, self.states.FAIL
        kept = [t for t in self.study.get_trials(deepcopy=False) if t.state != waiting]
        return [t for t in kept if t.state != failed or "reason" in t.user_attrs]

    def next(self) -> Any:
        """A new trial, or one that was left behind; None where there are enough."""
        with self.guard:
            for left in self.study.get_trials(deepcopy=False):
                if left.state == self.states.RUNNING and not alive(left.user_attrs):
                    self.leave(left.number, left.params)
            number = len(self.counted())
            if number >= self.search.trials:
                return None
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=RANDOM,
                multivariate=True,
                constant_liar=True,
                seed=int(self.search.digest, 16) % 2**31 + number,
            )
            trial = self.study.ask(
                {name: axis.distribution() for name, axis in self.search.space.items()}
            )
            for name, value in this_process().items():
                trial.set_user_attr(name, value)
            return trial

    def leave(self, number: int, params: Mapping[str, Any]) -> None:
        """Give a trial back, for the next who asks."""
        self.study.tell(number, state=self.states.FAIL)
        self.study.enqueue_trial(dict(params))

    @property
    def best(self) -> Any:
        """The best of the finished; None where there is none."""
        done = [t for t in self.counted() if t.state == self.states.COMPLETE]
        return (
            min(done, key=lambda t: (-t.value if self.search.maximize else t.value, t.number))
            if done
            else None
        )


class Worker:
    """Runs trials, one after the other, until there are enough or it is told to stop."""

    def __init__(self, trials: Trials, say: Callable[[str], None], stop: Event) -> None:
        self.trials, self.search, self.place = trials, trials.search, trials.place
        self.say, self.stop = say, stop

    def __call__(self) -> None:
        """Work."""
        while not self.stop.is_set():
            trial = self.trials.next()
            if trial is None:
                return
            words = self.search.words(trial.params)
            started = time.monotonic()
            self.say(f"trial {trial.number}: {' '.join(words[len(self.search.base) :])}")
            outcome = "stopped"
            try:
                outcome = self._work(trial, words)
            finally:
                if outcome == "stopped":
                    self.trials.leave(trial.number, trial.params)
            self.say(
                f"trial {trial.number}: {outcome} after {plan.duration(time.monotonic() - started)}"
            )

    def _work(self, trial: Any, words: Words) -> str:
        """Do a trial and tell the others; in words, what became of it."""
        states, tell = self.trials.states, self.trials.study.tell
        try:
            digest = config_hash(configured(words))
        except DclipError as error:  # settings that are impossible only together
            trial.set_user_attr("reason", str(error))
            tell(trial, state=states.FAIL)
            return f"failed: {error}"
        trial.set_user_attr("digest", digest)
        locks = self.place.runs / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(
            locks / f"{digest}.lock"
        ):  # equal settings: the second waits for the first, and finds its run
            state, reason = self._run(trial, words, digest)
        run = self._known(digest)
        if state == "finished" and run is not None:
            value = self.search.value(run)
            if value is not None:
                tell(trial, value)
                return f"{self.search.goal} {value:.4g}"
            reason = f"{self.search.goal}: {run.why_absent(self.search.goal)}"
        if state == "pruned":
            tell(trial, state=states.PRUNED)
            return f"given up at {reason}"
        if state == "stopped":
            return state
        trial.set_user_attr("reason", reason)
        tell(trial, state=states.FAIL)
        return f"failed: {reason}"

    def _known(self, digest: str) -> Run | None:
        return by_config(find_runs([self.place.runs])).get(digest)

    def _run(self, trial: Any, words: Words, digest: str) -> tuple[str, str]:
        """Start a run, or find one that was started, and watch it to its end: (state, reason)."""
        known = self._known(digest)
        if known and known.state == "finished":
            self._report(trial, known, 0)
            return "finished", ""
        if known and known.state == "running":  # its command was killed, it was not
            return self._watch(
                trial, digest, lambda: None if self._state(digest) == "running" else 0, None
            )
        log = self.place.runs / "logs" / f"{digest}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        more = [
            setting("output", self.place.runs.resolve()),
            f"sweep={self.search.name}",
            *(["resume=true"] if known else []),
        ]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*jobs.program(), *words, *more], stdout=stream, stderr=subprocess.STDOUT
            )
            state, reason = self._watch(trial, digest, process.poll, process)
        return state, reason if state != "failed" else jobs.why(
            self._known(digest), log, process.returncode
        )

    def _state(self, digest: str) -> str:
        run = self._known(digest)
        return run.state if run else ""

    def _watch(
        self,
        trial: Any,
        digest: str,
        ended: Callable[[], int | None],
        process: subprocess.Popen[bytes] | None,
    ) -> tuple[str, str]:
        """Hand on what a run reports, until it ends, is no good, or the search is stopped."""
        run, seen = None, 0
        while True:
            code = ended()
            if self.search.by_epoch:
                run = run or self._known(digest)
                hopeless, seen = self._report(trial, run, seen) if run else ("", 0)
                if hopeless and code is None:
                    _end(process, run)
                    return "pruned", hopeless
            if code is not None:
                state = self._state(digest)
                if state != "finished" and self.stop.is_set():  # Ctrl-C reached the run before us
                    return "stopped", ""
                return (
                    ("finished", "")
                    if state == "finished"
                    else ("failed", f"its run {state or 'never began'}")
                )
            if self.stop.is_set():
                _end(process, run or self._known(digest))
                return "stopped", ""
            time.sleep(POLL)

    def _report(self, trial: Any, run: Run, seen: int) -> tuple[str, int]:
        """Tell Optuna of epochs that it has not seen; where the trial is no good, when and how bad; how many it has seen now."""
        reports = self.search.reports(run)
        for epoch, value in enumerate(reports[seen:], seen):
            if math.isfinite(value):
                trial.report(value, epoch)
                if trial.should_prune():
                    return f"epoch {epoch + 1}, {self.search.goal} {value:.4g}", epoch + 1
        return "", len(reports)


def _end(process: subprocess.Popen[bytes] | None, run: Run | None) -> None:
    """Stop a run: it leaves a checkpoint to go on from. One that another machine works on is left alone."""
    if process is None:
        if run is not None and run.status.get("host") == platform.node():
            with suppress(OSError):
                os.kill(int(run.status["pid"]), signal.SIGTERM)
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check(search: Search) -> None:
    """Refuse a search of which a corner is impossible, or for which something is missing, before anything runs."""
    corners = [{name: axis.ends[0] for name, axis in search.space.items()}]
    for name, axis in search.space.items():
        corners += [{**corners[0], name: end} for end in axis.ends[1:]]
    cfgs = [configured(search.words(corner)) for corner in corners]
    reason = fetch.offline_reason()
    if jobs.blocked(cfgs[0], reason):
        jobs.refuse(cfgs[:1], reason)


def search_on(trials: Trials, workers: int, say: Callable[[str], None]) -> None:
    """Run trials, ``workers`` at a time, until there are enough."""
    stop = Event()
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(Worker(trials, say, stop)) for _ in range(workers)]
        try:
            for one in waiting:
                one.result()
        finally:
            stop.set()


def dry_run(trials: Trials) -> str:
    """What is searched, what it costs, and where it lies, as text."""
    search, done = trials.search, len(trials.counted())
    cfg = configured(search.words({name: axis.ends[0] for name, axis in search.space.items()}))
    planned = plan.plan(cfg)["seconds"]
    each = plan.duration(sum(planned.values())) if planned else "?"
    return "\n".join([
        search.title, "",
        *(f"  {name:24} {axis}" for name, axis in search.space.items()), "",
        f"  {'maximize' if search.maximize else 'minimize'} {search.goal}"
        + (", trials that are worse than half of the others at an epoch end there" if search.prune and search.by_epoch else ""),
        f"  {search.trials} trials, {done} done; each about {each} on {plan.device_of(cfg).name}",
        f"  journal   {trials.journal}\n  table     {trials.place.table}",
    ])  # fmt: skip


def command(trials: Trials) -> str:
    """The best settings so far as a command line."""
    words = [word for word in trials.search.words(trials.best.params) if word not in QUIET]
    return shlex.join(["python", "run.py", *words])
