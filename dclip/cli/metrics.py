"""``dclip metrics --real DIR --edited DIR``: scores of anybody's edits, from the command line.

Writes metrics.json (scores, intervals, every choice in words), rows.csv (one line a pair) and, where pyarrow is installed,
rows.parquet. Imports torch only once the command is understood.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dclip.errors import DclipError
from dclip.metrics.presets import NOTES, PRESETS, described, preset

if TYPE_CHECKING:
    from dclip.metrics.folders import Outcome

NAMES = (
    "mae",
    "mse",
    "psnr",
    "ssim",
    "ssim_luma",
    "lpips",
    "s_dir",
    "clip_text",
    "id",
    "sc",
    "kid",
    "fid",
)


DOMAINS = ("faces", "scenes", "objects", "toonfaces")


EPILOG = """\
Pairs are pictures of the same path below their folders, whatever their suffix. A metric whose weights are not here is absent, with
the reason and the remedy; nothing is fetched. Exit code: 0 everything was scored; 1 something was left out (broken files, pairs of
two sizes, pictures without a partner: listed), the rest was scored; 2 nothing can be scored."""


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    told = _parser().parse_args(words)
    choices = preset(told.preset)
    changed = {
        name: getattr(told, name) for name in ("clip", "templates", "kid_subset", "kid_subsets")
    }
    choices = replace(
        choices, **{name: value for name, value in changed.items() if value is not None}
    )
    _check(told)
    if told.domain == "toonfaces" and told.clip is None:
        choices = replace(choices, clip="toonfaces_heldout")
    from dclip.metrics.folders import Request, measure_folders

    outcome = measure_folders(
        Request(
            told.real, told.edited, choices, (told.source_text, told.text) if told.text else None, told.domain, told.sets,
            told.size, told.batch, told.bootstrap, _device(told.device), tuple(told.metrics),
        )
    )  # fmt: skip
    folder = (
        told.output or Path("outputs") / "metrics" / f"{told.edited.resolve().name}_{told.preset}"
    )
    asked = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(told).items()
        if name != "output"
    }
    stated = {
        "preset": told.preset,
        "note": NOTES[told.preset],
        **described(choices, told.domain, told.size),
    }
    _write(folder, outcome, {"asked": asked, "choices": stated})
    print(_text(outcome))
    print(f"\n  written to {folder}" + _parquet_note())
    return 1 if outcome.troubles else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dclip metrics", description="Scores of edited pictures against the real ones, made by any system.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--real", type=Path, required=True, metavar="DIR", help="the pictures before"
    )
    parser.add_argument(
        "--edited",
        type=Path,
        required=True,
        metavar="DIR",
        help="the pictures after, named as those before",
    )
    parser.add_argument("--text", metavar="TEXT", help="what the edit asks for (S_dir, clip_text)")
    parser.add_argument(
        "--source-text", metavar="TEXT", help="what the pictures were before (S_dir)"
    )
    parser.add_argument(
        "--sets", action="store_true", help="compare two sets, without pairs: KID and FID only"
    )
    parser.add_argument(
        "--preset",
        default="dclip",
        metavar="|".join(PRESETS),
        help="what ambiguous names mean (default: dclip)",
    )
    parser.add_argument(
        "--domain",
        choices=DOMAINS,
        default="faces",
        help="which networks know these pictures (ID, SC, KID)",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=NAMES,
        default=[],
        metavar="NAME",
        help=f"only these: {', '.join(NAMES)}",
    )
    parser.add_argument("--size", type=int, metavar="N", help="bring every picture to N x N pixels")
    parser.add_argument(
        "--clip", metavar="NAME", help="another CLIP than the preset's (dclip weights list)"
    )
    parser.add_argument(
        "--templates", choices=("none", "imagenet79"), help="prompt templates of S_dir"
    )
    parser.add_argument("--kid-subset", type=int, metavar="N", help="pictures a KID subset")
    parser.add_argument("--kid-subsets", type=int, metavar="N", help="KID subsets")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="draws behind the intervals; 0 leaves them out",
    )
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="pairs at a time; never changes a score"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: outputs/metrics/EDITED_PRESET"
    )
    return parser


def _check(told: argparse.Namespace) -> None:
    """Refuse what cannot be, before any picture is read."""
    for name in ("kid_subset", "kid_subsets", "batch", "size"):
        value, least = getattr(told, name), {"kid_subset": 2, "size": 32}.get(name, 1)
        if value is not None and value < least:
            raise DclipError(
                f"--{name.replace('_', '-')} {value} is impossible; choose {least} or more"
            )
    if told.bootstrap < 0:
        raise DclipError(
            f"--bootstrap {told.bootstrap} is impossible; choose 0 (no intervals) or more"
        )
    if (told.text is None) != (told.source_text is None):
        raise DclipError(
            "--text and --source-text belong together: S_dir is the cosine with the change from one to the other"
        )
    if told.text is not None and not (told.text.strip() and told.source_text.strip()):
        raise DclipError("--text and --source-text must not be empty")
    if told.clip is not None:
        from dclip.models.registry import find, get

        if (
            not Path(told.clip).exists()
            and (find(told.clip, "clip") or get(told.clip)).kind != "clip"
        ):
            raise DclipError(f"--clip {told.clip} is no CLIP; see dclip weights list")


def _device(name: str) -> Any:
    import torch

    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in found.items() if there)
    if not found.get(name.split(":")[0], False):
        raise DclipError(f"--device {name} is not here; choose auto, cpu, cuda or mps")
    return torch.device(name)


def _write(folder: Path, outcome: Outcome, stated: dict[str, Any]) -> None:
    from dclip.files import atomic_save, write_json, write_rows
    from dclip.record.machine import environment

    values = {
        name: round(v, 6) if isinstance(v, float) else v
        for name, v in outcome.scores.values.items()
    }
    content = {
        "scores": values, "counts": outcome.counts, "left_out": outcome.troubles, **stated, "environment": environment(),
    }  # fmt: skip
    write_json(folder / "metrics.json", content)
    if outcome.scores.rows:
        columns: dict[str, list[Any]] = {"image": list(outcome.ids), **outcome.scores.rows}
        write_rows(folder / "rows.csv", columns)
        if find_spec("pyarrow"):
            import pyarrow  # type: ignore[import-not-found]
            from pyarrow import parquet

            atomic_save(
                folder / "rows.parquet", lambda p: parquet.write_table(pyarrow.table(columns), p)
            )


def _parquet_note() -> str:
    return "" if find_spec("pyarrow") else " (rows as CSV; for Parquet too: pip install pyarrow)"


def _text(outcome: Outcome) -> str:
    """Scores with their intervals for the console, and what was left out."""
    from dclip.metrics.names import HIGHER_IS_BETTER

    values, lines = outcome.scores.values, []
    for name in NAMES:
        arrow = "↑" if HIGHER_IS_BETTER[name] else "↓"
        if name in values:
            edges = (
                f"  [{values[f'{name}_low']:.4f}, {values[f'{name}_high']:.4f}]"
                if f"{name}_low" in values
                else ""
            )
            lines.append(f"  {name:10} {arrow} {values[name]:9.4f}{edges}")
        elif f"{name}_absent" in values:
            lines.append(f"  {name:10} {arrow}         –  ({values[f'{name}_absent']})")
    counts = ", ".join(
        f"{value} {name.replace('_', ' ')}" for name, value in outcome.counts.items()
    )
    lines.append(f"\n  {counts}; 95 % bootstrap intervals over pictures")
    if outcome.troubles:
        lines.append(f"  left out: {len(outcome.troubles)}")
        lines += [f"    {trouble}" for trouble in outcome.troubles[:20]]
        if len(outcome.troubles) > 20:
            lines.append(f"    and {len(outcome.troubles) - 20} more (metrics.json)")
    return "\n".join(lines)
