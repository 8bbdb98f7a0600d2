"""``dry_run=true``: every run of a study, its state, its estimated cost, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dclip.config import Config, plain
from dclip.data.missing import data_to_fetch
from dclip.prepare import plan
from dclip.runtime.durations import duration
from dclip.runtime.typed import typed
from dclip.study.grid import Key
from dclip.study.progress import PlannedRun, Progress, missing

# settings of a sampler that only generation looks at
DOWNWARDS = ("eta", "variance", "noise_last", "final_step")


class Cost(NamedTuple):
    """Of one run, at most; None where it is not known."""

    seconds: float | None
    memory_mb: float | None


def costs(runs: Sequence[PlannedRun]) -> list[Cost]:
    """The cost of every run; an inversion that several share is counted once."""
    inverted: set[str] = set()
    found = []
    for planned in runs:
        assert planned.cfg is not None
        estimate = plan.plan(planned.cfg)
        seconds, key = dict(estimate["seconds"]), inversion_key(planned.cfg)
        if key in inverted and planned.cfg.trainer.cache:
            seconds.pop("invert", None)
        inverted.add(key)
        memory = estimate["memory_mb"]
        found.append(
            Cost(
                sum(seconds.values()) if estimate["seconds"] else None,
                float(memory["at_most"]) if memory else None,
            )
        )
    return found


def inversion_key(cfg: Config) -> str:
    """Equal for runs that invert the same images in the same way: they share their latents."""
    settings = plain(cfg)
    sampler = {**settings["sampler"]}
    for name in DOWNWARDS:
        sampler.pop(name, None)
    if not cfg.sampler.mirrored:
        sampler.pop("s_gen")
    parts = [settings[group] for group in ("checkpoint", "dataset", "input")]
    return repr([*parts, sampler, cfg.task.learns])


# ------------------------------------------------------------------------------------- text


def dry_run(progress: Progress, rows: set[Key] | None = None) -> str:
    """Every run, its state, its estimated cost, and what is missing, as text."""
    runs = progress.unique(rows)
    lines = [progress.study.title, ""]
    absent: dict[str, None] = {}
    fetched: dict[str, None] = {}
    known: list[float] = []  # seconds
    unfinished = 0
    for planned, cost in zip(runs, costs(runs), strict=True):
        assert planned.cfg is not None
        lacks = missing(planned.cfg)
        absent |= dict.fromkeys(lacks)
        fetched |= dict.fromkeys(filter(None, [data_to_fetch(planned.cfg)]))
        if planned.state != "finished":
            unfinished += 1
            if cost.seconds is not None:
                known.append(cost.seconds)
        lines += _described(planned, cost, len(lacks))
    total = duration(sum(known)) if known or not unfinished else "?"
    assert runs[0].cfg is not None
    device = plan.device_of(runs[0].cfg)
    lines += [
        "",
        f"  {len(runs)} jobs, {len(runs) - unfinished} finished; the others about "
        f"{total} on {device.name} (estimated from {device.basis}), one after the other",
        *map("  missing   {}".format, absent or ([] if fetched else ["nothing"])),
        *map("  fetch     {} (by the first job that needs it)".format, fetched),
        f"  runs      {progress.folders.runs}",
        f"  table     {progress.folders.table}",
    ]
    return "\n".join(lines)


def _described(planned: PlannedRun, cost: Cost, lacks: int) -> list[str]:
    took, memory = "?", "?"
    if cost.seconds is not None:
        took = duration(cost.seconds)
    if cost.memory_mb is not None:
        memory = f"{cost.memory_mb / 1e3:.1f} GB"
    line = f"  {planned.state:9} {took:>10} {memory:>8}  {planned.labels[0]}"
    if len(planned.labels) > 1:
        line += f" (and {len(planned.labels) - 1} more)"
    if lacks:
        line += f"  [{lacks} missing]"
    if planned.reason:
        line += f"  ({planned.reason})"
    return [line, f"{'':30}{typed(planned.settings)}"]
