"""The command line: Hydra composes, we refuse in one line what cannot work, then the pipeline runs.

Imports nothing heavy, so that ``--help`` and a typo answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dclip.config import Config, DemoTask, planned
from dclip.errors import DclipError
from dclip.prepare import launchers, plan, plugins
from dclip.prepare.checks import to_config
from dclip.prepare.compose import (
    CONF,
    SEARCHPATH,
    _explain,
    _is_hydras,
    adopt_edit,
    check_overrides,
)
from dclip.prepare.needs import obtain

COMMANDS = {  # the first word (or task=WORD) -> the module that takes the others
    "weights": "cli.weights", "metrics": "cli.metrics", "report": "study.collect", "preference": "pages.preference",
}  # fmt: skip


def _jobs(words: Sequence[str], multirun: bool) -> list[list[str]]:
    overrides = [w for w in words if not w.startswith("-")]
    if not multirun:
        return [overrides]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise DclipError(_explain(error)) from error
    return [job for batch in batches for job in batch]


_ASIDE = (
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


def precheck(words: Sequence[str]) -> None:
    """Refuse bad jobs, and get what they lack, before Hydra starts any; jobs that are only planned end here.

    Leaves help and tab completion to Hydra.
    """
    if any(w.split("=")[0] in _ASIDE for w in words):
        return
    folder, words = _config_dir(words)
    multirun = any(w in ("-m", "--multirun") for w in words)
    launcher = launchers.chosen(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        _check_hydras([w for w in words if _is_hydras(w)])
        cfgs = [check_overrides([*folder, *job]) for job in _jobs(words, multirun)]
    launchers.check(launcher if multirun else None, cfgs)
    if any(planned(cfg).plan for cfg in cfgs):
        from dclip.prepare.plan import show

        for cfg in cfgs:
            show(cfg)
        sys.exit(0)
    obtain(cfgs)
    for cfg in cfgs:
        _launch_processes(cfg)


def _config_dir(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A folder of one's own configurations (``-cd DIR``) as a setting, and the other words. DclipError if it is no folder."""
    rest, found = list(words), []
    for k, word in enumerate(words):
        flag, given, value = word.partition("=")
        if flag in ("-cd", "--config-dir"):
            place = Path(value if given else (*words, "")[k + 1])
            rest[k : k + 1 if given else k + 2] = []
            if not place.is_dir():
                raise DclipError(
                    f"{flag} {place} is no folder; give one with sub-folders such as edit, experiment, dataset"
                )
            found = [f"{SEARCHPATH}[file://{place.resolve()}]"]
    return found, rest


def _check_hydras(words: Sequence[str]) -> None:
    """Refuse what is said to Hydra itself, such as a launcher's settings, in one line if it cannot be."""
    try:
        if words:
            compose("config", overrides=list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise DclipError(_explain(error, words)) from error


def _launch_processes(cfg: Config) -> None:
    """``trainer.devices=N`` starts N processes of this command; they find each other through torchrun's variables."""
    if cfg.trainer.devices > 1 and "WORLD_SIZE" not in os.environ:
        words = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={cfg.trainer.devices}",
        ]
        script = [sys.argv[0]] if sys.argv[0].endswith(".py") else ["-m", "dclip.cli"]
        os.execv(sys.executable, [*words, *script, *sys.argv[1:]])


def _console() -> None:
    logger = logging.getLogger("dclip")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
        logger.addHandler(handler)
    logger.propagate = False


def job(node: DictConfig) -> None:
    """One Hydra job, in this process or in one that a launcher has started."""
    _console()
    plugins.load(plugins.names_of(node.plugins))
    adopt_edit(node, HydraConfig.get().overrides.task)
    cfg = to_config(node)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        cfg.sweep = cfg.sweep or Path(str(HydraConfig.get().sweep.dir)).name
        cfg.resume = cfg.resume or launchers.begun(cfg)
    try:
        _carry_out(cfg)
    except DclipError as error:
        _fail(error)
    except OSError as error:
        place, reason = error.filename or cfg.output, error.strerror or error
        _fail(
            DclipError(
                f"{place}: {reason}; check the disk's space and rights (output={cfg.output})"
            )
        )


def _carry_out(cfg: Config) -> None:
    """Show the plan, open the page, or do the run. Torch is imported only for the last two."""
    if planned(cfg).plan:
        plan.show(cfg)
        return
    obtain([cfg])
    if isinstance(cfg.task, DemoTask):
        from dclip.pages.demo_page import serve

        serve(cfg)
        return
    from dclip.pipeline import run

    run(cfg)


def _fail(error: DclipError) -> None:
    """End this job. In a sweep Hydra goes on with the others; a single run's error is said by ``main``, in one line."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise error
    _failures.append(error)


_failures: list[DclipError] = []


_main = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)


def main() -> None:
    """Entry point of ``run.py`` and of the ``dclip`` command. Bad input: one line on stderr, exit code 2."""
    _console()
    debug = os.environ.get("DCLIP_DEBUG") == "1"
    if not debug:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us, not to Hydra's printer
    try:
        launchers.register()
        module = _command(sys.argv[1:])
        if module:
            sys.exit(
                import_module(f"dclip.{module}").main(
                    sys.argv[1:] if module == "study.command" else sys.argv[2:]
                )
            )
        precheck(sys.argv[1:])
        _main()
        if _failures:
            raise _failures[0]
    except DclipError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except SystemExit as stop:  # Lightning turns Ctrl-C and SIGTERM into this
        if stop.code in (None, 0) or (sys.argv[1:2] and sys.argv[1] in COMMANDS):
            raise
        sys.exit(_stopped())


def _command(words: Sequence[str]) -> str | None:
    """The module of a command that is no single run; None for runs and Hydra's sweeps."""
    if any(word.startswith("study=") for word in words) and not any(
        word.split("=")[0] in _ASIDE for word in words
    ):
        if "-m" in words or "--multirun" in words:
            raise DclipError("study= is a sweep by itself, one at a time; leave -m away")
        return "study.command"
    return COMMANDS.get(words[0].removeprefix("task=")) if words else None


def _stopped() -> int:
    how = "" if _command(sys.argv[1:]) else " and resume=true"
    print(f"stopped; go on with the same command{how}", file=sys.stderr)
    return 130
