"""Whether a study's columns can have numbers, said before any run. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dclip.config import Config, PretrainTask, plain
from dclip.errors import nearest, need
from dclip.metrics.contract import METRICS
from dclip.metrics.names import FACTS, is_reported
from dclip.record.identity import canonical, has

BASELINE = "/ baseline"  # ends the source of a column that is a ratio to a row


def check_columns(columns: Mapping[str, str], cfgs: Sequence[Config]) -> None:
    """DclipError for a column's source (``Run.value``) that no run of these settings can have.

    Plug-ins measure what they like, and a network that was trained is scored by its own kind.
    """
    if any(cfg.plugins or isinstance(cfg.task, PretrainTask) for cfg in cfgs):
        return
    for source in columns.values():
        ratio = source.endswith(BASELINE)
        known = tuple(columns) if ratio else (*METRICS, *FACTS)
        for name in map(str.strip, source.removesuffix(BASELINE).split("/")):
            likely = nearest(name, known)
            hint = f"did you mean {likely}?" if likely else "docs/metrics.md explains the metrics"
            need(
                name in known or (not ratio and _is_there(name, cfgs)),
                f"columns: no run of this study reports {name}; {hint}",
            )


def _is_there(name: str, cfgs: Sequence[Config]) -> bool:
    if name.startswith("config."):
        path = name.removeprefix("config.")
        return any(has(kept, path) for cfg in cfgs for kept in (plain(cfg), canonical(plain(cfg))))
    return name.startswith("file.") or name.replace(".", "", 1).isdigit() or is_reported(name)
