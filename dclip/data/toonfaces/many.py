"""Many ToonFaces at once, drawn in parallel and kept in the cache folder for the next run."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dclip.data.toonfaces import drawing
from dclip.data.toonfaces.faces import Face
from dclip.files import atomic_save, cache_dir

CHUNK = 250


PARALLEL_FROM = 2000  # fewer are drawn here and now: processes cost seconds to start, and need a guarded main module


def _draw(faces: list[Face]) -> NDArray[np.uint8]:
    return np.stack([drawing.render(face) for face in faces])


def _draw_parts(faces: list[Face]) -> NDArray[np.uint8]:
    return np.stack([drawing.render_parts(face) for face in faces])


def _drawing_key(faces: list[Face], kind: str) -> str:
    """Hash of what is drawn and how: the faces, the versions, and a few pixels as they come out today."""
    digest = hashlib.sha256(json.dumps([kind, drawing.versions(), repr(faces)]).encode())
    digest.update(_draw(faces[:8]).tobytes())
    return digest.hexdigest()[:16]


def drawn(faces: list[Face], parts: bool = False, workers: int | None = None) -> NDArray[np.uint8]:
    """Pictures uint8 [N,64,64,3] of the faces (or their part maps uint8 [N,64,64]), from the cache where they are."""
    draw = _draw_parts if parts else _draw
    if len(faces) < PARALLEL_FROM:
        return draw(faces)
    path = cache_dir() / "toonfaces" / f"{_drawing_key(faces, draw.__name__)}.npy"
    if path.is_file():
        cached: NDArray[np.uint8] = np.load(path)
        return cached
    chunks = [faces[i : i + CHUNK] for i in range(0, len(faces), CHUNK)]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        pieces = list(
            tqdm(
                pool.map(draw, chunks),
                total=len(chunks),
                desc="drawing ToonFaces",
                unit=f"x{CHUNK}",
            )
        )
    pictures = np.concatenate(pieces)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, pictures)

    atomic_save(path, write)
    return pictures
