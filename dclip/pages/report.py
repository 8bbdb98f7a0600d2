"""A run as one self-contained page: what was run, pictures, curves, numbers. A pure function of the run folder's files."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dclip.files import atomic_save, read_json
from dclip.metrics.names import HIGHER_IS_BETTER, MEANING
from dclip.record.runs import read_curves


def curve_svg(curves: dict[str, list[tuple[int, float]]], names: Sequence[str], title: str) -> str:
    """Line plot of the named curves as inline SVG; empty if there are none."""
    shown = [name for name in names if len(curves.get(name, ())) > 1]
    if not shown:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.subplots()
    for name in shown:
        steps, values = zip(*curves[name], strict=True)
        axes.plot(steps, values, label=name, linewidth=1.3)
    axes.set(title=title, xlabel="optimiser step")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def metric_table(metrics: dict[str, Any]) -> str:
    """HTML table of a run's numbers, with arrows and what each means; absent ones with their reason."""
    lines = []
    for name, meaning in MEANING.items():
        arrow = "&uarr;" if HIGHER_IS_BETTER[name] else "&darr;"
        if name in metrics:
            lines.append(
                f"<tr><td>{name} {arrow}</td><td class=n>{_number(metrics[name])}</td><td>{meaning}</td></tr>"
            )
        elif f"{name}_absent" in metrics:
            reason = html.escape(str(metrics[f"{name}_absent"]))
            lines.append(
                f"<tr class=absent><td>{name} {arrow}</td><td class=n>&ndash;</td><td>not measured: {reason}</td></tr>"
            )
    known = {*MEANING, *(f"{name}_absent" for name in MEANING)}
    lines += [
        f"<tr><td>{html.escape(k)}</td><td class=n>{_number(v)}</td><td></td></tr>"
        for k, v in metrics.items()
        if k not in known
    ]
    return (
        "<table><tr><th>metric</th><th>value</th><th>meaning</th></tr>"
        + "".join(lines)
        + "</table>"
    )


def text_table(metrics: dict[str, Any]) -> str:
    """A run's numbers for the console; an arrow says which way is better."""
    arrows = {True: "↑", False: "↓"}
    lines = []
    for name, value in metrics.items():
        if name.endswith("_absent"):
            lines.append(f"  {name.removesuffix('_absent'):24}   –  ({value})")
        else:
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            lines.append(f"  {name:22} {arrows.get(HIGHER_IS_BETTER.get(name), ' ')} {shown:>9}")  # type: ignore[arg-type]
    return "\n".join(lines)


def embedded(path: Path) -> str:
    """A picture as HTML that needs no file."""
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return f'<figure><img alt="{name}" src="data:image/{path.suffix[1:]};base64,{data}"><figcaption>{name}</figcaption></figure>'


CSS = """body{font:15px/1.5 system-ui,sans-serif;max-width:1280px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em;margin-bottom:0}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #eee;text-align:left}.n{text-align:right;
font-variant-numeric:tabular-nums}.absent{color:#888}figure{display:inline-block;margin:.5em 1em .5em 0}img{max-width:100%}
figcaption{color:#666;font-size:.85em}pre{background:#f6f6f6;padding:1em;overflow:auto;font-size:.85em}.sub{color:#666}"""


def _order(path: Path) -> tuple[int, str]:
    return (
        0 if path.stem == "before_after" else 2 if path.stem.startswith("epoch_") else 1,
        path.stem,
    )


def write_report(folder: Path, title: str, subtitle: str = "") -> Path:
    """Write ``report.html`` from the files of a run folder; returns its path."""
    read = {name: read_json(folder / f"{name}.json") for name in ("metrics", "status")}
    curves = read_curves(folder / "curves.jsonl")
    losses = [n for n in curves if n.startswith("loss_")]
    validation = [n for n in curves if n.startswith("val_")]
    pictures = sorted(
        (p for p in (folder / "samples").glob("*.*") if p.suffix in (".png", ".gif")), key=_order
    )
    main = [p for p in pictures if not p.stem.startswith("image_")]
    config = (
        (folder / "config.yaml").read_text("utf-8") if (folder / "config.yaml").is_file() else ""
    )
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{CSS}</style>",
        f"<h1>{html.escape(title)}</h1><p class=sub>{html.escape(subtitle)}</p>",
        "<h2>Pictures</h2>" + "".join(embedded(p) for p in main),
        "<h2>Numbers</h2>" + metric_table(read["metrics"]),
        "<h2>Curves</h2>"
        + curve_svg(curves, losses, "training loss")
        + curve_svg(curves, validation, "validation loss")
        if losses
        else "",
        f"<h2>Run</h2><details><summary>configuration</summary><pre>{html.escape(config)}</pre></details>",
        f"<details><summary>machine and versions</summary><pre>{html.escape(json.dumps(read['status'], indent=1))}</pre></details>",
    ]
    path = folder / "report.html"
    atomic_save(path, lambda p: p.write_text("\n".join(parts), "utf-8"))
    return path
