"""Sizes of networks known in advance, for plans and batch sizes. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Config, Net, PretrainTask
from dclip.data.domains import domain_of
from dclip.models import registry

# What a call without gradient needs at its peak, as a share of what autograd would keep of it.
WORKING = 0.2

# Images at a time, without gradient; more gain a processor nothing (benchmarks/README.md).
MOST_IMAGES = {"cpu": 16, "gpu": 64}


@dataclass(frozen=True)
class Size:
    """A diffusion model as far as time and memory are concerned."""

    parameters: int
    gflop: float
    kept_mb: float


def size_of(cfg: Config) -> Size | None:
    """The diffusion model's size; None for a file that the registry does not know.

    Also for a training of another network (a CLIP, the judge).
    """
    name: str | None = cfg.checkpoint.name
    if isinstance(cfg.task, PretrainTask):
        trained = cfg.task.net is Net.ddpm
        name = domain_of(cfg.dataset).networks.model if trained else None
    if name is None:
        return None
    return size_named(name)


def size_named(name: str) -> Size | None:
    """The size of a network that the registry knows by this name or file."""
    entry = registry.entry_of(name)
    if entry is None or entry.parameters is None or entry.gflop is None or entry.kept_mb is None:
        return None
    return Size(entry.parameters, entry.gflop, entry.kept_mb)
