"""Which learned edit a name means. Imports nothing heavy.

``edit.adapter=red_hair`` is the newest finished run of the experiment itself. What was learned from
one picture, by a sweep, or by a variant of the experiment is named by its folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

from dclip.config import adapters_of
from dclip.errors import DclipError
from dclip.record.runs import Run
from dclip.runtime.typed import typed

FILE = "adapter.safetensors"
EPOCHS = "epochs"  # the folder of a run's edits after single epochs

# Words of a command that change how an edit is learned begin with these.
LEARNING = (
    "method",
    "loss",
    "sampler",
    "recipe",
    "clip",
    "dataset.train",
    "dataset.validation",
    "edit.examples",
)


class Standing(IntEnum):
    """How near a run is to the experiment that its edit's name stands for; the lowest is meant."""

    experiment = 0
    preset = 1  # with a preset that makes no variant of it: preset=quick
    own = 2  # with settings of one's own, or made before runs kept their command
    aside = 3  # never meant by a name


def why_aside(run: Run) -> str:
    """Why an edit's name never means this run; empty where it may."""
    if not (run.folder / "status.json").is_file():
        return ""  # an edit that was copied here
    if run.state != "finished":
        return run.state
    if run.sweep:
        return f"a job of {run.sweep}"
    if (run.folder / "config.yaml").is_file() and run.setting("input"):
        return f"input={run.setting('input')}"
    return f"preset={run.variant}" if run.variant else ""


def standing(run: Run) -> Standing:
    """How near a run is to the experiment itself."""
    if why_aside(run):
        return Standing.aside
    command = run.command
    if not command or any(word.startswith(LEARNING) for word in command):
        return Standing.own
    if any(word.startswith("preset=") for word in command):
        return Standing.preset
    return Standing.experiment


def ranked(runs: Iterable[Run]) -> list[Run]:
    """Runs of one edit: the one that its name means comes first, then the newest of every kind."""
    newest_first = sorted(runs, key=lambda run: run.folder.name, reverse=True)
    return sorted(newest_first, key=standing)


def edits_of(names: Iterable[str], output: str = "outputs", checkpoint: str = "") -> list[str]:
    """The files or folders of the edits that several names mean, in their order."""
    found: list[str] = []
    for name in names:
        found += find_edits(name, output, checkpoint)
    return found


def runs_of(name: str, output: str, checkpoint: str = "") -> list[Run]:
    """The fine-tunings of an edit under ``output``, the one that its name means first.

    Of several checkpoints only the given one counts, where there is any of it.
    """
    files = Path(output).glob(f"finetune_{name}/*/{FILE}")
    runs = [Run(file.parent) for file in files]
    same = [run for run in runs if checkpoint and _checkpoint_of(run) == checkpoint]
    return ranked(same or runs)


def _checkpoint_of(run: Run) -> str:
    """The checkpoint that a run tuned; empty where it does not say."""
    if not (run.folder / "config.yaml").is_file():
        return ""
    return str(run.setting("checkpoint.name"))


def find_edits(name: str, output: str = "outputs", checkpoint: str = "") -> list[str]:
    """The files or folders of edits that a name means; several where a run applied several.

    ``name`` is a file, a folder, or the name of an edit that was learned under ``output``. A run
    that applied edits stands for them. Symlinks such as outputs/latest are resolved immediately,
    because a later run will repoint them.

    Raises:
        DclipError: no edit of that name was learned, or the folder is of a run without one.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _of_folder(path, name)
    if path.exists() or not name.isidentifier():
        return [name]
    return [_of_name(name, output, checkpoint)]


def epoch_file(folder: Path, epoch: int) -> Path:
    """Where a run keeps its edit of an epoch; the first is 1."""
    return folder / EPOCHS / f"epoch_{epoch:02d}.safetensors"


def edit_of_epoch(name: str, epoch: int) -> str:
    """The file of an edit as it was after an epoch.

    Args:
        name: the edit's file, or its run's folder.

    Raises:
        DclipError: it was not kept.
    """
    place = Path(name)
    folder = place if place.is_dir() else place.parent
    if epoch == _last_epoch(folder):
        return name
    file = epoch_file(folder, epoch)
    if file.is_file():
        return str(file)
    raise DclipError(f"epoch={epoch} of edit.adapter={name} is not there; {_epochs_of(folder)}")


def _last_epoch(folder: Path) -> int | None:
    """The epoch of a run's own edit; None where its folder does not say."""
    if not (folder / "config.yaml").is_file() or not (folder / FILE).is_file():
        return None
    epochs = Run(folder).setting("method.epochs")
    return epochs if isinstance(epochs, int) else None


def _epochs_of(folder: Path) -> str:
    """Which epochs' edits a run keeps, in words."""
    files = (folder / EPOCHS).glob("epoch_*.safetensors")
    kept = {int(path.stem.removeprefix("epoch_")) for path in files}
    last = _last_epoch(folder)
    if last is not None:
        kept.add(last)
    if not kept:
        return "it is no edit in the folder of the run that learned it"
    word = "epoch" if len(kept) == 1 else "epochs"
    return (
        f"its run has those of {word} {', '.join(map(str, sorted(kept)))} "
        "(method.keep_epochs=N keeps the last N while an edit is learned)"
    )


def _of_folder(folder: Path, name: str) -> list[str]:
    real = folder.resolve() if folder.is_symlink() else folder
    if (real / FILE).is_file() or not (real / "config.yaml").is_file():
        return [str(real) if folder.is_symlink() else name]
    run = Run(real)
    applied = adapters_of(run.config.get("edit", {}).get("adapter"))
    if not applied:
        task = run.setting("task.name")
        raise DclipError(
            f"edit.adapter={name} is a run of task={task} ({run.state}), which has no edit; "
            "name one that was learned, such as edit.adapter=red_hair"
        )
    return [_as_then(edit, real) for edit in applied]


def _as_then(edit: str, folder: Path) -> str:
    """The path of an edit as an older run wrote it, also where that was in another folder."""
    for place in (Path(), *folder.parents):
        if (place / edit).exists():
            return str(place / edit)
    return edit


def _of_name(name: str, output: str, checkpoint: str) -> str:
    runs = runs_of(name, output, checkpoint)
    others = sorted(Path(output).glob(f"{name}/*/{FILE}"))
    if not runs and others:
        raise DclipError(
            f"edit.adapter={name} is no edit's name, but {output}/{name} has runs with one; name one "
            f"by its folder: edit.adapter={others[-1].parent}"
        )
    if not runs:
        raise DclipError(
            f"edit.adapter={name} is neither a file, nor a folder, nor a fine-tuning under "
            f"{output}; first learn it, e.g. {typed([f'edit={name}'])}"
        )
    first = runs[0]
    why = why_aside(first)
    if why:
        raise DclipError(
            f"edit.adapter={name}: no finished run of the experiment itself is under {output}, "
            f"only others ({why}); name one by its folder: edit.adapter={first.folder}"
        )
    return str(first.folder / FILE)
