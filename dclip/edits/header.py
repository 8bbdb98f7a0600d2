"""What a safetensors file of ours says about itself, read without torch: its first bytes are JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dclip.config.edit import FOUND, REGION_SETTINGS, Edit
from dclip.data.pictures import suffixes
from dclip.diffusion.options import written_settings
from dclip.errors import DclipError, need
from dclip.models.header import is_ours, read_header, t0_from_name
from dclip.models.registry import find

# settings of the region, with the values that several edits get which differ
REGION = {field.name: field.default for field in fields(Edit) if field.name in REGION_SETTINGS}
REGION["region"] = "auto"

# how the source is carried along, with the values of older files
CARRY = {"carry": "none", "carry_weight": 1.0, "carry_noises": 1}

# settings of every sampler that belong to an edit, whatever sampler applies it
STEPS = ("t0", "s_for", "s_gen", "final_step", "grid", "encode", *CARRY)


def read_edit_header(name: str, t0: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Path and header of an edit: its file, or the one in a run's folder.

    A fine-tuned checkpoint that somebody else published says little of itself: its name carries t0
    (else ``t0`` is needed) and a word for the edit; the steps are those of DiffusionCLIP's README.

    Raises:
        DclipError: there is no such file, or it holds something else.
    """
    path = Path(name).expanduser()
    path = path / "adapter.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise DclipError(
            f"edit.adapter={name}: there is no {path.name}; "
            "give the folder of a finished fine-tuning run"
        )
    if not is_ours(path):
        return path, _foreign_header(path, t0)
    header = read_header(path)
    if header.get("kind") != "edit":
        raise DclipError(
            f"edit.adapter={path} holds a network of kind {header.get('kind')!r}, not an edit"
        )
    header["sampler"] = written_settings(header["sampler"])
    return path, header


def _foreign_header(path: Path, t0: int | None) -> dict[str, Any]:
    need(
        path.suffix.lower() not in suffixes(),
        f"edit.adapter={path} is a picture, not an edit; give an edit's file or its run's folder "
        "(pictures to edit are input=)",
    )
    t0 = t0 or t0_from_name(path)
    if t0 is None:
        raise DclipError(
            f"edit.adapter={path} was published without saying its t0 (names end in _t601.pth); "
            "give sampler.t0=, or the file its published name"
        )
    name = re.sub(r"_t\d{1,3}$", "", path.stem)
    steps = {"t0": t0, "s_for": 40, "s_gen": 40, "final_step": "to_clean"}
    return {"kind": "foreign edit", "edit": {"name": name}, "sampler": steps}


def check_base_name(name: str, header: dict[str, Any], checkpoint: str) -> None:
    """Refuse an edit of another known checkpoint, before that is there (``SavedEdit.check_base``).

    Raises:
        DclipError: both checkpoints are known, and not the same.
    """
    base = str(header.get("base", ""))
    learned, chosen = find(base, "ddpm"), find(checkpoint, "ddpm")
    need(
        learned is None or chosen is None or learned == chosen,
        f"edit.adapter={name} was learned from {base}, not {checkpoint}; "
        f"choose its own checkpoint={base}",
    )


def common_steps(headers: Sequence[dict[str, Any]], told: Iterable[str] = ()) -> dict[str, Any]:
    """Settings of the sampler that edits were made with, its option as ``solver``.

    Left out is what was ``told`` otherwise: with another sampler only the steps remain. ``eta`` is a
    choice of whoever applies the edits.

    Raises:
        DclipError: the edits were made with different ones.
    """
    told, settings = set(told), {}
    names = dict.fromkeys(headers[0]["sampler"])
    if any("carry" in header["sampler"] for header in headers):
        names |= CARRY
    for key in sorted(names, key=lambda key: key != "solver"):
        if key == "eta" or f"sampler.{key}" in told or ("sampler" in told and key not in STEPS):
            continue
        if key in CARRY and "sampler.carry" in told:
            continue
        values = [header["sampler"].get(key, CARRY.get(key)) for header in headers]
        if any(value != values[0] for value in values):
            setting = "sampler" if key == "solver" else f"sampler.{key}"
            choices = ", ".join(map(str, values))
            raise DclipError(
                f"the edits were made with different {setting} ({choices}); "
                f"choose one: {setting}={values[0]}"
            )
        settings[key] = values[0]
    return settings


def adopted(headers: Sequence[dict[str, Any]], told: Iterable[str] = ()) -> dict[str, Any]:
    """The texts that applying edits takes over from their headers, without what was ``told`` otherwise."""
    told = set(told)
    settings = _examples([header["edit"] for header in headers], told)
    texts = {
        "name": "+".join(header["edit"]["name"] for header in headers)
        if all(h["edit"]["name"] for h in headers)
        else "",
        "source": headers[0]["edit"]["source"],
        "target": joined([header["edit"]["target"] for header in headers]),
    }
    settings |= {f"edit.{k}": v for k, v in texts.items() if not told & {"edit", f"edit.{k}"}}
    edits = [header["edit"] for header in headers]
    return settings | _region(edits, told) | _regions(edits, told)


def _regions(edits: Sequence[dict[str, Any]], told: set[str]) -> dict[str, Any]:
    """Of several edits, the region of each: as it was learned with, where nothing else was told."""
    if len(edits) == 1 or told & {"edit.region", "edit.regions"}:
        return {}
    own = [_own_region(edit, told) for edit in edits]
    if all(region["region"] == "none" for region in own):
        return {}
    return {"edit.regions": own}


def _own_region(edit: dict[str, Any], told: set[str]) -> dict[str, Any]:
    """An edit's region; one that was given as a picture was for its own images only."""
    region = edit.get("region")
    own: dict[str, Any] = {"region": region if region in FOUND else "none"}
    for key, default in REGION.items():
        if key != "region" and f"edit.{key}" not in told:
            own[key] = edit.get(key, default)
    return own


def _region(edits: Sequence[dict[str, Any]], told: set[str]) -> dict[str, Any]:
    """Where edits act: as they were learned with, where all have a region; defaults where they differ.

    One that was given as a picture was for its own images only.
    """
    if any(edit.get("region") not in FOUND for edit in edits):
        return {}
    settings = {}
    for key, default in REGION.items():
        values = [edit.get(key, default) for edit in edits]
        agreed = all(value == values[0] for value in values)
        if f"edit.{key}" not in told:
            settings[f"edit.{key}"] = values[0] if agreed else default
    return settings


def _examples(edits: Sequence[dict[str, Any]], told: set[str]) -> dict[str, Any]:
    """The example images of an edit that was made from them; without them its direction in CLIP's space cannot be measured."""
    keys = ("examples", "source_examples")
    if not any(edit.get("examples") for edit in edits) or told & {
        "edit.examples",
        "metric",
        "metric.clip",
    }:
        return {}
    paths = {f"edit.{key}": edits[0].get(key) for key in keys}
    there = len(edits) == 1 and all(path is None or Path(path).exists() for path in paths.values())
    return paths if there else {"metric.clip": False}


def joined(targets: Sequence[str]) -> str:
    """One text of several: "person with red hair" and "person with a beard" are a "person with red hair and a beard"."""
    first = targets[0].split()
    rests = []
    for target in targets[1:]:
        words = target.split()
        same = next(
            (i for i, (a, b) in enumerate(zip(first, words, strict=False)) if a != b),
            min(len(first), len(words)),
        )
        rests.append(" ".join(words[same:] or words))
    return " and ".join([targets[0], *rests])
