"""Many ToonFaces at once, drawn in parallel and kept in the cache folder for the next run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dclip.data.toonfaces import drawing
from dclip.data.toonfaces.faces import Face
from dclip.files import UNREADABLE, cache_dir
from dclip.runtime.cache import can_keep, keep

CHUNK = 250
# fewer are drawn here and now: processes cost seconds to start, and need a guarded main module
PARALLEL_FROM = 2000

REMEMBERED = 4000  # pictures, 12 kB each: scoring draws the same faces again and again

Pictures = NDArray[np.uint8]


def pictures_of(faces: list[Face], workers: int | None = None) -> Pictures:
    """Pictures uint8 [N,64,64,3] of the faces, from the cache where they are."""
    return _cached(_draw, faces, workers)


def part_maps_of(faces: list[Face], workers: int | None = None) -> Pictures:
    """Maps uint8 [N,64,64] of the faces' parts, from the cache where they are."""
    return _cached(_draw_parts, faces, workers)


def _draw(faces: list[Face]) -> Pictures:
    return np.stack([_picture(face) for face in faces])


@lru_cache(maxsize=REMEMBERED)
def _picture(face: Face) -> Pictures:
    return drawing.render(face)


def _draw_parts(faces: list[Face]) -> Pictures:
    return np.stack([drawing.render_parts(face) for face in faces])


def _cached(
    draw: Callable[[list[Face]], Pictures], faces: list[Face], workers: int | None
) -> Pictures:
    if len(faces) < PARALLEL_FROM:
        return draw(faces)
    path = cache_dir() / "toonfaces" / f"{_drawing_key(faces, draw.__name__)}.npy"
    cached = _read(path)
    if cached is not None:
        return cached
    can_keep()
    chunks = [faces[i : i + CHUNK] for i in range(0, len(faces), CHUNK)]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        try:
            drawn = [pool.submit(draw, chunk) for chunk in chunks]
            progress = tqdm(drawn, "drawing ToonFaces", unit=f"x{CHUNK}")
            pictures = np.concatenate([one.result() for one in progress])
        except BaseException:  # Ctrl-C or SIGTERM: else the pool ends only with what was begun
            for process in pool._processes.values():
                process.kill()
            raise

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, pictures)

    keep(path, write)
    return pictures


def _read(path: Path) -> Pictures | None:
    """Pictures that were drawn before; None where there are none, or the file is damaged."""
    try:
        cached: Pictures = np.load(path)
    except UNREADABLE:
        return None
    return cached


def _drawing_key(faces: list[Face], kind: str) -> str:
    """Hash of what is drawn and how: faces, versions, and a few pixels as they come out today."""
    digest = hashlib.sha256(json.dumps([kind, drawing.versions(), repr(faces)]).encode())
    digest.update(_draw(faces[:8]).tobytes())
    return digest.hexdigest()[:16]
