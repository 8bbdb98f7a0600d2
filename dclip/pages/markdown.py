"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table_line(texts: Iterable[str]) -> str:
    """A line of a table with these cells; a bar within one does not end it."""
    escaped = [text.replace("|", "\\|") for text in texts]
    return f"| {' | '.join(escaped)} |"
