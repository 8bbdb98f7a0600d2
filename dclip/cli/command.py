"""The command line: Hydra composes, bad settings are refused in one line, then the pipeline runs.

Imports nothing heavy, so that ``--help`` and a typo are answered at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import hydra
import hydra.version
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dclip import __version__
from dclip.cli import sweep as sweeps
from dclip.config import Config, DemoTask, planned
from dclip.errors import DclipError, disk_trouble, need, one_line, output_trouble
from dclip.prepare import launchers, plan, plugins
from dclip.prepare.adopt import adopt_edit
from dclip.prepare.checks import to_config
from dclip.prepare.compose import SEARCHPATH, check_overrides, is_hydras
from dclip.prepare.explain import explain
from dclip.prepare.kinds import spelled
from dclip.prepare.needs import obtain
from dclip.prepare.paths import CONF
from dclip.prepare.published import is_faithful, published
from dclip.prepare.quoting import as_settings, comma_note, quoted
from dclip.record.identity import config_hash, run_name
from dclip.record.runs import find_runs
from dclip.runtime import signals
from dclip.runtime.start import started, starting

log = logging.getLogger("dclip")

# The first word (or task=WORD) of a command that is no run -> the module that takes the others.
COMMANDS = {
    "weights": "cli.weights",
    "metrics": "cli.metrics",
    "info": "cli.info",
    "doctor": "cli.doctor",
    "benchmark": "cli.benchmark",
    "report": "study.collect",
    "preference": "pages.preference",
}
STUDY = "study.command"

# Words with which Hydra answers instead of running.
HYDRAS_OWN = (
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-i",
    "--info",
    "-c",
    "--cfg",
    "-sc",
    "--shell-completion",
    "-cn",
    "-cp",
)


def main() -> None:
    """Entry point of ``run.py`` and of the ``dclip`` command.

    Bad input: one line on stderr, exit code 2. Stopped: 130 (Ctrl-C) or 143 (SIGTERM).
    """
    _log_to_console()
    debug = os.environ.get("DCLIP_DEBUG") == "1"
    if not debug:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us, not to Hydra's printer
    words = sys.argv[1:]
    try:
        with signals.terminable(), starting():
            _answer(words)
    except DclipError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(_pipe_closed())
    except OSError as error:
        if debug:
            raise
        advice = "check the disk's space and rights, or give another path"
        print(f"error: {disk_trouble(error, advice)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_stopped(words))
    except SystemExit as stop:  # Lightning turns Ctrl-C and SIGTERM into this
        if not signals.received() and (stop.code in (None, 0) or _is_command(words)):
            raise
        sys.exit(_stopped(words))


def _answer(words: Sequence[str]) -> None:
    """Carry out the command, and let go of what it printed while errors are still heard."""
    try:
        _dispatch(words)
    finally:
        sys.stdout.flush()


def _pipe_closed() -> int:
    """Whoever read our output has gone, as ``head`` does; returns the exit code."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())  # for what is flushed at the end
    return signals.PIPE_CLOSED


def _dispatch(words: Sequence[str]) -> None:
    if "--version" in words:
        print(f"dclip {__version__}")
        return
    launchers.register()
    module = command_of(words)
    if module is None:
        words = _options_first(words)
        sweep = _is_sweep(words)
        plugins.load(plugins.named(as_settings(words, sweep)))
        sys.argv[1:] = _faithful(spelled(as_settings(words, sweep)))
        precheck(sys.argv[1:])
        if _answered_by_hydra(words):
            _show(sys.argv[1:])
            return
        if sweep:
            _run_sweep()
            return
        _main()
        if _failures:
            raise _failures[0]
        return
    if module != STUDY:
        words = words[1:]
    sys.exit(import_module(f"dclip.{module}").main(words))


def _options_first(words: Sequence[str]) -> list[str]:
    """The words as Hydra takes them: no settings before an option.

    Raises:
        DclipError: Hydra has no such option.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False
    known, others = parser.parse_known_args(list(words))
    settings = [*known.overrides, *others]
    for word in settings:
        name, _, value = word.lstrip("-").replace("-", "_").partition("=")
        like = "plan=true, and for a study dry_run=true"
        if name in Config.__dataclass_fields__:
            like = f"{name}={value or 'true'}"
        need(
            not word.startswith("-"),
            f"there is no option {word}; settings are written name=value, such as {like}",
        )
    return [*(word for word in words if word not in settings), *settings]


def _faithful(words: Sequence[str]) -> list[str]:
    """The words, ``preset=faithful`` as the preset of their method."""
    if not any(map(is_faithful, words)):
        return list(words)
    folder, rest = _config_dir(words)
    jobs = [[*folder, *job] for job in _jobs(rest, _is_sweep(rest))]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return published(words, jobs)


def _show(words: Sequence[str]) -> None:
    """Let Hydra answer: help, settings. DclipError for settings that it cannot compose."""
    try:
        _main()
    except HydraException as error:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            settings = [word for word in words if not word.startswith("-")]
            raise DclipError(explain(error, settings)) from error


def _run_sweep() -> None:
    """Run all jobs, then the table. DclipError where a job has no result; the table says why."""
    missing = ""
    try:
        _main()
    except DclipError:  # the first of those that the table lists
        pass
    except SystemExit as stop:
        if stop.code not in (None, 0):  # Ctrl-C, as Lightning tells it
            raise
    finally:
        missing = sweeps.finish()
    if missing:
        raise DclipError(missing)


def command_of(words: Sequence[str]) -> str | None:
    """The module of a command that is no single run; None for runs and Hydra's sweeps."""
    studies = any(word.startswith("study=") for word in words)
    if studies and not _answered_by_hydra(words):
        if _is_sweep(words):
            raise DclipError("study= is a sweep by itself, one at a time; leave -m out")
        return STUDY
    if not words:
        return None
    return COMMANDS.get(words[0].removeprefix("task="))


def _is_command(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in COMMANDS


def _is_sweep(words: Sequence[str]) -> bool:
    return "-m" in words or "--multirun" in words


def _answered_by_hydra(words: Sequence[str]) -> bool:
    return any(word.split("=")[0] in HYDRAS_OWN for word in words)


def _stopped(words: Sequence[str]) -> int:
    """Say how to continue; returns the exit code."""
    setting = " with resume=true"
    if command_of(words) is not None:
        setting = ""
    print(f"stopped; repeat the command{setting} to continue", file=sys.stderr)
    return signals.stop_code()


def _log_to_console(prefix: str = "") -> None:
    """Show what is logged; ``prefix`` begins every line of a job that runs beside others."""
    log.propagate = False
    log.setLevel(logging.DEBUG)  # a run's log takes everything
    if not log.handlers:
        console = logging.StreamHandler(sys.stderr)
        console.setLevel(logging.INFO)
        if os.environ.get("RANK", "0") != "0":
            console.setLevel(logging.ERROR)
        log.addHandler(console)
    for handler in log.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(_Prefixed(prefix))


class _Prefixed(logging.Formatter):
    """A message as it is, every line behind the same prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__("%(message)s")
        self.prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a message."""
        lines = super().format(record).split("\n")
        return "\n".join(f"{self.prefix}{line}" for line in lines)


# ------------------------------------------------------------ before any job


def precheck(words: Sequence[str]) -> None:
    """Refuse bad jobs, and get what they lack, before Hydra starts any.

    Jobs that are only planned end here. Help and tab completion are left to Hydra.
    """
    if _answered_by_hydra(words):
        return
    folder, words = _config_dir(words)
    sweep = _is_sweep(words)
    launcher = launchers.chosen(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        _check_hydras([word for word in words if is_hydras(word)])
        jobs = _jobs(words, sweep)
        cfgs = _check_jobs(folder, jobs, words if sweep else [])
    if sweep:
        launchers.check(launcher, cfgs)
        sweeps.begin(jobs)
    if any(planned(cfg).plan for cfg in cfgs):
        for cfg in cfgs:
            plan.show(cfg)
        sys.exit(0)
    obtain(cfgs)
    for cfg in cfgs:
        _launch_processes(cfg)


def _check_jobs(
    folder: Sequence[str], jobs: Sequence[Sequence[str]], swept: Sequence[str]
) -> list[Config]:
    """The configuration of every job; of a sweep (``swept``: its words) how commas were read."""
    spaced = comma_note(swept, spaced=True)
    if spaced:
        log.info(spaced)
    try:
        return [check_overrides([*folder, *job]) for job in jobs]
    except DclipError as error:
        note = comma_note(swept)
        if not note or spaced:
            raise
        raise DclipError(f"{error} ({note})") from error


def _config_dir(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A folder of one's own configurations (``-cd DIR``) as a setting, and the other words.

    DclipError if it is no folder.
    """
    settings: list[str] = []
    others: list[str] = []
    waiting = list(words)
    while waiting:
        flag, sign, folder = waiting[0].partition("=")
        word = waiting.pop(0)
        if flag not in ("-cd", "--config-dir"):
            others.append(word)
            continue
        if not sign and waiting:
            folder = waiting.pop(0)
        if not folder or not Path(folder).is_dir():
            raise DclipError(
                f"{flag} {folder} is no folder; "
                "give one with sub-folders such as edit, experiment, dataset"
            )
        settings = [f"{SEARCHPATH}[{quoted(f'file://{Path(folder).resolve()}')}]"]
    return settings, others


def _jobs(words: Sequence[str], sweep: bool) -> list[list[str]]:
    """The settings of every job of a command line."""
    overrides = [word for word in words if not word.startswith("-")]
    if not sweep:
        return [overrides]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise DclipError(explain(error)) from error
    jobs = []
    for batch in batches:
        jobs.extend(batch)
    return jobs


def _check_hydras(words: Sequence[str]) -> None:
    """Refuse in one line what Hydra itself cannot take, such as a launcher's settings."""
    if not words:
        return
    try:
        compose("config", overrides=list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise DclipError(explain(error, words)) from error


def _launch_processes(cfg: Config) -> None:
    """``trainer.devices=N`` starts N processes of this command.

    They find each other through torchrun's variables.
    """
    if cfg.trainer.devices == 1 or "WORLD_SIZE" in os.environ:
        return
    script = ["-m", "dclip.cli"]
    if sys.argv[0].endswith(".py"):
        script = [sys.argv[0]]
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={cfg.trainer.devices}",
        *script,
        *sys.argv[1:],
    ]
    os.execv(sys.executable, words)


# ------------------------------------------------------------ one job


def job(node: DictConfig) -> None:
    """One Hydra job, in this process or in one that a launcher has started."""
    _log_to_console()
    plugins.load(plugins.names_of(node.plugins))
    node.command = list(HydraConfig.get().overrides.task)
    adopt_edit(node, node.command)
    cfg = to_config(node)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        _run_alone(cfg)
        return
    cfg.sweep = cfg.sweep or Path(str(HydraConfig.get().sweep.dir)).name
    _run_of_sweep(cfg)


def _run_alone(cfg: Config) -> None:
    """The only run of this command; ``main`` says in one line why it failed."""
    try:
        _carry_out(cfg)
    except DclipError as error:
        _failures.append(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        _failures.append(output_trouble(error, cfg.output))


def _run_of_sweep(cfg: Config) -> None:
    """One of several; Hydra continues with the others if it fails."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "basic":
        _log_to_console(f"[{int(HydraConfig.get().job.num) + 1}] ")  # lines of jobs side by side
    title = sweeps.begin_job()
    done = _finished(cfg) if cfg.resume else None
    if done is not None:
        log.info("finished before: %s", done)
        sweeps.note_job(title, "finished", run=done)
        return
    cfg.resume = cfg.resume or launchers.was_stopped(cfg)
    try:
        folder = _carry_out(cfg)
    except OSError as error:
        trouble = output_trouble(error, cfg.output)
        sweeps.note_job(title, "failed", str(trouble))
        raise trouble from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            sweeps.note_job(title, "stopped", signals.stop_reason(error))
        else:
            sweeps.note_job(title, "failed", one_line(error))
        raise
    sweeps.note_job(title, "finished", run=folder)


def _finished(cfg: Config) -> Path | None:
    """The run of a job, if the last that was made is finished; for a sweep that is resumed."""
    digest = config_hash(cfg)
    runs = [run for run in find_runs([Path(cfg.output) / run_name(cfg)]) if run.digest == digest]
    if not runs or runs[-1].state != "finished":
        return None
    return runs[-1].folder


def _carry_out(cfg: Config) -> Path | None:
    """Show the plan, open the page, or do the run; its folder.

    Torch is imported only for the last two.
    """
    if planned(cfg).plan:
        plan.show(cfg)
        return None
    obtain([cfg])
    if isinstance(cfg.task, DemoTask):
        from dclip.pages.server import serve

        started()
        serve(cfg)
        return None
    from dclip.pipeline import run

    return run(cfg)


_failures: list[DclipError] = []


def _mode(self: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """``hydra.mode`` if the words may set it. Hydra composes everything once more to ask for it."""
    mode: RunMode | None = None
    if any(is_hydras(word) for word in overrides):
        mode = _ask_mode(self, config_name, overrides)
    return mode


_ask_mode = Hydra.get_mode
setattr(Hydra, "get_mode", _mode)  # noqa: B010  (a method cannot be assigned)
setattr(hydra.version, "_get_version", cache(hydra.version._get_version))  # noqa: B010  (3,000 times)

_main = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)
