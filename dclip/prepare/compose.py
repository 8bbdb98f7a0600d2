"""From words to a composed and checked configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config import OPTIONS, Config, Dataset
from dclip.data.domains import networks_of
from dclip.errors import LONGEST_PATH, DclipError, choose, need, one_line
from dclip.prepare import plugins
from dclip.prepare.adopt import adopt_edit
from dclip.prepare.checks import to_config
from dclip.prepare.composing import composed
from dclip.prepare.explain import choices, explain, groups, nothing_chosen
from dclip.prepare.kinds import spelled
from dclip.prepare.paths import CONF
from dclip.prepare.published import published
from dclip.prepare.quoting import NAME, as_settings

SEARCHPATH = "hydra.searchpath="  # folders with configurations of one's own


def _pictures(dataset: str, checkpoint: str) -> str:
    """What an edit's words are about, by two choices: the checkpoint's own domain, or photographs.

    ``conf/config.yaml`` looks for the edit in ``conf/edit`` and then in the folder of this name
    there.
    """
    option = OPTIONS["dataset"].get(dataset)
    drawn = option is not None and issubclass(option, Dataset) and option.drawn
    if drawn and networks_of(checkpoint).model is not None:
        return checkpoint
    return "photographs"


OmegaConf.register_new_resolver("pictures", _pictures, replace=True)


def configured(words: Sequence[str]) -> Config:
    """The checked configuration of one job."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return check_overrides(words)


def check_overrides(overrides: Sequence[str]) -> Config:
    """Compose and check one job. DclipError in one line for whatever is wrong with it."""
    for word in overrides:
        if word.startswith(("+", "~")) and not is_hydras(word):
            raise DclipError(
                f"{word}: adding (+) or deleting (~) settings is not supported, "
                "they would be ignored; use a setting that exists"
            )
        name = word.partition("=")[0]
        if name and NAME.fullmatch(name) is None and not is_hydras(word):
            raise DclipError(f"{word}: there is no setting {name!r}; settings read name=value")
    try:
        plugins.load(plugins.named(as_settings(overrides)))
        overrides = spelled(as_settings(overrides))
        overrides = published(overrides, [overrides])
        _check_presets(overrides)
        return _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise DclipError(explain(error, overrides)) from error
    except OSError as error:  # a name that no file can have, a folder that may not be read
        raise DclipError(f"{_setting_of(error, overrides)}: {error.strerror}") from error
    except ValueError as error:
        raise DclipError(_explain_value(error, overrides)) from error


def _check_presets(overrides: Sequence[str]) -> None:
    """DclipError where two presets of a list choose different options: one would win unsaid."""
    for word in overrides:
        group, _, names = word.partition("=")
        chosen: dict[str, tuple[str, str]] = {}
        for name in names.strip("[]").split(",") if group == "preset" else ():
            for choice, option in _overridden(CONF / "preset" / f"{name.strip()}.yaml").items():
                other, before = chosen.setdefault(choice, (name, option))
                need(
                    before == option,
                    f"{word}: {other} chooses {choice}={before}, and {name} {choice}={option}; "
                    "give one of them",
                )


def _overridden(preset: Path) -> dict[str, str]:
    """The groups that a preset chooses an option of, with the option; none of another's file."""
    if not preset.is_file():
        return {}
    chosen: dict[str, str] = {}
    for entry in OmegaConf.select(OmegaConf.load(preset), "defaults") or ():
        if OmegaConf.is_dict(entry):
            chosen |= {str(key).removeprefix("override /"): str(entry[key]) for key in entry}
    return chosen


def _compose(overrides: Sequence[str]) -> Config:
    settings = []
    for word in overrides:
        if not is_hydras(word) or word.startswith(SEARCHPATH):
            settings.append(word)
    node = composed(settings)
    plugins.load(plugins.names_of(node.plugins))
    node.command = list(overrides)
    adopt_edit(node, overrides)
    return to_config(node)


def is_hydras(word: str) -> bool:
    """Whether a word is for Hydra itself: a launcher, a folder."""
    return word.lstrip("+~").startswith("hydra")


def _setting_of(error: OSError, overrides: Sequence[str]) -> str:
    """The setting that names the file of an error, or else the file."""
    path = str(error.filename)
    for word in overrides:
        name, _, value = word.partition("=")
        if value and value.strip("'\"") in path:
            return f"{name}={path[:LONGEST_PATH]}"
    return path[:LONGEST_PATH]


def _explain_value(error: ValueError, overrides: Sequence[str]) -> str:
    """Hydra's ValueError: a group without an option (task=null), or a setting without a name."""
    for word in overrides:
        group = word.split("=")[0]
        if word.split("=")[-1] in ("null", "") and group in groups():
            return nothing_chosen(group)
    if "Config group override must be a string" in str(error):
        for word in overrides:
            group, _, name = word.partition("=")
            if group in groups() and name not in choices(group):
                return f"{word} does not exist{choose(name, choices(group))}"
    return f"{' '.join(overrides)}: {one_line(error, None)}; settings read name=value"
