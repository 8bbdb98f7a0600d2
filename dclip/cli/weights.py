"""``dclip weights list | fetch | verify | where``: the known weight files, without torch."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dclip.cli.arguments import Arguments
from dclip.errors import DclipError
from dclip.models import fetch, registry
from dclip.models.registry import TABLE, KnownWeights

EPILOG = """\
Files are looked for in $DCLIP_WEIGHTS (if set), in pretrained/ of the working folder, then in the
cache folder; they are fetched into $DCLIP_WEIGHTS or the cache folder. $DCLIP_MIRROR (a web address
with the same files) is asked first. HF_HUB_OFFLINE=1 forbids fetching. Exit code: 0 all is well,
1 something is missing or wrong, 2 the command cannot be understood or may not fetch."""


def main(words: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    args = parser().parse_args(words)
    code: int = args.run(args)
    return code


def parser() -> argparse.ArgumentParser:
    """Words after ``dclip weights``."""
    arguments = Arguments(
        "dclip weights",
        description="Weights: what there is, fetch, check, find.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = arguments.add_subparsers(
        title="commands", required=True, metavar="list | fetch | verify | where"
    )
    listing = commands.add_parser("list", help="all known weights, and which are here")
    listing.set_defaults(run=list_weights)
    fetching = commands.add_parser(
        "fetch", help="download weights; partial downloads are resumed, hashes checked"
    )
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.add_argument(
        "--to", type=Path, metavar="DIR", help="put them there, as into a search folder"
    )
    fetching.add_argument("--quiet", action="store_true", help="no progress bars")
    fetching.set_defaults(run=fetch_weights)
    verifying = commands.add_parser(
        "verify", help="compare files with their published sizes and hashes"
    )
    verifying.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
    verifying.set_defaults(run=verify_weights)
    finding = commands.add_parser("where", help="where weights are, or where they are looked for")
    finding.add_argument("names", nargs="*", metavar="NAME")
    finding.set_defaults(run=where_weights)
    return arguments


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows as aligned columns.

    The columns in ``right`` are flush right; the last one is wrapped to the terminal.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    left = sum(widths) + 2 * len(widths)
    room = max(24, shutil.get_terminal_size((132, 24)).columns - left)
    lines = []
    for *row, last in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            align = str.rjust if column in right else str.ljust
            cells.append(align(cell, width))
        first, *more = textwrap.wrap(last, room) or [""]
        lines.append("  ".join([*cells, first]).rstrip())
        lines.extend(" " * left + line for line in more)
    return "\n".join(lines)


def list_weights(_: argparse.Namespace) -> int:
    """Every entry, one line each."""
    rows = [("NAME", "KIND", "SHOWS", "MB", "FORMAT", "HERE", "LICENCE")]
    for entry in TABLE.values():
        here = "yes" if registry.located(entry) else "no"
        shows, size = entry.domain or "", f"{entry.megabytes:,.0f}"
        rows.append((entry.name, entry.kind, shows, size, entry.format, here, entry.licence))
    print(table(rows, right=(3,)))
    print(f"\n{_searched()}")
    return 0


def fetch_weights(args: argparse.Namespace) -> int:
    """Fetch every named entry; one that fails does not stop the others."""
    entries = [registry.get(name) for name in args.names]
    reason = fetch.offline_reason()
    if reason is not None:
        raise DclipError(
            f"nothing may be fetched ({reason}); "
            "unset it, or fetch on another machine and copy the files"
        )
    silent = fetch.silent_hosts(_addresses(entries))
    failed = 0
    for entry in entries:
        print(
            f"{entry.name}: {entry.megabytes:,.0f} MB, licence: {entry.licence}; "
            f"described at {entry.documented}",
            file=sys.stderr,
        )
        try:
            path = fetch.fetch(entry, args.to, not args.quiet, silent)
        except DclipError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
        else:
            print(f"{entry.name}  {path}")
    return min(failed, 1)


def _addresses(entries: Sequence[KnownWeights]) -> list[str]:
    """Every address of every file."""
    addresses = []
    for entry in entries:
        for file in entry.files:
            addresses += [source.url for source in fetch.sources(entry, file)]
    return addresses


def verify_weights(args: argparse.Namespace) -> int:
    """Check sizes and hashes; a named entry that is not here counts as wrong."""
    entries = [registry.get(name) for name in args.names]
    if not entries:
        fetched = [entry for entry in TABLE.values() if not entry.shipped]
        entries = [entry for entry in fetched if registry.located(entry)]
    rows = []
    for entry in entries:
        files = list(registry.paths(entry))
        for file, path in files:
            fine, why = registry.verdict(path, file)
            rows.append((entry.name, "ok" if fine else "WRONG", str(path), why))
        if not files:
            rows.append((entry.name, "MISSING", "-", "not here"))
    if not rows:
        print(f"no published weights are here\n{_searched()}")
        return 0
    print(table(rows))
    return int(any(verdict != "ok" for _, verdict, *_ in rows))


def where_weights(args: argparse.Namespace) -> int:
    """Paths of the named entries; without a name, the search folders."""
    if not args.names:
        for folder in registry.folders():
            print(folder.absolute())
        return 0
    missing = 0
    for entry in [registry.get(name) for name in args.names]:
        place = registry.located(entry)
        if place is None:
            missing += 1
            print(_advice(entry))
        else:
            print(place.absolute())
    return min(missing, 1)


def _advice(entry: KnownWeights) -> str:
    folder = entry.place(Path("pretrained"))
    files = " and ".join(str(folder / file.name) for file in entry.required)
    return f"{entry.name} is not here; put {files}, or run: dclip weights fetch {entry.name}"


def _searched() -> str:
    return "looked for in: " + ", then ".join(str(folder) for folder in registry.folders())
