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
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
SHOWN = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "docs/*.png",
    "experiments/*/*.md",
    "experiments/**/*.png",
    "benchmarks/README.md",
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every version has a folder of its own below the site's, and its name on every page."""
    config.site_name = f"dclip {VERSION}"
    config.site_dir = str(Path(config.site_dir) / VERSION)
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """The versions that were built, in ``versions.json``; ``index.html`` leads to the newest."""
    site = Path(config.site_dir).parent
    built = [path.parent.name for path in site.glob("*/index.html")]
    versions = sorted(built, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])[::-1]
    (site / "versions.json").write_text(json.dumps(versions) + "\n", "utf-8")
    links = "".join(f'<li><a href="{name}/index.html">{name}</a>\n' for name in versions)
    (site / "index.html").write_text(
        '<!doctype html>\n<meta charset="utf-8">\n<title>dclip</title>\n'
        f'<meta http-equiv="refresh" content="0; url={versions[0]}/index.html">\n'
        f"<ul>\n{links}</ul>\n",
        "utf-8",
    )


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
    import dclip.metrics.names  # noqa: F401  registers every metric
    from dclip.metrics.contract import METRICS

    rows = []
    for metric in METRICS.values():
        rows.append((f"`{metric.name}` {metric.arrow}", metric.meaning))
    return f"# Metrics\n\n{_table(('metric', 'meaning'), rows)}\n"


# ---------------------------------------------------------------------------------------- options


def options_page() -> str:
    """Every option and its settings, from the dataclasses."""
    import dclip.cli.command  # noqa: F401  registers every option
    from dclip.config import OPTIONS, Config

    groups = _groups()
    parts = [
        "# Options",
        "`group=option` chooses an option, `group.setting=value` changes one of its settings. "
        "Settings that all options of a group share are listed with the first one.",
        "## Settings of a run",
        _settings("", Config, hidden=set(groups)),
    ]
    for group, kind in groups.items():
        parts.append(f"## {group}")
        if group in OPTIONS:
            parts += _group_parts(group, OPTIONS[group])
        else:
            parts += [_about(kind), _settings(f"{group}.", kind, hidden=set())]
    return "\n\n".join(filter(None, parts)) + "\n"


def _groups() -> dict[str, Any]:
    """The fields of the whole configuration that are groups of settings, with their classes."""
    from dclip.config import OPTIONS, Config

    groups = {}
    for name, kind in get_type_hints(Config).items():
        if name in OPTIONS or dataclasses.is_dataclass(kind):
            groups[name] = kind
    return groups


def _group_parts(group: str, options: Mapping[str, type[Any]]) -> list[str]:
    parts: list[str] = []
    hidden: set[str] = set()  # nothing for the first option, then what it has shown for all
    for name, cls in options.items():
        parts += [f"### {group}={name}", _about(cls), _settings(f"{group}.", cls, hidden)]
        hidden = _shared(options.values())
    return parts


def _about(cls: type[Any]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _shared(classes: Iterable[type[Any]]) -> set[str]:
    """Settings that all of several options have, with the same default."""
    settings = []
    for cls in classes:
        settings.append({(field.name, _default(field)) for field in dataclasses.fields(cls)})
    return {name for name, _ in set.intersection(*settings)}


def _settings(prefix: str, cls: type[Any], hidden: set[str]) -> str:
    notes = _notes(cls)
    rows = []
    for field in dataclasses.fields(cls):
        if field.name not in hidden:
            name = f"`{prefix}{field.name}`"
            rows.append((name, _default(field), notes.get(field.name, "")))
    return _table(("setting", "default", "meaning"), rows) if rows else ""


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value == "???" or value is dataclasses.MISSING:
        return "required"
    if isinstance(value, Enum):
        return f"`{value.value}` (of {', '.join(type(value))})"
    if dataclasses.is_dataclass(value):
        return "settings of its own: " + ", ".join(vars(value))
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
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    notes = {}
    for field in definition.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            first, last = field.lineno, field.end_lineno or field.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            text = filter(None, map(comments.get, range(first, last + 1)))
            notes[field.target.id] = " ".join(text)
    return notes


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for row in (head, ["---"] * len(head), *rows):
        cells = " | ".join(_cell(text) for text in row)
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
