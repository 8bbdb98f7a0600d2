"""What ``make docs`` adds to mkdocs: pages from all over the repository, and two from the code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (
    "README.md",
    "docs/**/*.md",
    "docs/*.png",
    "experiments/*/*.md",
    "experiments/**/*.png",
    "benchmarks/README.md",
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files, at their paths in the repository, so that the links between them hold."""
    for file in files.documentation_pages():
        files.remove(file)
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    written = {"options": options_page(), "metrics": metrics_page()}
    for name, text in written.items():
        files.append(File.generated(config, f"docs/reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to what the site does not show, such as source files, become plain text."""
    folder = (ROOT / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        if ":" in link[2]:
            return link[0]
        uri = (folder / link[2]).resolve().relative_to(ROOT).as_posix()
        return link[0] if files.get_file_from_path(uri) else link[1]

    return LINK.sub(shown, markdown)


# ---------------------------------------------------------------------------------------- metrics


def metrics_page() -> str:
    """Every metric that a run may report."""
    from dclip.metrics.names import METRICS

    rows = [(f"`{one.name}`", one.better, one.meaning) for one in METRICS.values()]
    return f"# Metrics\n\n{_table(('metric', 'better', 'meaning'), rows)}\n"


# ---------------------------------------------------------------------------------------- options


def options_page() -> str:
    """Every option and its settings, from the dataclasses."""
    import dclip.cli.command  # noqa: F401  registers every option
    from dclip.config import OPTIONS, Config

    hints = get_type_hints(Config)
    groups = [f.name for f in dataclasses.fields(Config) if _is_group(hints[f.name], f.name)]
    parts = [
        "# Options",
        "`group=option` chooses an option, `group.setting=value` changes one of its settings. "
        "Settings that all options of a group share are listed with the first one.",
        "## Settings of a run",
        _settings("", Config, hidden=groups),
    ]
    for group in groups:
        parts.append(f"## {group}")
        options = OPTIONS.get(group, {"": hints[group]})
        shared: list[str] = []
        for name, cls in options.items():
            if name:
                parts.append(f"### {group}={name}")
            parts += [inspect.cleandoc(cls.__doc__ or ""), _settings(f"{group}.", cls, shared)]
            shared = shared or _shared(list(options.values()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_group(kind: Any, name: str) -> bool:
    from dclip.config import OPTIONS

    return name in OPTIONS or dataclasses.is_dataclass(kind)


def _shared(classes: list[type[Any]]) -> list[str]:
    """Settings that all of several options have, with the same default."""
    first, *others = [{f.name: _default(f) for f in dataclasses.fields(c)} for c in classes]
    return [name for name, value in first.items() if all(o.get(name) == value for o in others)]


def _settings(prefix: str, cls: type[Any], hidden: Iterable[str]) -> str:
    notes = _notes(cls)
    fields = [field for field in dataclasses.fields(cls) if field.name not in hidden]
    rows = [(f"`{prefix}{f.name}`", _default(f), notes.get(f.name, "")) for f in fields]
    return _table(("setting", "default", "meaning"), rows) if rows else ""


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value == "???" or value is dataclasses.MISSING:
        return "required"
    if isinstance(value, Enum):
        choices = ", ".join(str(choice.value) for choice in type(value))
        return f"`{value.value}` (of {choices})"
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f.name for f in dataclasses.fields(value))
        return f"settings of its own: {inner}"
    if value == "":
        return "empty"
    if value is None or isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def _notes(cls: type[Any]) -> dict[str, str]:
    """The comments beside or directly above the fields of a dataclass and its bases."""
    notes: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            notes |= _notes_in(textwrap.dedent(inspect.getsource(base)))
    return notes


def _notes_in(source: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    notes = {}
    for field in definition.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        start = field.lineno
        while lines[start - 2].lstrip().startswith("#"):
            start -= 1
        end = field.end_lineno or field.lineno
        text = [comments[line] for line in range(start, end + 1) if line in comments]
        notes[field.target.id] = " ".join(text)
    return notes


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        lines.append(" | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row))
    return "\n".join(f"| {line} |" for line in lines)
