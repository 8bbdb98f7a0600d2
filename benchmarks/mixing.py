"""What several edits at once cost: M networks mixed exactly, merged into one (soup), or handing over from one to the next.

    python benchmarks/mixing.py [--most 4] [--images 2] [--steps 6] [--repeats 3] [--threads 1]

Ways take turns, and a ratio is taken within each round; the median counts. ``times_one`` compares generation alone,
``edit_times_one`` the whole edit of a picture: its inversion (as in experiment=toonfaces) is done once, however many edits
there are. The edits are copies of ToonFaces' network with changed weights; those of ``exact, shared`` are changed in the last two
blocks only, as ``preset=shared`` learns them. ``weights_mb`` counts the weights that must be held, the original's left out.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.mix import mix
from dclip.diffusion.options import FixedPoint, inverter_of, pairs_of
from dclip.diffusion.sampler import EpsFn, sample
from dclip.diffusion.schedule import pairs_down
from dclip.edits.weights import weights_of
from dclip.files import write_json
from dclip.models.checkpoints import load_model
from dclip.models.shared import common_beginning, share
from dclip.models.unet import DiffusionModel
from dclip.record.machine import environment
from finetuning import table, timed

T0 = 500
LATE = ("up_blocks.2.", "up_blocks.3.")


@torch.no_grad()
def edits(
    model: DiffusionModel, count: int, where: str | tuple[str, ...] = ""
) -> list[DiffusionModel]:
    """Copies whose weights have moved a little, each its own way; ``where``: only those whose names begin so."""
    made = []
    for seed in range(count):
        one, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
        for name, parameter in one.unet.named_parameters():
            if name.startswith(where):
                parameter.add_(1e-3 * torch.randn(parameter.shape, generator=generator))
        made.append(one)
    return made


def late(model: DiffusionModel, count: int) -> list[DiffusionModel]:
    """Edits of the last two blocks that hold what they share once, as ``editor_from`` makes them."""
    made = edits(model, count, LATE)
    nets = [one.unet for one in made]
    share(nets, common_beginning(nets))
    return made


def held_mb(parts: Sequence[DiffusionModel], model: DiffusionModel) -> float:
    """Weights of the networks, each tensor once, without those that equal the original's."""
    known = dict(model.unet.named_parameters())
    tensors = {
        id(p): p
        for part in parts
        for name, p in part.unet.named_parameters()
        if not torch.equal(p, known[name])
    }
    return sum(p.numel() * p.element_size() for p in tensors.values()) / 1e6


@torch.no_grad()
def soup(model: DiffusionModel, parts: list[DiffusionModel]) -> DiffusionModel:
    """One network with the mean of all changes."""
    merged = copy.deepcopy(model)
    for target, *values in zip(
        merged.parameters(), *(part.parameters() for part in parts), strict=True
    ):
        target.copy_(torch.stack(values).mean(0))
    return merged


def measure(images: int, steps: int, most: int, repeats: int) -> list[dict[str, Any]]:
    """One line a way and M."""
    model = load_model("toonfaces")
    parts, down = edits(model, most), pairs_down(T0, steps)
    x = torch.randn(images, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    ways: dict[tuple[str, int], tuple[EpsFn, Sequence[DiffusionModel]]] = {
        ("one edit", 1): (parts[0].predict, parts[:1])
    }

    def mixed(
        networks: Sequence[DiffusionModel], weights: str | None
    ) -> tuple[EpsFn, Sequence[DiffusionModel]]:
        return mix(
            [one.predict for one in networks], weights_of(weights, len(networks), T0)
        ), networks

    for count in range(2, most + 1):
        merged = soup(model, parts[:count])
        ways["soup", count] = merged.predict, [merged]
        ways["exact", count] = mixed(parts[:count], None)
        ways["exact, shared", count] = mixed(late(model, count), None)
        ways["linear hand-over", count] = mixed(parts[:count], "linear")

    def walk(eps_fn: EpsFn) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            sample(eps_fn, x, down, model.schedule)

        return run

    @torch.no_grad()
    def invert() -> None:
        options = FixedPoint(T0, s_gen=steps)
        sample(
            model.predict, face, pairs_of(options)[0], model.schedule, solver=inverter_of(options)
        )

    face = toonfaces("test", images).pixels.contiguous(memory_format=torch.channels_last)
    runs = {key: walk(eps_fn) for key, (eps_fn, _) in ways.items()} | {("inversion", 0): invert}
    rounds = [{key: timed(run) for key, run in runs.items()} for _ in range(repeats + 1)][1:]
    return [
        {
            "way": way,
            "M": count,
            "cpu_seconds_per_image": statistics.median(r[way, count] for r in rounds) / images,
            "times_one": statistics.median(r[way, count] / r["one edit", 1] for r in rounds),
            "edit_times_one": statistics.median(
                (r["inversion", 0] + r[way, count]) / (r["inversion", 0] + r["one edit", 1])
                for r in rounds
            ),
            "weights_mb": held_mb(held, model),
        }
        for (way, count), (_, held) in ways.items()
    ]


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    told = parser.parse_args(words)
    if told.threads:
        torch.set_num_threads(told.threads)
    lines = measure(told.images, told.steps, told.most, told.repeats)
    print(table(lines))
    settings = {"images": told.images, "steps": told.steps, "repeats": told.repeats}
    write_json(told.output, {"settings": settings, "lines": lines, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
