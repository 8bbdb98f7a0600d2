"""Many ToonFaces at once, drawn in parallel and kept in the cache folder for the next run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dclip.data import toonfaces
from dclip.data.toonfaces import Face

CHUNK = 250
PARALLEL_FROM = 2000  # fewer are drawn here and now: processes cost seconds to start, and need a guarded main module


def cache_dir() -> Path:
    """Where dclip keeps what it can make again: ``$DCLIP_CACHE``, or ``dclip`` in the user's cache folder."""
    root = os.environ.get("DCLIP_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dclip"


def atomic_save(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    try:
        try:
            write(Path(name))
        except Exception as error:  # libraries say it in many ways
            if shutil.disk_usage(path.parent).free < 2**16:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _draw(faces: list[Face]) -> NDArray[np.uint8]:
    return np.stack([toonfaces.render(face) for face in faces])


def _draw_parts(faces: list[Face]) -> NDArray[np.uint8]:
    return np.stack([toonfaces.render_parts(face) for face in faces])


def _drawing_key(faces: list[Face], kind: str) -> str:
    """Hash of what is drawn and how: the faces, the versions, and a few pixels as they come out today."""
    digest = hashlib.sha256(json.dumps([kind, toonfaces.versions(), repr(faces)]).encode())
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
        pieces = list(tqdm(pool.map(draw, chunks), total=len(chunks), desc="drawing ToonFaces", unit=f"x{CHUNK}"))
    pictures = np.concatenate(pieces)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, pictures)

    atomic_save(path, write)
    return pictures
