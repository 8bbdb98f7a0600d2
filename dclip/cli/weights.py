"""``dclip weights list | fetch | verify | where``: the published weight files, from the command line, without torch."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dclip.errors import DclipError
from dclip.models import fetch, registry
from dclip.models.registry import TABLE, Weights

EPILOG = """\
Files are looked for in $DCLIP_WEIGHTS (if set), in pretrained/ of the working folder, then in the cache folder; they are fetched
into $DCLIP_WEIGHTS or the cache folder. $DCLIP_MIRROR (a web address with the same files) is asked first. HF_HUB_OFFLINE=1 forbids
fetching. Exit code: 0 all is well, 1 something is missing or wrong, 2 the command cannot be understood or may not fetch."""


def main(words: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    told = _parser().parse_args(words)
    code: int = told.run(told)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dclip weights", description="Published weights: what there is, fetch, check, find.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(
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
    return parser


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows as aligned columns; the columns in ``right`` are flush right, the last one is wrapped to the terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(24, shutil.get_terminal_size((132, 24)).columns - left)
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ][:-1]
        first, *more = textwrap.wrap(row[-1], room) or [""]
        lines += ["  ".join([*cells, first]).rstrip(), *(" " * left + line for line in more)]
    return "\n".join(lines)


def list_weights(_: argparse.Namespace) -> int:
    """Every entry, one line each."""
    rows = [("NAME", "KIND", "SHOWS", "MB", "FORMAT", "HERE", "LICENCE")]
    for entry in TABLE.values():
        here = "yes" if registry.located(entry) else "no"
        rows.append(
            (
                entry.name,
                entry.kind,
                entry.domain or "",
                f"{entry.megabytes:,.0f}",
                entry.format,
                here,
                entry.licence,
            )
        )
    print(table(rows, right=(3,)))
    print(f"\n{_searched()}")
    return 0


def fetch_weights(told: argparse.Namespace) -> int:
    """Fetch every named entry; one that fails does not stop the others."""
    entries = [registry.get(name) for name in told.names]
    reason = fetch.offline_reason()
    if reason is not None:
        raise DclipError(
            f"nothing may be fetched ({reason}); unset it, or fetch on another machine and copy the files"
        )
    silent = fetch.silent_hosts(
        s.url for e in entries for f in e.files for s in fetch.sources(e, f)
    )
    failed = 0
    for entry in entries:
        try:
            print(
                f"{entry.name}: {entry.megabytes:,.0f} MB, licence: {entry.licence}",
                file=sys.stderr,
            )
            print(f"{entry.name}  {fetch.fetch(entry, told.to, not told.quiet, silent)}")
        except DclipError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


def verify_weights(told: argparse.Namespace) -> int:
    """Check sizes and hashes; a named entry that is not here counts as wrong."""
    entries = [registry.get(name) for name in told.names] or [
        e for e in TABLE.values() if registry.located(e)
    ]
    rows, bad = [], 0
    for entry in entries:
        found = list(registry.paths(entry))
        for file, path in found:
            fine, why = registry.verdict(path, file)
            rows.append((entry.name, "ok" if fine else "WRONG", str(path), why))
            bad += not fine
        if not found:
            rows.append((entry.name, "MISSING", "-", "not here"))
            bad += 1
    print(table(rows) if rows else f"none of the known weights is here\n{_searched()}")
    return 1 if bad else 0


def where_weights(told: argparse.Namespace) -> int:
    """Paths of the named entries; without a name, the search folders."""
    if not told.names:
        print("\n".join(str(folder.absolute()) for folder in registry.folders()))
        return 0
    entries = [registry.get(name) for name in told.names]
    places = [registry.located(entry) for entry in entries]
    for entry, place in zip(entries, places, strict=True):
        print(place.absolute() if place else _advice(entry))
    return 0 if all(places) else 1


def _advice(entry: Weights) -> str:
    names = " and ".join(
        str(entry.place(Path("pretrained")) / f.name) for f in entry.files if not f.optional
    )
    return f"{entry.name} is not here; put {names}, or run: dclip weights fetch {entry.name}"


def _searched() -> str:
    return "looked for in: " + ", then ".join(str(folder) for folder in registry.folders())
