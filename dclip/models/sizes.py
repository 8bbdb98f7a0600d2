"""Sizes of networks known in advance, for plans and batch sizes. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Config, TaskName
from dclip.data.domains import domain_of
from dclip.models import registry

WORKING = 0.2  # what a call without gradient needs at its peak, as a share of what autograd would keep of it


MOST_IMAGES = {
    "cpu": 16,
    "gpu": 64,
}  # at a time, without gradient; more gain a processor nothing (benchmarks/README.md)


@dataclass(frozen=True)
class Size:
    """A diffusion model as far as time and memory are concerned."""

    parameters: int
    gflop: float
    kept_mb: float


SHIPPED = {"toonfaces": Size(3_682_083, 2.6, 28.7)}


def size_of(cfg: Config) -> Size | None:
    """The diffusion model's size; None for a file that the registry does not know."""
    entry = registry.entry_of(cfg.checkpoint.name)
    if (
        entry is not None
        and entry.gflop is not None
        and entry.parameters is not None
        and entry.kept_mb is not None
    ):
        return Size(entry.parameters, entry.gflop, entry.kept_mb)
    name: str | None = cfg.checkpoint.name
    if cfg.task.name is TaskName.pretrain:
        name = domain_of(cfg.dataset).networks.model
    return SHIPPED.get(name or "")
