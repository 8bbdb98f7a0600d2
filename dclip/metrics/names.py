"""The list of metrics as tables, reports and command lines read it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Importing these modules fills the list.
from dclip.metrics import against_truth as against_truth
from dclip.metrics import outside as outside
from dclip.metrics import pairs as pairs
from dclip.metrics import sets as sets
from dclip.metrics import shown as shown
from dclip.metrics.contract import METRICS, Metric, Quantity, SetMetric, register
from dclip.metrics.contract import Scores as Scores
from dclip.metrics.contract import metric as metric
from dclip.metrics.contract import set_metric as set_metric
from dclip.metrics.presets import Choices
from dclip.metrics.words import ReaderName

HEADLINE = (
    "closer",
    "counterfactual_ratio",
    "true_success",
    "judge_success",
    "judge_preservation",
    "effectiveness",
    "amplification",
    "edit_accuracy",
    "preservation_accuracy",
    "edit_iou",
    "composition_1",
    "composition_10",
    "reversibility",
)
"""What comes first in tables and reports: the truth, with the judge's word beside it."""

AXIOMS = {
    "composition_1": "What one edit of degree 0 changes; mean absolute change of the pixels.",
    "composition_10": "What ten edits of degree 0, one after another, change.",
    "reversibility": "What is left of the change when an edit is followed by its opposite.",
}
"""What an edit should be, whatever it changes (Monteiro et al., ICLR 2023)."""

for _name, _meaning in AXIOMS.items():
    register(Quantity(_name, "lower", _meaning))

BENCHMARK = [
    Quantity(
        "truth_score",
        "higher",
        "How near the truth: 1 is there, 0 as far as the source; 1 - counterfactual_ratio.",
    ),
    Quantity(
        "truth_score_in_region",
        "higher",
        "The truth_score if nothing but the true region had changed: the most that a mask can do.",
    ),
    Quantity(
        "commutativity",
        "lower",
        "What the order of two edits changes; mean absolute difference of the pixels.",
    ),
    Quantity(
        "cld",
        "lower",
        "Minimality (counterfactual latent divergence): 0 changes as much as it must, and no more.",
    ),
]
"""What only the benchmark measures (``dclip benchmark``)."""

for _quantity in BENCHMARK:
    register(_quantity)

COSTS = {
    "time_ratio": "Time with guidance over time without.",
    "seconds_per_image": "Time to draw one image.",
    "seconds_invert": "Time to invert all images that were not cached.",
    "seconds_adapt": "Time to fine-tune.",
    "seconds_edit": "Time to apply the edit to the test images.",
    "seconds_translate": "Time to bring the images into the domain.",
    "peak_memory_mb": "Most memory that the process held.",
}

SPEEDS = {
    "images_per_s": "Training images a second while the edit was learned.",
    "gflops": "Operations of the U-Net a second meanwhile, in 1e9.",
    "mfu": "The same, as a share of a float32 matrix product's rate on this device.",
}

for _name, _meaning in SPEEDS.items():
    register(Quantity(_name, "higher", _meaning))

register(
    Quantity(
        "p_target_path",
        "higher",
        "Probability of the prompts to the CLIP that guides, mean over the guided steps: how soon.",
    )
)
register(
    Quantity("clipped", "lower", "Share of the samples' values at an end of their range or beyond.")
)

for _name, _meaning in COSTS.items():
    register(Quantity(_name, "lower", _meaning))


FACTS = (
    "images",
    "count",
    "degree",
    "t_edit",
    "calls_invert",
    "calls_edit",
    "network_calls",
    "clip_calls",
    "optimiser_steps",
    "latent_rms",
)
"""What runs report of which neither more nor less is better; beside it all ``seconds_...``."""


def is_reported(column: str) -> bool:
    """Whether runs can have a column: a metric, a part of one (``kid_std``), or a fact."""
    names = (*METRICS, *FACTS)
    return column in names or column.startswith(("seconds_", *map("{}_".format, METRICS)))


def find(column: str) -> Quantity | None:
    """The quantity of a column: by its name, or ``kid`` for ``kid_50`` and other subset sizes."""
    stem, _, size = column.rpartition("_")
    family = METRICS.get(stem)
    if size.isdecimal() and isinstance(family, SetMetric) and family.sized:
        return family
    return METRICS.get(column)


def higher_is_better(column: str) -> bool | None:
    """Whether more of a column is better; None for what is no metric."""
    quantity = find(column)
    if quantity is None:
        return None
    return quantity.better == "higher"


def arrow(column: str) -> str:
    """Which way is better, as a character; empty for what is no metric."""
    quantity = find(column)
    if quantity is None:
        return ""
    return quantity.arrow


def interval(column: str, values: Mapping[str, object]) -> tuple[float, float] | None:
    """The interval of a column among a run's numbers: its own, or its family's (``kid_50``)."""
    quantity = find(column)
    names = [column] if quantity is None else [column, quantity.name]
    for name in names:
        low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
        if isinstance(low, int | float) and isinstance(high, int | float):
            return float(low), float(high)
    return None


def ordered(columns: Iterable[str]) -> list[str]:
    """Those of the columns that are metrics: the headline, then in the list's order."""
    listed = dict.fromkeys((*HEADLINE, *METRICS))
    order = {name: place for place, name in enumerate(listed)}
    places = {}
    for column in columns:
        quantity = find(column)
        if quantity is not None:
            places[column] = order[quantity.name]
    return sorted(places, key=lambda column: places[column])


def metrics_of(reader: ReaderName) -> list[Metric]:
    """The metrics of images that a reader measures."""
    found = []
    for quantity in METRICS.values():
        if isinstance(quantity, Metric) and reader in quantity.readers:
            found.append(quantity)
    return found


def set_metrics_of(reader: ReaderName) -> list[SetMetric]:
    """The distances between sets that a reader measures."""
    found = []
    for quantity in METRICS.values():
        if isinstance(quantity, SetMetric) and reader in quantity.readers:
            found.append(quantity)
    return found


def names_of(reader: ReaderName) -> list[str]:
    """The names of everything that a reader measures."""
    return [quantity.name for quantity in (*metrics_of(reader), *set_metrics_of(reader))]


def described(choices: Choices, domain: str, size: int | None) -> dict[str, str]:
    """Every choice behind every metric of two folders, in words."""
    resized = "as they are; a pair has one size"
    if size is not None:
        resized = f"shorter side to {size} pixels (Lanczos), middle square, back to 8 bits"
    words = {
        "pixels": (
            "8-bit RGB, scaled to [0, 1]; transparent pixels on white; EXIF orientation applied; "
            f"pictures {resized}"
        )
    }
    measured: list[Metric | SetMetric] = [*metrics_of("folders"), *set_metrics_of("folders")]
    for quantity in measured:
        exactly = quantity.details
        words[quantity.name] = exactly(choices, domain) if exactly else quantity.meaning
    return words
