"""The numbers that the papers print: ``experiments/paper.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from dclip.prepare.paths import CONF


@lru_cache(maxsize=1)
def paper_tables() -> dict[str, Any]:
    """All tables by name; empty where the package was installed without the experiments."""
    path = CONF.parent / "experiments" / "paper.yaml"
    if not path.is_file():
        return {}
    tables = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(tables, dict)
    return {str(name): table for name, table in tables.items()}


@dataclass(frozen=True)
class PaperRow:
    """One row of a paper's table: its labels and its numbers by column."""

    key: dict[str, str]
    values: dict[str, float | str | None]

    def is_of(self, key: Mapping[str, str]) -> bool:
        """Whether it has the labels of one of our rows."""
        return self.key.items() <= dict(key).items()


def paper_rows(name: str) -> list[PaperRow]:
    """The rows of a paper's table; none where there is no such table."""
    table = paper_tables().get(name)
    if table is None:
        return []
    names, columns = table["key"], table["columns"]
    rows = []
    for entries in table["rows"]:
        labels = map(str, entries[: len(names)])
        values = entries[len(names) :]
        rows.append(
            PaperRow(dict(zip(names, labels, strict=True)), dict(zip(columns, values, strict=True)))
        )
    return rows


def paper_note(name: str) -> str:
    """Where a paper's numbers come from, and what it leaves open."""
    table = paper_tables()[name]
    note = f"paper: {table['paper']}, {table['table']}"
    if table.get("note"):
        note += f". {table['note']}"
    return note
