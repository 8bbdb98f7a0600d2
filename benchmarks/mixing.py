"""What several edits at once cost: M networks mixed exactly, merged into one (soup), or handing
over from one to the next.

    python benchmarks/mixing.py [--most 4] [--images 2] [--steps 6] [--repeats 3] [--threads 1]

Ways take turns, and a ratio is taken within each round; the median counts. ``times_one`` compares
generation alone, ``edit_times_one`` the whole edit of a picture: its inversion (as in
experiment=toonfaces) is done once, however many edits there are. The edits are copies of ToonFaces'
network with changed weights; those of ``exact, shared`` are changed in the last two blocks only, as
``preset=shared`` learns them. ``weights_mb`` counts the weights that must be held, the original's
left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from common import add_threads, arguments, in_rounds, median_of, table, use_threads
from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.mix import mix
from dclip.diffusion.options import FixedPoint, inverter_of, pairs_of
from dclip.diffusion.sampler import EpsFn, sample
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.weights import weights_of
from dclip.files import write_json
from dclip.models.checkpoints import load_model
from dclip.models.shared import common_beginning, share
from dclip.models.unet import DiffusionModel
from dclip.record.machine import environment

T0 = 500
LATE = ("up_blocks.2.", "up_blocks.3.")


@torch.no_grad()
def edits(
    model: DiffusionModel, count: int, where: str | tuple[str, ...] = ""
) -> list[DiffusionModel]:
    """Copies whose weights have moved a little, each its own way.

    ``where``: only weights whose names begin so.
    """
    made = []
    for seed in range(count):
        one, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
        for name, parameter in one.unet.named_parameters():
            if name.startswith(where):
                parameter.add_(1e-3 * torch.randn(parameter.shape, generator=generator))
        made.append(one)
    return made


def late(model: DiffusionModel, count: int) -> list[DiffusionModel]:
    """Edits of the last two blocks that hold what they share once."""
    made = edits(model, count, LATE)
    nets = [one.unet for one in made]
    share(nets, common_beginning(nets))
    return made


def held_mb(parts: Sequence[DiffusionModel], model: DiffusionModel) -> float:
    """Weights of the networks, each tensor once, without those that equal the original's."""
    known = dict(model.unet.named_parameters())
    sizes: dict[int, int] = {}
    for part in parts:
        for name, parameter in part.unet.named_parameters():
            if not torch.equal(parameter, known[name]):
                sizes[id(parameter)] = parameter.numel() * parameter.element_size()
    return sum(sizes.values()) / 1e6


@torch.no_grad()
def soup(model: DiffusionModel, parts: list[DiffusionModel]) -> DiffusionModel:
    """One network with the mean of all changes."""
    merged = copy.deepcopy(model)
    for target, *values in zip(
        merged.parameters(), *(part.parameters() for part in parts), strict=True
    ):
        target.copy_(torch.stack(values).mean(0))
    return merged


Way = tuple[EpsFn, Sequence[DiffusionModel]]  # a denoiser and the networks behind it


def mixed(networks: Sequence[DiffusionModel], weights: str | None) -> Way:
    """The predictions of several networks, mixed exactly."""
    denoisers = [one.predict for one in networks]
    return mix(denoisers, weights_of(weights, len(networks), T0)), networks


def ways_of(model: DiffusionModel, most: int) -> dict[tuple[str, int], Way]:
    """Every way to have M edits at once."""
    parts = edits(model, most)
    ways: dict[tuple[str, int], Way] = {("one edit", 1): (parts[0].predict, parts[:1])}
    for count in range(2, most + 1):
        merged = soup(model, parts[:count])
        ways["soup", count] = merged.predict, [merged]
        ways["exact", count] = mixed(parts[:count], None)
        ways["exact, shared", count] = mixed(late(model, count), None)
        ways["linear hand-over", count] = mixed(parts[:count], "linear")
    return ways


def measure(images: int, steps: int, most: int, repeats: int) -> list[dict[str, Any]]:
    """One line a way and M."""
    model = load_model("toonfaces")
    down, ways = pairs_down(T0, steps), ways_of(model, most)
    x = torch.randn(images, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    face = toonfaces("test", images).pixels.contiguous(memory_format=torch.channels_last)
    options = FixedPoint(T0, s_gen=steps)
    up, solver = pairs_of(options)[0], inverter_of(options)

    @torch.no_grad()
    def generate(eps_fn: EpsFn) -> None:
        sample(eps_fn, x, down, model.schedule)

    @torch.no_grad()
    def invert() -> None:
        sample(model.predict, face, up, model.schedule, solver=solver)

    runs: dict[tuple[str, int], Callable[[], None]] = {("inversion", 0): invert}
    for key, (eps_fn, _) in ways.items():
        runs[key] = partial(generate, eps_fn)
    rounds = []
    for times in in_rounds(runs, repeats):
        rounds.append({key: cpu for key, (_, cpu) in times.items()})
    lines = []
    for key, (_, held) in ways.items():
        lines.append({"way": key[0], "M": key[1], **compared(rounds, key, images)})
        lines[-1]["weights_mb"] = held_mb(held, model)
    return lines


def compared(
    rounds: list[dict[tuple[str, int], float]], key: tuple[str, int], images: int
) -> dict[str, float]:
    """Seconds of a way, and over those of one edit: of generation, and with the inversion."""
    one, up = ("one edit", 1), ("inversion", 0)
    return {
        "cpu_seconds_per_image": median_of(rounds, lambda r: r[key]) / images,
        "times_one": median_of(rounds, lambda r: r[key] / r[one]),
        "edit_times_one": median_of(rounds, lambda r: (r[up] + r[key]) / (r[up] + r[one])),
    }


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    add_threads(parser)
    args = parser.parse_args(words)
    use_threads(args)
    lines = measure(args.images, args.steps, args.most, args.repeats)
    print(table(lines))
    settings = {"images": args.images, "steps": args.steps, "repeats": args.repeats}
    write_json(args.output, {"settings": settings, "lines": lines, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
