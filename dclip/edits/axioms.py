"""What an edit should be, whatever it changes (Monteiro et al., ICLR 2023; Melistas et al., 2024).

Composition: an edit of degree 0 changes nothing, however often it is applied. Reversibility: an
edit and then its opposite give the source back. Commutativity: of edits one after the other, the
order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from dclip.data.images import save_pngs
from dclip.encode.encoded import Encoded
from dclip.encode.invert import encode_to_edit
from dclip.metrics.benchmark.tasks import AXIOMS_FOLDER, COMMUTATIVITY
from dclip.metrics.contract import Scores
from dclip.metrics.functional import mae, unit
from dclip.metrics.intervals import add_intervals
from dclip.record.record import Record
from dclip.run import Run
from dclip.types import Images

TIMES = (1, 10)  # edits of degree 0, one after another

Apply = Callable[[Run, Encoded, float], Tensor]  # an edit's ``apply``


def measure_axioms(
    run: Run, apply: Apply, start: Encoded, other_order: Apply | None = None
) -> Scores:
    """``composition_1``, ``composition_10`` and ``reversibility`` of the first ``metric.axioms`` images.

    With ``other_order`` also ``commutativity``. All are mean absolute changes of pixels in [0, 1];
    between two edits a picture has 8 bits, as in a file. The pictures are kept in the run's folder
    ``axioms``, as the benchmark reads them.
    """
    few = start.take(range(min(run.cfg.metric.axioms, len(start))))
    if len(few) == 0:
        return Scores()
    apart = alone(run)
    pictures = _composed(apart, apply, few)
    degree = run.cfg.gamma or run.cfg.edit.whole
    changed = as_saved(apply(apart, few, degree))
    back = other_order or apply  # what was done last is undone first
    pictures["reversibility"] = as_saved(back(apart, again(apart, few, changed), -degree))
    if other_order is None or run.cfg.gamma == 0:
        return _scored(run, few, pictures)
    pictures[COMMUTATIVITY] = as_saved(other_order(apart, few, degree))
    return _scored(run, few, pictures, {COMMUTATIVITY: changed})


def measure_composition(run: Run, apply: Apply, start: Encoded) -> Scores:
    """``composition_1`` and ``composition_10`` alone, where there is no edit."""
    few = start.take(range(min(run.cfg.metric.axioms, len(start))))
    return _scored(run, few, _composed(alone(run), apply, few)) if len(few) else Scores()


def _scored(
    run: Run,
    start: Encoded,
    pictures: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor] = MappingProxyType({}),
) -> Scores:
    """How far each set of pictures is from those ``wanted``, else the sources; writes the pictures."""
    scores = Scores()
    for name, pixels in pictures.items():
        scores.add(name, mae(pixels, wanted.get(name, start.sources.pixels)))
        if run.record.writes:
            save_pngs(pixels, start.ids, run.record.folder / AXIOMS_FOLDER / name)
    add_intervals(scores, run.cfg.metric.bootstrap)
    return scores


def alone(run: Run) -> Run:
    """The run without a cache and without a record, for pictures that nobody asked for."""
    cfg = replace(run.cfg, trainer=replace(run.cfg.trainer, cache=False))
    return Run(cfg, run.networks, Record.quiet(cfg))


def _composed(run: Run, apply: Apply, start: Encoded) -> dict[str, Tensor]:
    pictures, now = {}, start
    for times in range(1, max(TIMES) + 1):
        result = as_saved(apply(run, now, 0.0))
        if times in TIMES:
            pictures[f"composition_{times}"] = result
        if times < max(TIMES):
            now = again(run, start, result)
    return pictures


def again(run: Run, start: Encoded, pixels: Tensor) -> Encoded:
    """Other pictures of the same names, encoded as the first ones were."""
    return encode_to_edit(run, Images(pixels, start.ids, start.sources.facts), "pictures again")


def as_saved(images: Tensor) -> Tensor:
    """Images as a file of 8 bits gives them back."""
    return unit(images.cpu()) * 2 - 1
