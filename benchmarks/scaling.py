"""How cost grows with steps, batch, image size and number of images: measured times and their
fitted exponents.

    python benchmarks/scaling.py [--sizes 32,64,128,256] [--repeats 2] [--threads 1]

The network is ToonFaces' U-Net with random weights, built for each size (attention at an eighth of
it). Time is CPU time, the best of the repeats; ``exponent`` is the slope of log(time) over
log(quantity) by least squares, ``last`` that of the two largest alone. Image size counts pixels on
a side: 2 is proportional to the pixels. Last, the time of a call by its batch: by the clock, so let
nothing else run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import add_threads, arguments, table, timed, use_threads
from dclip.diffusion.sampler import Prediction, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import pairs_down
from dclip.files import write_json
from dclip.models.unet import TOONFACES_UNET, build_unet
from dclip.record.machine import environment
from dclip.types import batches

SCHEDULE = Schedule()


class Network:
    """A random network for images of one size."""

    def __init__(self, size: int) -> None:
        torch.manual_seed(0)
        self.size = size
        self.net = build_unet({**TOONFACES_UNET, "sample_size": size})
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(self, x: Tensor, t: Tensor) -> Prediction:
        """Predicted noise."""
        return Prediction(self.net(x, t, return_dict=False)[0])

    def noise(self, count: int) -> Tensor:
        """Latents."""
        return torch.randn(count, 3, self.size, self.size).contiguous(
            memory_format=torch.channels_last
        )

    def generate(self, images: int, steps: int, batch: int) -> None:
        """Images without gradient, ``batch`` at a time."""
        x = self.noise(images)
        with torch.no_grad():
            for part in batches(images, batch):
                sample(self.predict, x[part], pairs_down(500, steps), SCHEDULE)

    def update(self, steps: int, batch: int) -> None:
        """The chain's gradient of one batch."""
        sample(
            self.predict, self.noise(batch), pairs_down(500, steps), SCHEDULE
        ).square().mean().backward()
        self.net.zero_grad()


def slope(values: Sequence[float], times: Sequence[float]) -> float:
    """Exponent of a power law through the points."""
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def measure(
    what: str, values: Sequence[int], run: Callable[[int], None], repeats: int
) -> dict[str, Any]:
    """One quantity, all its values in turns; the first round of the smallest warms up."""
    run(values[0])
    best = [math.inf] * len(values)
    for _ in range(repeats):
        for k, value in enumerate(values):
            best[k] = min(best[k], timed(partial(run, value)))
    return {
        "quantity": what,
        "values": ", ".join(map(str, values)),
        "cpu_seconds": ", ".join(map("{:.3g}".format, best)),
        "exponent": slope(values, best),
        "last": slope(values[-2:], best[-2:]),
    }


def batch_sizes(repeats: int) -> list[dict[str, Any]]:
    """Milliseconds an image of a call without gradient at 64 x 64, for several batch sizes."""
    net, sizes = Network(64), (1, 2, 4, 8, 16, 32, 64)
    x, best = net.noise(sizes[-1]), dict.fromkeys(sizes, math.inf)
    with torch.no_grad():
        for _ in range(repeats + 1):
            for size in sizes:
                start = time.perf_counter()
                for part in batches(len(x), size):
                    net.predict(x[part], torch.full((size,), 300))
                best[size] = min(best[size], time.perf_counter() - start)
    return [
        {"batch": size, "ms_per_image": 1e3 * seconds / len(x)} for size, seconds in best.items()
    ]


def main(words: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, write; returns the lines."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--sizes", default="32,64,128,256")
    parser.add_argument("--size", type=int, default=32, help="image size of everything else")
    parser.add_argument("--repeats", type=int, default=2)
    add_threads(parser)
    args = parser.parse_args(words)
    use_threads(args)
    net, sizes = Network(args.size), list(map(int, args.sizes.split(",")))
    nets = {size: Network(size) for size in sizes}
    cases: list[tuple[str, list[int], Callable[[int], None]]] = [
        ("steps of a generation (s_gen)", [3, 6, 12, 24], lambda n: net.generate(2, n, 2)),
        ("steps of an update (s_train)", [3, 6, 12], lambda n: net.update(n, 2)),
        ("batch, an update", [1, 2, 4, 8], lambda n: net.update(3, n)),
        ("images, four at a time", [4, 8, 16, 32], lambda n: net.generate(n, 3, 4)),
        ("image size, a generation", sizes, lambda n: nets[n].generate(1, 2, 1)),
    ]
    lines = [measure(what, values, run, args.repeats) for what, values, run in cases]
    lines.append(measure("image size, an update", sizes, lambda n: nets[n].update(2, 1), 1))
    print(table(lines), flush=True)
    by_batch = batch_sizes(args.repeats)
    print(table(by_batch))
    settings = {"size": args.size, "repeats": args.repeats, "threads": torch.get_num_threads()}
    content = {**settings, "lines": lines, "batch_without_gradient": by_batch}
    write_json(args.output, {**content, "environment": environment()})
    return lines


if __name__ == "__main__":
    main()
