"""The command line: Hydra composes, we refuse in one line what cannot work, then the pipeline runs.

Imports nothing heavy, so that ``--help`` and a typo answer at once.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip import extend, launchers
from dclip.checks import to_config
from dclip.config import Config, DclipError, TaskName, adapters_of, planned
from dclip.needs import obtain

HERE = Path(__file__).resolve().parent
# beside the package in a checkout, inside it in a wheel
CONF = next((p for p in (HERE / "conf", HERE.parent / "conf") if (p / "config.yaml").is_file()), HERE / "conf")


COMMANDS = {  # the first word (or task=WORD) -> the module that takes the others
    "weights": "weights_cli", "metrics": "metrics_cli", "report": "collect", "preference": "preference",
}  # fmt: skip


def _choices(group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    loader = GlobalHydra.instance().config_loader()
    return [name for name in loader.get_group_options(group, ObjectType.CONFIG) if name != "base"]


def _groups() -> list[str]:
    return [group for group in GlobalHydra.instance().config_loader().list_groups("") if group != "hydra"]


def _known_keys(node: DictConfig, path: str) -> tuple[str, list[str]]:
    """The deepest existing part of a dotted path, and the keys below it."""
    owner, current = "", node
    for part in path.split("."):
        if not OmegaConf.is_dict(current) or part not in current:
            break
        owner, current = f"{owner}.{part}".lstrip("."), current[part]
    return owner, [str(k) for k in current] if OmegaConf.is_dict(current) else []


def _explain(error: Exception, words: Sequence[str] = ()) -> str:
    """Hydra's message in one line, with the choices where a name was wrong."""
    text = " ".join(str(error).split())
    cause = " ".join(str(error.__cause__ or "").split())
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if missing:
        group, name = missing[1], missing[2]
        options = _choices(group)
        close = difflib.get_close_matches(name, options, 1)
        hint = f"; did you mean {close[0]}?" if close else "."
        return f"{group}={name} does not exist{hint} Choose from: {', '.join(options)}"
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        return _explain_key(wrong[1], words)
    if "Error merging override" in text and cause:
        setting = text.split("Error merging override ")[1].split()[0]
        return f"{setting}: {cause.split(' full_key')[0]}"
    return text.split(" See https")[0]


def _explain_key(key: str, words: Sequence[str]) -> str:
    """There is no such setting: what is there instead?"""
    groups = [word for word in words if word.startswith("hydra/")]
    owner, keys = _known_keys(compose("config", overrides=groups, return_hydra_config=bool(groups)), key)
    rest = key[len(owner) :].lstrip(".").split(".")[0]
    if not owner:
        keys += [group for group in _groups() if group not in keys]
    close = difflib.get_close_matches(rest, keys, 1)
    hint = f"; did you mean {f'{owner}.{close[0]}'.lstrip('.')}?" if close else "."
    return f"there is no setting {key}{hint} {f'Below {owner}' if owner else 'At the top'} there are: {', '.join(sorted(keys))}"


def adopt_edit(node: DictConfig, overrides: Sequence[str]) -> None:
    """``task=edit`` (or ``translate``) uses the texts and steps that the edit was made with, unless told otherwise.

    An edit whose text was changed on the command line is not the one of that name any more.
    """
    told = {word.split("=")[0] for word in overrides}
    if told & {"edit.source", "edit.target"} and "edit.name" not in told:
        node.edit.name = ""
    if node.edit.examples and not told & {"edit.source", "edit.target", "edit.name"}:
        node.edit.name = Path(node.edit.examples).stem
        node.edit.source, node.edit.target = "images before", f"images like {node.edit.name}"
    names = adapters_of(OmegaConf.to_container(node.edit)["adapter"])  # type: ignore[index,call-overload]
    task = OmegaConf.select(node, "task.name")
    if task not in (TaskName.edit, TaskName.translate, TaskName.demo) or not names:
        return
    from dclip.headers import adopted, find_edit, read_edit_header

    paths = [find_edit(name, str(node.output)) for name in names]
    node.edit.adapter = paths if len(paths) > 1 else paths[0]
    headers = [read_edit_header(path, node.sampler.t0 if "sampler.t0" in told else None)[1] for path in paths]
    if task == TaskName.demo:  # adopts those of the edits that are chosen on the page
        return
    for header in headers:
        if header["kind"] == "foreign edit":
            _name_texts(node, header, told)
    for key, value in adopted(headers, told).items():
        OmegaConf.update(node, key, value)


def _name_texts(node: DictConfig, header: dict[str, Any], told: set[str]) -> None:
    """The texts of an edit that somebody else published, by its name: those of conf/edit, or the words of the name.

    Scores by CLIP are left out where the texts are only guessed, or the CLIP has never seen photographs.
    """
    words = str(header["edit"]["name"])
    short = re.sub(r"^((human|imagenet|church|bedroom)_)?(with_)?", "", words)
    files = [CONF / "edit" / f"{name.replace('without_', 'no_')}.yaml" for name in (words, short)]
    file = next((file for file in files if file.is_file()), None)
    guessed = {"name": words, "source": "photo", "target": words.replace("_", " ")}
    header["edit"] = OmegaConf.load(file).edit if file else guessed
    sure = file is not None or bool(told & {"edit", "edit.source", "edit.target"})
    if "metric.clip" not in told and (not sure or node.clip.name == "toonfaces"):
        node.metric.clip = False


SEARCHPATH = "hydra.searchpath="  # folders with configurations of one's own


def _is_hydras(word: str) -> bool:
    return word.lstrip("+~").startswith("hydra")


def check_overrides(overrides: Sequence[str]) -> Config:
    """Compose and check one job. DclipError in one line for whatever is wrong with it."""
    for word in overrides:
        if word.startswith(("+", "~")) and not _is_hydras(word):
            raise DclipError(
                f"{word}: adding (+) or deleting (~) settings is not supported, they would be ignored; use a setting that exists"
            )
    try:
        extend.load(extend.named(overrides))
        node = compose("config", overrides=[w for w in overrides if not _is_hydras(w) or w.startswith(SEARCHPATH)])
        extend.load(extend.names_of(node.plugins))
        adopt_edit(node, overrides)
        return to_config(node)
    except (HydraException, OmegaConfBaseException) as error:
        raise DclipError(_explain(error)) from error
    except ValueError as error:  # Hydra's own, for a group without an option (task=null) or a setting without a name
        empty = next((w.split("=")[0] for w in overrides if w.split("=")[-1] in ("null", "")), None)
        if empty in _groups():
            raise DclipError(f"{empty}: nothing is not a choice; choose from {', '.join(_choices(str(empty)))}") from error
        raise DclipError(f"{' '.join(overrides)}: {' '.join(str(error).split())}; settings read name=value") from error


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
        from dclip.plan import show

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
                raise DclipError(f"{flag} {place} is no folder; give one with sub-folders such as edit, experiment, dataset")
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
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={cfg.trainer.devices}"]
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
    extend.load(extend.names_of(node.plugins))
    adopt_edit(node, HydraConfig.get().overrides.task)
    cfg = to_config(node)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        cfg.sweep = cfg.sweep or Path(str(HydraConfig.get().sweep.dir)).name
        cfg.resume = cfg.resume or launchers.begun(cfg)
    from dclip.pipeline import run

    try:
        run(cfg)
    except DclipError as error:
        _fail(error)
    except OSError as error:
        place, reason = error.filename or cfg.output, error.strerror or error
        _fail(DclipError(f"{place}: {reason}; check the disk's space and rights (output={cfg.output})"))


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
            sys.exit(import_module(f"dclip.{module}").main(sys.argv[1:] if module == "study" else sys.argv[2:]))
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
    if any(word.startswith("study=") for word in words) and not any(word.split("=")[0] in _ASIDE for word in words):
        if "-m" in words or "--multirun" in words:
            raise DclipError("study= is a sweep by itself, one at a time; leave -m away")
        return "study"
    return COMMANDS.get(words[0].removeprefix("task=")) if words else None


def _stopped() -> int:
    how = "" if _command(sys.argv[1:]) else " and resume=true"
    print(f"stopped; go on with the same command{how}", file=sys.stderr)
    return 130


if __name__ == "__main__":
    from dclip.cli import main  # the functions that launchers hand to other processes must not be those of __main__

    main()
