"""An edit as one file: tensors, and in the header what they mean and which model they belong to."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from dclip.config import option_name, plain
from dclip.diffusion.options import Sampler, sampler_named
from dclip.edits.header import read_edit_header
from dclip.edits.named import EPOCHS
from dclip.edits.named import FILE as FILE
from dclip.edits.usual import Usual, read
from dclip.errors import DclipError
from dclip.models.header import read_header
from dclip.models.hints import Hints
from dclip.models.saved import model_header, read_weights
from dclip.models.unet import DiffusionModel
from dclip.run import Run

# The scores that say most of what an edit is worth, the first first.
HEADLINE = ("closer", "counterfactual_ratio", "judge_success", "s_dir", "s_dir_heldout")


DATE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class SavedEdit:
    """An edit on disk. ``header`` holds texts, steps, base checkpoint and training time; a foreign one's, only steps."""

    path: Path
    header: dict[str, Any]

    @property
    def method(self) -> str:
        """The option of ``method=`` that made it."""
        return str(self.header.get("method_name", "diffusionclip"))

    @property
    def sampler(self) -> Sampler:
        """The solver and steps that the edit was made with."""
        settings = dict(self.header["sampler"])
        option = sampler_named(settings.pop("solver", "ddim"))
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(option), settings))
        assert isinstance(options, Sampler)
        return options

    @property
    def degree(self) -> float:
        """What gamma = 1 stands for, as a degree of what was learned; 1 where it is not calibrated."""
        return float(self.header.get("degree", 1.0))

    @property
    def texts(self) -> tuple[str, str] | None:
        """Before and after; None where it was learned from examples, or does not say."""
        edit = self.header["edit"]
        if edit.get("examples") or not edit.get("target"):
            return None
        return edit["source"], edit["target"]

    @property
    def usual(self) -> Usual:
        """What it usually does. One of an epoch acts where the finished edit does, if that is there."""
        return read(self._finished)

    @property
    def _finished(self) -> Mapping[str, Any]:
        finished = self.path.parent.parent / FILE
        if self.path.parent.name == EPOCHS and finished.is_file():
            return read_header(finished)
        return self.header

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else published the file."""
        return bool(self.header["kind"] == "foreign edit")

    @property
    def learned(self) -> str:
        """When it was learned, to the minute; of our older files, when they were written."""
        if self.is_foreign:
            return ""
        written = self.path.stat().st_mtime
        return str(self.header.get("learned") or time.strftime(DATE, time.localtime(written)))

    @property
    def card(self) -> dict[str, Any]:
        """What a run keeps of an edit that it applies: file, texts, date, command and scores."""
        known = dict(self.header.get("scores") or {})
        scores = {name: known[name] for name in HEADLINE if name in known}
        edit = self.header["edit"]
        return {
            "name": edit["name"] or self.path.parent.name,
            "source": edit.get("source", ""),
            "target": edit.get("target", ""),
            "learned": self.learned,
            "epoch": self.header.get("epoch"),
            "degree": self.degree,
            "command": shlex.join(self.header.get("command") or []),
            "scores": scores,
            "file": str(self.path),
        }

    def check_base(self, model: DiffusionModel) -> None:
        """Refuse another base. Of a foreign edit only the architecture is known, when it is read.

        Raises:
            DclipError: the edit was learned from another checkpoint than ``model``.
        """
        if self.is_foreign or self.header["base_sha256"] == model.digest:
            return
        base, digest = self.header["base"], self.header["base_sha256"]
        raise DclipError(
            f"edit.adapter={self.path} was fine-tuned from {base!r} (sha256 {digest[:12]}), "
            f"not from this checkpoint ({model.info.name!r}, {model.digest[:12]}); "
            "choose its own checkpoint="
        )


def read_edit(name: str, t0: int | None = None) -> SavedEdit:
    """An edit's file, or the one in a run's folder. DclipError if there is none."""
    return SavedEdit(*read_edit_header(name, t0))


def described(card: Mapping[str, Any]) -> str:
    """An edit's card (``SavedEdit.card``) as one line."""
    parts = []
    if card.get("epoch"):
        parts.append(f"of epoch {card['epoch']}")
    if card.get("degree", 1.0) != 1:
        parts.append(f"gamma 1 is degree {card['degree']:.2f} of it")
    if card["learned"]:
        parts.append(f"learned {card['learned']}")
    if card["command"]:
        parts.append(str(card["command"]))
    for name, value in card["scores"].items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.2f}")
    texts = ""
    if card["source"]:
        texts = f" ({card['source']} → {card['target']})"
    return ", ".join([f"edit {card['name']}: {card['file']}{texts}", *parts])


def edit_header(run: Run, scores: Mapping[str, float | str] | None = None) -> dict[str, Any]:
    """What an edit's file says of the run that made it: all that is needed to apply it again."""
    settings = plain(run.cfg)
    model = model_header(run.model.info)
    model.pop("kind")
    header = {
        "kind": "edit",
        "base": run.model.info.name,
        "base_sha256": run.model.digest,
        "model": model,
        "method_name": option_name("method", run.cfg.method),
        "seconds_adapt": run.record.seconds.get("seconds_adapt", 0.0),  # of an epoch's: not yet
        "scores": dict(scores or {}),
        "learned": time.strftime(DATE),
        "command": list(run.cfg.command),
    }
    for key in ("edit", "sampler", "method", "loss", "clip", "seed"):
        header[key] = settings[key]
    return header


def foreign_weights(path: Path, model: DiffusionModel) -> dict[str, Tensor]:
    """A published fine-tuned checkpoint as weights of the base's network.

    What its keys do not tell is as in the base.

    Raises:
        DclipError: it is of another architecture than ``model``.
    """
    from dclip.models.convert import converted

    base = model.info.unet
    hints = replace(base_hints(model), image_size=model.image_size)
    try:
        tuned = converted(path, hints)
    except DclipError as error:
        raise DclipError(f"edit.adapter={path}: {error}") from error
    weights = read_weights(tuned)
    differs = _differs(read_header(tuned)["unet"], json.loads(json.dumps(base)))
    shapes = {key: value.shape for key, value in model.unet.state_dict().items()}
    if differs or shapes != {key: value.shape for key, value in weights.items()}:
        raise DclipError(
            f"edit.adapter={path} is of another architecture than checkpoint "
            f"{model.info.name!r}{differs}; choose the checkpoint= that it was fine-tuned from"
        )
    return weights


def base_hints(model: DiffusionModel) -> Hints:
    """What was said of the base when it was read, for a checkpoint that was tuned from it."""
    hints = Hints(**model.info.notes.get("hints", {}))
    head_dim = model.info.unet.get("attention_head_dim") or hints.head_dim
    heads = model.info.unet.get("attention_heads")
    return replace(
        hints,
        head_dim=head_dim,
        heads=heads,
        prediction=model.info.prediction,
        schedule=model.info.schedule.kind,
    )


def _differs(unet: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """The first setting in which two architectures differ, as a note; empty where none does."""
    for key in ("block_out_channels", "layers_per_block", "down_block_types", "out_channels"):
        if unet.get(key) != base.get(key):
            return f" ({key}: {unet.get(key)})"
    return ""
