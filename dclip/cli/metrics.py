"""``dclip metrics --real DIR --edited DIR``: scores of anybody's edits, from the command line.

Writes metrics.json (scores, intervals, every choice in words), rows.csv (one line a pair),
with ``--truth`` error_map.png and, where pyarrow is installed, rows.parquet. Imports torch only once the command is understood.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.cli.arguments import Arguments
from dclip.config.options import TEMPLATES
from dclip.data.domains import DOMAINS, networks_of
from dclip.errors import DclipError
from dclip.metrics.names import arrow, described, names_of, ordered
from dclip.metrics.presets import NOTES, PRESETS, Choices, preset
from dclip.prepare import plugins
from dclip.text.prompts import same_text

if TYPE_CHECKING:
    import torch

    from dclip.metrics.folders import FolderScores

EPILOG = """\
Pairs are pictures of the same path below their folders, whatever their suffix. With --truth, the
scores that count are `closer` and `counterfactual_ratio`: an edit that is no nearer to the true
picture than the untouched one is worth nothing, whatever a judge or CLIP says. With --mask, the
background outside is scored, as it should be and as PIE-Bench does. A metric whose
weights are not on disk is absent, with the reason and the remedy; nothing is fetched. Exit code:
0 everything was scored; 1 something was left out (broken files, pairs of two sizes, pictures
without a partner: listed) and the rest was scored; 2 nothing can be scored."""

LEAST = {"kid_subset": 2, "kid_subsets": 1, "batch": 1, "size": 32}
"""The smallest value of a number on the command line."""


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    plugins.load(_plugins(words))
    args = build_parser().parse_args(words)
    choices = _choices(args)
    _check(args)
    from dclip.metrics.folders import Request, measure_folders

    texts = (args.source_text, args.text) if args.text else None
    request = Request(
        args.real,
        args.edited,
        choices,
        args.truth,
        args.mask,
        texts,
        domain=args.domain,
        sets=args.sets,
        size=args.size,
        batch=args.batch,
        bootstrap=args.bootstrap,
        device=device_named(args.device),
        metrics=tuple(args.metrics),
    )
    outcome = measure_folders(request)
    folder = args.output
    if folder is None:
        folder = Path("outputs") / "metrics" / f"{args.edited.resolve().name}_{args.preset}"
    _write(folder, outcome, args, choices)
    print(_text(outcome))
    print(f"\n  written to {folder}{_parquet_note()}")
    return 1 if outcome.troubles else 0


# --------------------------------------------------------------------------------- the command


def _plugins(words: Sequence[str]) -> list[str]:
    """The plug-ins that the command names: they must be there before the metrics are listed."""
    early = Arguments(add_help=False, allow_abbrev=False)
    early.add_argument("--plugins", nargs="+", default=[])
    return plugins.names_of(early.parse_known_args(words)[0].plugins)


def build_parser() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = Arguments(
        "dclip metrics",
        description="Scores of edited pictures against the real ones, made by any system.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_pictures(parser)
    _add_choices(parser)
    _add_running(parser)
    return parser


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    """What is scored."""
    add = parser.add_argument
    add("--real", type=Path, required=True, metavar="DIR", help="the pictures before")
    add("--edited", type=Path, required=True, metavar="DIR", help="the pictures after, same names")
    add("--truth", type=Path, metavar="DIR", help="what the pictures truly look like edited")
    add("--mask", type=Path, metavar="DIR", help="where the edit may act: white; grey: in part")
    add("--text", metavar="TEXT", help="what the edit asks for (S_dir, clip_text)")
    add("--source-text", metavar="TEXT", help="what the pictures were before (S_dir)")
    add("--sets", action="store_true", help="compare two sets, without pairs: KID and FID only")
    add("--size", type=int, metavar="N", help="bring every picture to N x N pixels")
    add(
        "--domain",
        choices=list(DOMAINS),
        default="faces",
        help="which networks know these pictures (ID, SC, KID)",
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """What the scores mean."""
    add, names = parser.add_argument, names_of("folders")
    presets = "|".join(PRESETS)
    add("--preset", default="dclip", metavar=presets, help="what ambiguous names mean (dclip)")
    add(
        "--metrics",
        nargs="+",
        choices=names,
        default=[],
        metavar="NAME",
        help=f"only these: {', '.join(names)}",
    )
    add("--clip", metavar="NAME", help="another CLIP than the preset's (dclip weights list)")
    add("--templates", choices=TEMPLATES, help="prompt templates of S_dir")
    add("--kid-subset", type=int, metavar="N", help="pictures a KID subset")
    add("--kid-subsets", type=int, metavar="N", help="KID subsets")
    add(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="draws behind the intervals; 0 leaves them out",
    )
    add("--plugins", nargs="+", metavar="MODULE", help="modules with metrics of your own")


def _add_running(parser: argparse.ArgumentParser) -> None:
    """How it runs."""
    add = parser.add_argument
    batch = "pairs at a time; never changes a score"
    add("--batch", type=int, default=16, metavar="N", help=batch)
    add("--device", default="auto", help="auto, cpu, cuda, mps")
    add("--output", type=Path, metavar="DIR", help="default: outputs/metrics/EDITED_PRESET")


def _choices(args: argparse.Namespace) -> Choices:
    """The preset, with what the command line changes of it."""
    choices = preset(args.preset)
    changed = {}
    for name in ("clip", "templates", "kid_subset", "kid_subsets"):
        value = getattr(args, name)
        if value is not None:
            changed[name] = value
    own_clip = networks_of(args.domain).heldout
    if own_clip is not None:
        changed.setdefault("clip", own_clip)
    return replace(choices, **changed)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be, before any picture is read."""
    for name, least in LEAST.items():
        value = getattr(args, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise DclipError(f"--{option} {value} is impossible; choose {least} or more")
    if args.bootstrap < 0:
        raise DclipError(
            f"--bootstrap {args.bootstrap} is impossible; choose 0 (no intervals) or more"
        )
    if args.sets and (args.truth or args.mask):
        raise DclipError("--truth and --mask belong to pairs; remove --sets")
    if (args.text is None) != (args.source_text is None):
        raise DclipError(
            "--text and --source-text belong together: "
            "S_dir is the cosine with the change from one to the other"
        )
    if args.text is not None and not (args.text.strip() and args.source_text.strip()):
        raise DclipError("--text and --source-text must not be empty")
    if args.text is not None and same_text(args.text, args.source_text):
        raise DclipError("--text and --source-text are the same text; S_dir needs a change")
    if args.clip is not None:
        _check_clip(args.clip)


def _check_clip(name: str) -> None:
    from dclip.models.registry import find, get

    if Path(name).exists():
        return
    entry = find(name, "clip") or get(name)
    if entry.kind != "clip":
        raise DclipError(f"--clip {name} is no CLIP; see dclip weights list")


def device_named(name: str) -> torch.device:
    """The device of ``--device``. DclipError where it is not here."""
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name.split(":")[0], False):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise DclipError(f"--device {name} is not here; choose auto or {here}")
    return torch.device(name)


# --------------------------------------------------------------------------------- the results


def _write(folder: Path, outcome: FolderScores, args: argparse.Namespace, choices: Choices) -> None:
    """metrics.json, rows.csv and, where it can be written, rows.parquet."""
    from dclip.files import write_json, write_rows
    from dclip.record.machine import environment

    values: dict[str, float | str] = {}
    for name, value in outcome.scores.values.items():
        values[name] = round(value, 6) if isinstance(value, float) else value
    content = {
        "scores": values,
        "counts": outcome.counts,
        "left_out": outcome.troubles,
        "asked": _plain(args),
        "choices": {
            "preset": args.preset,
            "note": NOTES[args.preset],
            **described(choices, args.domain, args.size),
        },
        "environment": environment(),
    }
    write_json(folder / "metrics.json", content)
    if outcome.scores.rows:
        columns: dict[str, Sequence[object]] = {"image": outcome.ids, **outcome.scores.rows}
        write_rows(folder / "rows.csv", columns)
        if find_spec("pyarrow"):
            _write_parquet(folder / "rows.parquet", columns)
    _draw_errors(folder / "error_map.png", outcome)


def _draw_errors(path: Path, outcome: FolderScores) -> None:
    """error_map.png, of the first pairs, where their truth is known."""
    from dclip.files import atomic_save
    from dclip.metrics.error_picture import error_picture

    picture = error_picture(outcome.first, "edited") if outcome.first else None
    if picture is not None:
        atomic_save(path, picture.save)


def _plain(args: argparse.Namespace) -> dict[str, object]:
    """The arguments, as JSON holds them."""
    plain: dict[str, object] = {}
    for name, value in vars(args).items():
        if name != "output":
            plain[name] = str(value) if isinstance(value, Path) else value
    return plain


def _write_parquet(path: Path, columns: dict[str, Sequence[object]]) -> None:
    import pyarrow  # type: ignore[import-not-found]
    from pyarrow import parquet

    from dclip.files import atomic_save

    atomic_save(path, lambda p: parquet.write_table(pyarrow.table(columns), p))


def _parquet_note() -> str:
    if find_spec("pyarrow"):
        return ""
    return " (rows as CSV; for Parquet too: pip install pyarrow)"


def _text(outcome: FolderScores) -> str:
    """Scores with their intervals for the console, and what was left out."""
    lines = []
    for name in ordered(names_of("folders")):
        line = _score_line(name, outcome.scores.values)
        if line is not None:
            lines.append(line)
    counts = []
    for name, count in outcome.counts.items():
        counts.append(f"{count} {name.replace('_', ' ')}")
    lines.append(f"\n  {', '.join(counts)}; 95 % bootstrap intervals over pictures")
    if outcome.troubles:
        lines.append(f"  left out: {len(outcome.troubles)}")
        lines += [f"    {trouble}" for trouble in outcome.troubles[:20]]
    if len(outcome.troubles) > 20:
        lines.append(f"    and {len(outcome.troubles) - 20} more (metrics.json)")
    return "\n".join(lines)


def _score_line(name: str, values: dict[str, float | str]) -> str | None:
    """One metric with its interval, or why it is absent; None if it was not asked for."""
    head = f"  {name:21} {arrow(name)}"
    if name in values:
        more = ""
        if f"{name}_low" in values:
            more = f"  [{values[f'{name}_low']:.4f}, {values[f'{name}_high']:.4f}]"
        if f"{name}_note" in values:
            more = f"  ({values[f'{name}_note']})"
        return f"{head} {values[name]:9.4f}{more}"
    if f"{name}_absent" in values:
        return f"{head}         –  ({values[f'{name}_absent']})"
    return None
