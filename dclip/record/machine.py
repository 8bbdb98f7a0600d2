"""The machine and the code behind a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

# packages whose version can change numbers
PACKAGES = (
    "torch",
    "lightning",
    "diffusers",
    "open_clip_torch",
    "torchmetrics",
    "hydra-core",
    "dicebear-core",
    "resvg-py",
)


# beside a copy of the package: the revision that it is of
REVISION = "REVISION"


def git_revision() -> str:
    """Commit of the code, with ``+changes`` if files differ from it; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    copied = root / REVISION
    if copied.is_file():
        return copied.read_text("utf-8")
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return ""  # installed somewhere below another repository
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", "dclip", "conf", "run.py")
    except (OSError, subprocess.SubprocessError):
        return ""
    if changes:
        return f"{commit}+changes"
    return commit


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()


def environment() -> dict[str, Any]:
    """Machine and versions, as far as a reader of the numbers needs them."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions(),
        "git": git_revision(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that can change numbers."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def peak_memory_mb() -> float:
    """Most memory this process ever held: on the GPU if there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
