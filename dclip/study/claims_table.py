"""The claims of a study as far as it has been run: claims.md, claims.csv and claims.png."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from dclip.files import write_rows, write_text
from dclip.pages.markdown import table_line
from dclip.record.runs import Run
from dclip.study.claims import CONFIRMED, OPEN, REFUTED, Claim, Key, Labels
from dclip.study.figures import save_figure
from dclip.study.findings import Finding, find
from dclip.study.progress import Progress
from dclip.study.tables import labelled, number, ran_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "claims"

COLOURS = {CONFIRMED: "tab:green", REFUTED: "tab:red", OPEN: "tab:gray"}

SIGNS = {
    "more": "above 0",
    "less": "below 0",
    "no_less": "above -{:g}",
    "no_more": "below {:g}",
    "same": "within ±{:g}",
}

HEAD = ("claim", "source", "compared", "metric", "difference", "claimed", "verdict")


def write_claims(progress: Progress) -> Path | None:
    """Write what the runs say of every claim; returns the Markdown's path, None if nothing was run.

    In experiments/, claims of which more were measured are left alone; the new ones lie beside the
    runs.
    """
    finished = finished_runs(progress)
    planned = list(dict.fromkeys(job.seed for job in progress.study.jobs))
    findings = [find(claim, finished, planned) for claim in progress.study.claims]
    measured = [finding for finding in findings if finding.measured]
    if not measured:
        return None
    folder = progress.folders.table
    if progress.folders.published and _measured_before(folder) > len(measured):
        folder = progress.folders.runs / "table"
    text = markdown(progress.study.title, findings, ran_on(_used(progress)))
    write_text(folder / f"{NAME}.md", text)
    write_rows(folder / f"{NAME}.csv", _columns(findings))
    save_figure(forest(measured), folder, NAME)
    return folder / f"{NAME}.md"


def finished_runs(progress: Progress) -> dict[Key, dict[int, Run]]:
    """The finished runs of every row, by seed."""
    finished: dict[Key, dict[int, Run]] = {row: {} for row in progress.study.rows}
    for job in progress.study.jobs:
        run = progress.of(job).done
        if run is not None:
            finished[job.row][job.seed] = run
    return finished


def _used(progress: Progress) -> list[Run]:
    return [planned.done for planned in progress.unique() if planned.done is not None]


def _measured_before(folder: Path) -> int:
    """How many claims an earlier table has numbers of."""
    path = folder / f"{NAME}.csv"
    if not path.is_file():
        return 0
    _, *lines = path.read_text("utf-8").splitlines()
    return sum(not line.endswith(",nan") for line in lines)


def _columns(findings: Sequence[Finding]) -> Mapping[str, Sequence[object]]:
    columns: dict[str, list[object]] = {}
    for finding in findings:
        claim = finding.claim
        line = {
            "claim": claim.text,
            "source": claim.source,
            "compared": compared(claim),
            "metric": claim.metric,
            "expected": claim.expected,
            "margin": claim.margin,
            "verdict": finding.verdict,
            "seeds": len(finding.seeds),
            "n": finding.n,
            "low": finding.low,
            "high": finding.high,
            "ours": finding.ours,
            "difference": finding.difference,
        }
        for name, value in line.items():
            columns.setdefault(name, []).append(value)
    return columns


# ---------------------------------------------------------------------------------- as text


def markdown(title: str, findings: Sequence[Finding], origin: str) -> str:
    """A table with a line a claim, then a sentence a claim."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for finding in findings:
        lines.append(table_line(_cells(finding)))
    sentences = "\n".join(f"- {sentence(finding)}" for finding in findings)
    notes = [
        '- difference: of the rows before "against" less those after it, in pairs of one image '
        "and seed; [low, high]: 95 % interval, a bootstrap over seeds and images (over seeds and "
        "rows, where one number describes a whole run)",
        "- confirmed, refuted: the interval and the difference of every seed lie wholly on the "
        "claimed side, or wholly beyond it; the intervals are not widened for their number",
        f"- {origin}",
    ]
    blocks = [f"# {title}", "\n".join(lines), sentences, "\n".join(notes)]
    return "\n\n".join(blocks) + "\n"


def _cells(finding: Finding) -> list[str]:
    claim = finding.claim
    return [
        claim.text,
        claim.source,
        compared(claim),
        claim.metric,
        _difference(finding),
        SIGNS[claim.expected].format(claim.margin),
        _verdict(finding),
    ]


def _verdict(finding: Finding) -> str:
    """Its word; where the runs are not there to say, why."""
    if finding.why_open:
        return f"{finding.verdict}: {finding.why_open}"
    return f"**{finding.verdict}**"


def compared(claim: Claim) -> str:
    """Which rows are compared, in words."""
    against = claim.against
    right = number(against) if isinstance(against, float) else _words(against)
    shared = f" ({_words(claim.of)})" if claim.of else ""
    return f"{_words(claim.rows)} against {right}{shared}"


def _words(labels: Labels) -> str:
    return labelled(labels.items())


def _difference(finding: Finding) -> str:
    if not finding.measured:
        return "-"
    return f"{_signed(finding.difference)} [{_signed(finding.low)}, {_signed(finding.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def sentence(finding: Finding) -> str:
    """What was found, with its numbers."""
    claim = finding.claim
    start = f"{claim.text} ({claim.source}): **{finding.verdict}**"
    if not finding.measured:
        return f"{start}; {finding.why_open}."
    if isinstance(claim.against, float):
        theirs = f"a mark of {number(claim.against)}"
    else:
        theirs = f"{number(finding.ours - finding.difference)} for {_words(claim.against)}"
    text = (
        f"{start}. {claim.metric} is {number(finding.ours)} for {_words(claim.rows)} against "
        f"{theirs}: {_difference(finding)}, over {_count(finding)}."
    )
    return f"{text} But {finding.why_open}." if finding.why_open else text


def _count(finding: Finding) -> str:
    if not finding.random:
        return f"{finding.n} {finding.unit}; nothing is random, so one seed says all"
    return f"{finding.n} {finding.unit} and {len(finding.seeds)} seeds"


# ------------------------------------------------------------------------------- as a figure


def forest(findings: Sequence[Finding]) -> Figure:
    """Every difference with its interval, each on its own scale: to the right is as claimed."""
    from matplotlib.figure import Figure

    height = 0.9 + 0.42 * len(findings)
    drawing = Figure(figsize=(10, height), layout="constrained")
    panel = drawing.subplots()
    for place, finding in enumerate(reversed(findings)):
        _draw(panel, place, finding)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set(xlim=(-1.15, 1.15), xticks=[], ylim=(-0.7, len(findings) - 0.3))
    panel.set_yticks(
        range(len(findings)), [_title(finding) for finding in reversed(findings)], fontsize=7
    )
    panel.set_xlabel("paired difference, each on its own scale; right of the mark: as claimed")
    right = panel.secondary_yaxis("right")
    numbers = [_difference(finding) for finding in reversed(findings)]
    right.set_yticks(range(len(findings)), numbers, fontsize=7)
    panel.set_title("green: confirmed, red: refuted, gray: not decided", fontsize=8)
    return drawing


def _title(finding: Finding) -> str:
    return f"{finding.claim.text}\n{finding.claim.metric}"


def _draw(panel: Axes, place: int, finding: Finding) -> None:
    """One line: the interval, every seed, and where the claim begins to hold."""
    claim = finding.claim
    ends = [finding.low, finding.high, *finding.seeds]
    largest = max(map(abs, [*ends, claim.margin])) or 1.0
    side = -1 if claim.expected in ("less", "no_more") else 1
    scale = side / largest
    colour = COLOURS[finding.verdict]
    panel.plot([finding.low * scale, finding.high * scale], [place] * 2, color=colour, linewidth=3)
    panel.plot(finding.difference * scale, place, "o", color=colour, markersize=6)
    for value in finding.seeds:
        panel.plot(value * scale, place - 0.22, "|", color=colour, markersize=6)
    for bound in claim.allowed:
        if isfinite(bound) and bound:
            panel.plot([bound * scale] * 2, [place - 0.3, place + 0.3], ":", color="black")
