"""A CelebA-HQ checkpoint of full size, random weights: written as published, recognised, converted,
loaded, compared.

python benchmarks/convert_celeba.py [FOLDER]

About a minute on one core; 1.4 GB of disk in a temporary folder.

The network that writes the file is the tests' own, independent one. Exits with an error if the
number of parameters or the function it computes is not the published one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dclip.models import foreign

PARAMETERS, TENSORS = 113_673_219, 450
TESTS = Path(__file__).resolve().parent.parent / "tests"


def published() -> object:
    """The published architecture with random weights."""
    sys.path.insert(0, str(TESTS))
    from helpers.published_networks import DdimNet, random_net

    return random_net(DdimNet, ch=128, mult=(1, 1, 2, 2, 4, 4), layers=2, attention=(4,))


def write(path: Path) -> None:
    """In a process of its own, so that the reader's memory is the reader's."""
    import torch

    torch.save(published().state_dict(), path)  # type: ignore[attr-defined]


def peak_mb() -> float:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what it took."""
    start = time.perf_counter()
    yield
    print(
        f"{name:44} {time.perf_counter() - start:7.2f} s   peak memory {peak_mb():7,.0f} MB",
        flush=True,
    )


def measure(folder: Path) -> None:
    """All steps, one line each."""
    path = folder / "celeba_hq.ckpt"
    with step("written by a process of its own"):
        subprocess.run([sys.executable, __file__, "--write", str(path)], check=True)
    os.environ["DCLIP_CACHE"] = str(folder / "cache")
    with step("libraries imported"):
        import torch

        from dclip.models.checkpoints import load_model
        from dclip.models.recognise import recognise
    with step(f"read and recognised ({path.stat().st_size / 1e6:,.1f} MB)"):
        state = foreign.read_foreign(path)
        found = recognise(state)
    count = sum(value.numel() for value in state.values())
    assert (count, len(state)) == (PARAMETERS, TENSORS), (
        f"{count:,} parameters in {len(state)} tensors"
    )
    assert (found.notes["model"], found.unet["sample_size"], found.variance) == (
        "CelebA-HQ or LSUN 256",
        256,
        "fixed_small",
    )
    del state
    with step("loaded the first time (converted)"):
        model = load_model(str(path))
    with step("loaded again (from the cache)"):
        model = load_model(str(path))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    print(f"{PARAMETERS:,} parameters in {TENSORS} tensors, as published")
    with step("compared with the independent network"), torch.no_grad():
        x, t = torch.randn(1, 3, 64, 64), torch.tensor([500])
        theirs = published()(x, t)  # type: ignore[operator]
        difference = float((model.eps(x, t) - theirs).abs().max() / theirs.abs().max())
    print(f"largest difference {difference:.1e} of the largest output")
    assert difference < 1e-4


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory(
            dir=sys.argv[1] if len(sys.argv) > 1 else None
        ) as temporary:
            measure(Path(temporary))
