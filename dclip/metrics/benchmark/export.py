"""ToonFaces-CF as files: sources, texts, masks of the true region and a manifest; no truths.

The same command writes the same bytes. Of pictures the manifest holds hashes of their pixels, since
another zlib packs the same pixels in another way.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dclip.data.toonfaces.drawing import read_manifest
from dclip.data.toonfaces.faces import SIZE
from dclip.errors import DclipError
from dclip.files import write_json, write_text
from dclip.metrics.benchmark.tasks import (
    FACES,
    LICENCE,
    NAME,
    SPLIT,
    TEXTS,
    VERSION,
    BenchmarkTask,
)
from dclip.metrics.counterfactual import should_change
from dclip.types import Images, to_uint8

SEEDS = {
    "identity": [2, "index", 1],
    "attributes": [2, "index", 2],
    "explanation": "numpy.random.default_rng of each list; 2 is the test split, index the face",
}

README = f"""# {NAME} {VERSION}

Edit the pictures of each folder as its texts in `manifest.json` say, and write the results as
PNG files of the same names and size into `RESULTS/EDIT/`:

    EDIT/source/test_00000.png        a face before the edit
    EDIT/mask/test_00000.png          white where the true picture differs from it
    RESULTS/EDIT/test_00000.png       what your method made of it

A method that reads the masks must say so: they come from the truth. Score the results with

    COMMAND

The protocol and what else a folder of results may hold: docs/benchmark.md of dclip.

Licence of the pictures: {LICENCE}
"""


def scoring(tasks: Sequence[BenchmarkTask], faces: int) -> str:
    """The command that scores results of these tasks and faces."""
    words = ["dclip benchmark score RESULTS"]
    if len(tasks) < len(TEXTS):
        words.append(f"--edits {' '.join(task.name for task in tasks)}")
    if faces < FACES:
        words.append(f"--faces {faces}")
    return " ".join(words)


def export(folder: Path, tasks: Sequence[BenchmarkTask], faces: int = FACES) -> dict[str, Any]:
    """Write the benchmark into a new folder, whole or not at all; returns the manifest.

    Raises:
        DclipError: the folder holds something, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DclipError(f"{folder} holds something already; give a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DclipError(
            f"{folder} cannot be written ({error.strerror}); give another folder"
        ) from error
    try:
        manifest = _write(temporary, tasks, faces)
        temporary.chmod(0o755)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _write(folder: Path, tasks: Sequence[BenchmarkTask], faces: int) -> dict[str, Any]:
    drawn = read_manifest()
    edits = {}
    for task in tasks:
        edits[task.name] = _write_task(folder / task.name, task, faces)
    manifest = {
        "name": NAME,
        "version": VERSION,
        "licence": LICENCE,
        "split": SPLIT,
        "size": SIZE,
        "faces": faces,
        "seeds": SEEDS,
        "drawn_by": drawn["versions"],
        "hashes": "SHA-256 of 8-bit pixels, row by row: RGB of sources and truths, grey of masks",
        "edits": edits,
    }
    write_json(folder / "manifest.json", manifest)
    write_text(folder / "README.md", README.replace("COMMAND", scoring(tasks, faces)))
    return manifest


def _write_task(folder: Path, task: BenchmarkTask, faces: int) -> dict[str, Any]:
    """Sources and masks of one task; returns its part of the manifest."""
    images = task.faces(faces)
    truth = task.truth.pictures(images)
    entry: dict[str, Any] = {
        "source_text": task.source,
        "target_text": task.target,
        "attributes": dict(task.truth.goal),
    }
    if truth is not None:
        entry["truths"] = hash_of(to_uint8(truth).permute(0, 2, 3, 1))
    entry["faces"] = _write_faces(folder, task, images, truth)
    return entry


def _write_faces(
    folder: Path, task: BenchmarkTask, images: Images, truth: Tensor | None
) -> list[dict[str, Any]]:
    sources = to_uint8(images.pixels).permute(0, 2, 3, 1)
    masks = None
    if truth is not None:
        masks = true_masks(images.pixels, truth)
    listed = []
    for place, (index, name) in enumerate(zip(task.indices(len(images)), images.ids, strict=True)):
        face = {"id": name, "index": index, "source": hash_of(sources[place])}
        _save(folder / "source" / f"{name}.png", sources[place])
        if masks is not None:
            face["mask"] = hash_of(masks[place])
            _save(folder / "mask" / f"{name}.png", masks[place])
        listed.append(face)
    return listed


def true_masks(source: Tensor, truth: Tensor) -> Tensor:
    """uint8 [N,H,W]: 255 where a pixel of the true picture differs from the source, else 0."""
    return should_change(source, truth).to(torch.uint8) * 255


def hash_of(pixels: Tensor) -> str:
    """SHA-256 of 8-bit pixels."""
    return hashlib.sha256(pixels.contiguous().cpu().numpy().tobytes()).hexdigest()


def _save(path: Path, pixels: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.contiguous().cpu().numpy()).save(path, optimize=False)
