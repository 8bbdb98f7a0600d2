"""The trials of a search: what Optuna's journal knows of them, and the workers that run them."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from dclip.errors import DclipError
from dclip.prepare import plan
from dclip.prepare.compose import configured
from dclip.record.identity import config_hash
from dclip.record.processes import alive, this_process
from dclip.record.runs import Run
from dclip.runtime.durations import duration
from dclip.study.document import Settings
from dclip.study.jobs import End, Folders, JobRunner, run_parallel
from dclip.study.jobs_page import shown_of
from dclip.study.search import Search
from dclip.study.watch import Watch

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

RANDOM = 8  # trials that are drawn at random before the search learns from them
BEFORE_PRUNING = 5  # finished trials before any is stopped early
WARM_UP = 1  # epochs before which no trial is stopped


class Trials:
    """The trials of a search as its journal has them."""

    def __init__(self, search: Search, folders: Folders) -> None:
        if find_spec("optuna") is None:
            raise DclipError(
                f"study={search.name} searches with Optuna, which is not installed: "
                "pip install 'dclip[sweep]'"
            )
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.search, self.folders = search, folders
        self.states = optuna.trial.TrialState
        folders.runs.mkdir(parents=True, exist_ok=True)
        self.journal = folders.runs / "journal.log"
        self.guard = FileLock(folders.runs / "journal.guard")
        pruner: BasePruner = optuna.pruners.NopPruner()
        if search.prune:
            pruner = optuna.pruners.MedianPruner(BEFORE_PRUNING, WARM_UP)
        with self.guard:
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self.journal))),
                study_name=f"{search.name}-{search.digest}",
                direction="maximize" if search.maximize else "minimize",
                pruner=pruner,
                load_if_exists=True,
            )

    def counted(self) -> list[FrozenTrial]:
        """All that finished, run, or failed for a reason; not those that were taken up again."""
        counted = []
        for trial in self.study.get_trials(deepcopy=False):
            left = trial.state == self.states.FAIL and "reason" not in trial.user_attrs
            if trial.state != self.states.WAITING and not left:
                counted.append(trial)
        return counted

    def next(self) -> Trial | None:
        """A new trial, or one that was left behind; None where there are enough."""
        from optuna.samplers import TPESampler

        with self.guard:
            for trial in self.study.get_trials(deepcopy=False):
                if trial.state == self.states.RUNNING and not alive(trial.user_attrs):
                    self.leave(trial.number, trial.params)
            number = len(self.counted())
            if number >= self.search.trials:
                return None
            self.study.sampler = TPESampler(
                n_startup_trials=RANDOM,
                multivariate=True,
                constant_liar=True,
                seed=int(self.search.digest, 16) % 2**31 + number,
            )
            space = {name: axis.distribution() for name, axis in self.search.space.items()}
            new = self.study.ask(space)
            for name, value in this_process().items():
                new.set_user_attr(name, value)
            return new

    def leave(self, number: int, params: Mapping[str, Any]) -> None:
        """Give a trial back, for the next who asks."""
        self.study.tell(number, state=self.states.FAIL)
        self.study.enqueue_trial(dict(params))

    def finished(self) -> list[FrozenTrial]:
        """All that have a value."""
        return [trial for trial in self.counted() if trial.state == self.states.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The best of the finished; None where there is none."""
        return min(self.finished(), key=self.rank, default=None)

    def rank(self, trial: FrozenTrial) -> tuple[float, int]:
        """Smaller is better; of equal trials the earlier is."""
        value = trial.value or 0.0
        return -value if self.search.maximize else value, trial.number


# ----------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Result:
    """How a trial ended, with its value or the reason."""

    state: str
    detail: str = ""
    run: Run | None = None


class Worker:
    """Runs trials, one after the other, until there are enough or the search is stopped.

    Args:
        enough: whether no other trial is to start.
    """

    def __init__(
        self, trials: Trials, watch: Watch, stop: Event, enough: Callable[[], bool]
    ) -> None:
        self.trials, self.search, self.watch = trials, trials.search, watch
        self.runner = JobRunner(trials.folders, trials.search.name, stop)
        self.enough = enough

    def __call__(self) -> None:
        """Take the next trial until there is none."""
        while not self.runner.stop.is_set() and not self.enough():
            trial = self.trials.next()
            if trial is None:
                return
            title = f"trial {trial.number}:"
            label = f"{title} {' '.join(self.search.chosen(trial.params))}"
            self.watch.start(label)
            result = Result("stopped")
            try:
                result = self._do(trial)
            finally:
                if result.state == "stopped":
                    self.trials.leave(trial.number, trial.params)
                shown = shown_of(result.run, self.columns, self.trials.folders.runs)
                self.watch.end(label, title, result.state, result.detail, shown)

    @property
    def columns(self) -> list[str]:
        """What the page shows of a trial."""
        return list(self.search.columns.values())

    def _do(self, trial: Trial) -> Result:
        """Run a trial and tell Optuna its result; returns it in words."""
        settings = self.search.settings(trial.params)
        try:
            digest = config_hash(configured(settings))
        except DclipError as error:  # settings that are impossible only together
            return self._fail(trial, str(error))
        trial.set_user_attr("digest", digest)
        # of equal trials the second waits for the first, and finds its run
        with self.trials.folders.lock(digest):
            end = self._run(trial, settings, digest)
        states, tell = self.trials.states, self.trials.study.tell
        if end.state == "finished":
            run = self.runner.find(digest)
            value = self.search.value(run) if run else None
            if value is not None:
                tell(trial, value)
                return Result("finished", f"{self.search.goal} {value:.4g}", run)
            absent = run.why_absent(self.search.goal) if run else "its run is gone"
            return self._fail(trial, f"{self.search.goal}: {absent}")
        if end.state == "given up":
            tell(trial, state=states.PRUNED)
            return Result("given up", f"at {end.reason}")
        if end.state == "stopped" and self.runner.stop.is_set():
            return Result("stopped")
        return self._fail(trial, end.reason)

    def _fail(self, trial: Trial, reason: str) -> Result:
        trial.set_user_attr("reason", reason)
        self.trials.study.tell(trial, state=self.trials.states.FAIL)
        return Result("failed", reason)

    def _run(self, trial: Trial, settings: Settings, digest: str) -> End:
        if not self.search.by_epoch:
            return self.runner.run(settings, digest, follow=True)
        reporter = Reporter(trial, self.search)
        return self.runner.run(settings, digest, reporter, follow=True)


class Reporter:
    """Tells Optuna of every epoch of a run once."""

    def __init__(self, trial: Trial, search: Search) -> None:
        self.trial, self.search = trial, search
        self.told = 0  # epochs

    def __call__(self, run: Run) -> str:
        """Report new epochs; says when and how bad a hopeless trial was, of others nothing."""
        reports = self.search.reports(run)
        for epoch in range(self.told, len(reports)):
            value = reports[epoch]
            self.told = epoch + 1
            if math.isfinite(value):
                self.trial.report(value, epoch)
                if self.trial.should_prune():
                    return f"epoch {epoch + 1}, {self.search.goal} {value:.4g}"
        return ""


def run_search(trials: Trials, workers: int, watch: Watch, fail_fast: int = 0) -> None:
    """Run trials, ``workers`` at a time, until there are enough.

    Args:
        watch: is told what happens.
        fail_fast: after so many failed trials no other is started; 0: all are.
    """
    stop = Event()
    watch.workers = workers

    def enough() -> bool:
        return 0 < fail_fast <= watch.failures

    with watch.watching():
        work = [Worker(trials, watch, stop, enough) for _ in range(workers)]
        run_parallel(work, workers, stop)
        left = trials.search.trials - len(trials.counted())
        if enough() and left > 0:
            watch.note = (
                f"fail_fast={fail_fast}: {left} trials were not started, because {fail_fast} failed"
            )
            watch.say(watch.note)


def dry_run(trials: Trials) -> str:
    """What is searched, what it costs, and where it lies, as text."""
    search, done = trials.search, len(trials.counted())
    cfg = configured(search.settings(search.corner))
    seconds = plan.plan(cfg)["seconds"]
    each = duration(sum(seconds.values())) if seconds else "?"
    goal = f"{'maximize' if search.maximize else 'minimize'} {search.goal}"
    if search.prune and search.by_epoch:
        goal += ", trials that are worse than half of the others at an epoch end there"
    lines = [search.title, ""]
    for name, axis in search.space.items():
        lines.append(f"  {name:24} {axis}")
    lines += [
        "",
        f"  {goal}",
        f"  {search.trials} trials, {done} done; each about {each} on {plan.device_of(cfg).name}",
        f"  journal   {trials.journal}",
        f"  table     {trials.folders.table}",
    ]
    return "\n".join(lines)
