"""A run as one self-contained page: what was run, pictures, curves, numbers.

It is a pure function of the files in the run's folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dclip.data.domains import words_of
from dclip.edits.saved import described
from dclip.files import read_json, write_text
from dclip.methods.contract import method_of
from dclip.metrics.counterfactual import ERROR_COLORS
from dclip.metrics.names import arrow, find, interval, ordered
from dclip.pages.degrees import STEM, Strip, strip_of
from dclip.pages.faces import faces_of
from dclip.pages.plots import plots_of, svg_of, with_mfu
from dclip.pages.render import picture_of, render
from dclip.pages.settings import changed
from dclip.pages.summary import Answer, answer, costs, next_steps
from dclip.pages.trained import beside_shipped, is_training, trained
from dclip.pages.unfinished import last_lines, resuming, unfinished
from dclip.record.record import Record
from dclip.record.runs import Run, read_curves
from dclip.runtime.typed import typed
from dclip.text.known import unknown_words

log = logging.getLogger("dclip")


# ------------------------------------------------------------ numbers


@dataclass(frozen=True)
class MetricRow:
    """One line of a run's numbers; the arrow says which way is better."""

    name: str
    arrow: str
    value: str
    meaning: str = ""
    absent: bool = False
    untouched: str = ""
    truth: str = ""


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def metric_rows(metrics: Mapping[str, Any]) -> list[MetricRow]:
    """A run's numbers: those with a meaning first, absent ones with their reason."""
    known = ordered(column.removesuffix("_absent") for column in metrics)
    rows = [_metric_row(name, metrics) for name in known]
    for name, value in metrics.items():
        if name.removesuffix("_absent") not in known and not _is_bound(name, metrics):
            rows.append(MetricRow(name, "", _number(value) + _interval(name, metrics)))
    return rows


def _metric_row(name: str, metrics: Mapping[str, Any]) -> MetricRow:
    if name not in metrics:
        reason = f"not measured: {metrics[f'{name}_absent']}"
        return MetricRow(name, arrow(name), "–", reason, absent=True)
    value = _number(metrics[name]) + _interval(name, metrics)
    quantity = find(name)
    if quantity is None:
        return MetricRow(name, arrow(name), value)
    untouched, truth = _level(quantity.untouched), _level(quantity.truth)
    return MetricRow(name, quantity.arrow, value, quantity.meaning, False, untouched, truth)


def _level(value: float | None) -> str:
    """What untouched or true pictures score, where that is plain."""
    return "" if value is None else f"{value:g}"


def _is_bound(column: str, metrics: Mapping[str, Any]) -> bool:
    """Whether a column is an end of another one's interval."""
    name, _, end = column.rpartition("_")
    if end not in ("low", "high"):
        return False
    return name in metrics or (find(name) is not None and interval(name, metrics) is not None)


def _interval(name: str, metrics: Mapping[str, Any]) -> str:
    """The 95 % interval of a number, where there is one."""
    bounds = interval(name, metrics)
    if bounds is None:
        return ""
    low, high = map(_number, bounds)
    return f" [{low}, {high}]"


# By the CLIP that guided, by the one that only scores, and from where on the first sees something.
SEEN_BY = (("s_dir", "s_dir_heldout", 0.05), ("p_target_guide", "p_target_heldout", 0.5))
UNSEEN = 4  # times smaller that it is to the CLIP that only scores
FAINT = 0.1  # an edit whose change lies this little along the words' direction barely shows
FEW = 0.5  # share of pictures below which an edit barely works, by the judge


def verdict(
    metrics: Mapping[str, Any], unknown: Sequence[str] = (), whole: bool = True, clip: str = ""
) -> str:
    """What the numbers mean together, where there is something to say; else empty.

    Args:
        unknown: words of the run's texts that its CLIP (``clip``) was never shown.
        whole: whether the edit was applied whole (gamma 1 or more).
    """
    said = [_unseen(metrics)]
    if whole and not said[0]:
        said.append(_barely(metrics))
    if unknown:
        words = "word" if len(unknown) == 1 else "words"
        said.append(
            f"clip={clip} was never shown the {words} {', '.join(unknown)}, so its scores cannot "
            "tell whether the pictures show it: look at them."
        )
    return " ".join(filter(None, said))


def _barely(metrics: Mapping[str, Any]) -> str:
    """Whether an edit does next to nothing: as the judge sees it, else as both CLIPs do."""
    more = (
        "Learn it longer or from more images (method.epochs, dataset.train, without preset=quick), "
        "or apply more of it (gamma)."
    )
    success = metrics.get("judge_success")
    if isinstance(success, float) and "s_dir" in metrics:
        if success >= FEW:
            return ""
        return f"The edit barely works: the judge sees it in {100 * success:.0f} %. {more}"
    seen = [metrics.get(name) for name in ("s_dir", "s_dir_heldout")]
    known = [value for value in seen if isinstance(value, float)]
    if not known or max(known) >= FAINT:
        return ""
    numbers = " and ".join(f"{value:.2f}" for value in known)
    return f"The edit barely works: s_dir is {numbers}, and from {FAINT} on it shows. {more}"


def _unseen(metrics: Mapping[str, Any]) -> str:
    """Whether only the CLIP that guided sees the edit."""
    for name, heldout, plain in SEEN_BY:
        guided, scored = metrics.get(name), metrics.get(heldout)
        if not isinstance(guided, float) or not isinstance(scored, float):
            continue
        if guided >= plain and scored < guided / UNSEEN:
            return (
                f"The held-out CLIP does not see this ({heldout} {scored:.2f}, {name} {guided:.2f}): "
                "the pictures please the CLIP that guided, and probably do not show what the words "
                "say. Look at them; other words may do better."
            )
    return ""


@dataclass(frozen=True)
class Headline:
    """A number that is said first, in words."""

    value: str
    words: str


WITHOUT_TRUTH = (
    (
        "s_dir_heldout",
        "{:.2f}",
        "along the words' direction (1: exactly), to a CLIP that only scores",
    ),
    ("p_target_heldout", "{:.0%}", "probability of the words, to a CLIP that only scores"),
    ("changed_pixels", "{:.0%}", "of the pixels changed noticeably"),
    ("background_psnr", "{:.1f} dB", "of the background (PSNR; 100: as it was)"),
)
PERCENT = {
    "closer": "of the pictures are closer to the truth than the untouched ones",
    "judge_success": "convince the judge, which can be fooled",
}


def _own(metrics: Mapping[str, Any]) -> list[Headline]:
    """What is said first where no truth is known: of words of one's own, of photographs, samples."""
    said = []
    for name, form, words in WITHOUT_TRUTH:
        value = metrics.get(name)
        if isinstance(value, int | float):
            said.append(Headline(form.format(value), words))
    return said


def headline(metrics: Mapping[str, Any]) -> list[Headline]:
    """Whether an edit is better than doing nothing, and beside it the judge's word.

    Where no truth is known: what a CLIP sees that only scores, and how much was changed.
    """
    if "closer" not in metrics:
        return _own(metrics)
    said = []
    for name, words in PERCENT.items():
        if name in metrics:
            said.append(Headline(f"{100 * metrics[name]:.0f} %", words))
    if "counterfactual_ratio" in metrics:
        ratio = f"{metrics['counterfactual_ratio']:.2f}"
        said.insert(1, Headline(ratio, "times the untouched pictures' distance to the truth"))
    return said


def text_table(metrics: Mapping[str, Any]) -> str:
    """A run's numbers for the console, those that matter most first."""
    lines = []
    for row in metric_rows(metrics):
        if row.absent:
            lines.append(f"  {row.name:24}   –  ({metrics[f'{row.name}_absent']})")
            continue
        number = str(metrics[row.name])
        if isinstance(metrics[row.name], float):
            number = f"{metrics[row.name]:.4f}"
        interval = _interval(row.name, metrics)
        lines.append(f"  {row.name:22} {row.arrow:1} {number:>9}{interval}")
    return "\n".join(lines)


# ------------------------------------------------------------ pictures and curves


def _curves(folder: Path) -> list[str]:
    """The plots of a training."""
    curves = with_mfu(read_curves(folder / "curves.jsonl"), read_json(folder / "metrics.json"))
    plots = [svg_of(curves, plot) for plot in plots_of(curves)]
    return [plot for plot in plots if plot]


PICTURES = {"before_after": 0, "error_map": 1}  # those that come first


def _order(path: Path) -> tuple[int, str]:
    """Before and after first, then what is wrong with it, epochs last."""
    if _is_epoch(path):
        return 3, path.stem
    return PICTURES.get(path.stem, 2), path.stem


def _pictures(folder: Path) -> list[Path]:
    """What is shown of a run's pictures: sheets and animations, not every single image."""
    pictures = []
    for path in sorted(folder.glob("*.*"), key=_order):
        if path.suffix in (".png", ".gif") and not path.stem.startswith("image_"):
            pictures.append(path)
    return pictures


def _is_epoch(path: Path) -> bool:
    """Whether a sheet shows the validation images after an epoch."""
    return path.stem.startswith("epoch_")


def _stands_alone(path: Path, strip: Strip | None) -> bool:
    """Whether a sheet is shown by itself, and not under a slider."""
    return not _is_epoch(path) and (strip is None or path.stem != STEM)


# ------------------------------------------------------------ the page


def _unknown_words(run: Run) -> list[str]:
    """Words of a run's texts that its CLIP was never shown."""
    known = words_of(str(run.setting("clip.name")))
    if not known or not run.target or run.setting("edit.examples"):
        return []
    return unknown_words(f"{run.setting('edit.source')} {run.target}", known)


def verdict_of(folder: Path) -> str:
    """What a run's numbers and words mean together; empty where there is nothing to say."""
    run, metrics = Run(folder), read_json(folder / "metrics.json")
    if not (folder / "config.yaml").is_file() or not metrics:
        return verdict(metrics)
    gamma = run.setting("gamma")
    whole = not isinstance(gamma, int | float) or gamma >= 1
    return verdict(metrics, _unknown_words(run), whole, str(run.setting("clip.name")))


def answer_of(folder: Path) -> Answer:
    """Whether a run worked, in one sentence."""
    run = Run(folder)
    if not ended_well(run):
        return unfinished(run)
    if is_training(run) and run.state == "finished":
        return trained(run)
    return answer(
        run.metrics, bool(verdict_of(folder)), run.state == "running" and bool(run.status)
    )


def ended_well(run: Run) -> bool:
    """Whether a run is finished, or is at work; of a folder without a status nothing bad is known."""
    return not run.status or run.state in ("finished", "running")


def _edits(status: Mapping[str, Any]) -> list[str]:
    """The edits that a run applied, a line each."""
    return [described(card) for card in status.get("edits", [])]


def command_of(folder: Path) -> str:
    """The command that made a run; empty where it was not kept."""
    words = Run(folder).command
    return typed(words) if words else ""


def write_report(folder: Path, title: str, subtitle: str = "") -> Path:
    """Write ``report.html`` from the files of a run folder; returns its path."""
    config = folder / "config.yaml"
    metrics, status = read_json(folder / "metrics.json"), read_json(folder / "status.json")
    run, strip = Run(folder), strip_of(folder)
    sheets, warning = _pictures(folder / "samples"), verdict_of(folder)
    steps = next_steps(folder, bool(warning)) if ended_well(run) else resuming(run)
    page = render(
        "report.html",
        title=title,
        subtitle=subtitle,
        command=command_of(folder),
        edits=_edits(status),
        answer=answer_of(folder),
        warning=warning,
        degree=metrics.get("degree"),
        faces=faces_of(folder),
        colors=ERROR_COLORS,
        strip=strip,
        beside=beside_shipped(run),
        log_end="" if ended_well(run) else last_lines(run),
        pictures=[picture_of(path) for path in sheets if _stands_alone(path, strip)],
        epochs=[picture_of(path) for path in sheets if _is_epoch(path)],
        headline=headline(metrics),
        costs=costs(metrics, status),
        steps=steps,
        rows=metric_rows(metrics),
        curves=_curves(folder),
        changed=changed(config),
        config=config.read_text("utf-8") if config.is_file() else "",
        status=status,
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def finish_report(record: Record) -> Path:
    """Write a run's page; say its numbers, unless it failed, and where the page is.

    It comes last, so that the page shows the run's final status.
    """
    cfg, folder = record.cfg, record.folder
    title = cfg.name or method_of(cfg).title(cfg)
    page = write_report(folder, title, f"dclip · seed {cfg.seed} · {folder.name}")
    metrics = read_json(folder / "metrics.json")
    if not ended_well(Run(folder)):
        log.debug("what happened, and how to go on: %s", page)
        return page
    said = answer_of(folder)
    sentence = f"{said.short}: {said.words}"
    lines = [text_table(metrics), sentence, verdict_of(folder), f"report: {page}"]
    log.info("%s", "\n".join(filter(None, lines)))
    return page
