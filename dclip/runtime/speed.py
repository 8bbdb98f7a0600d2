"""How fast an edit was learned, and how much of its device that took."""

from __future__ import annotations

import time
from functools import cache

import torch

SIDES = {"cpu": 512, "cuda": 8192}  # of the matrices that are multiplied
TIMES = 6


@cache
def matmul_gflops(device: str, threads: int) -> float:
    """GFLOP/s of the fastest of a few products of two square float32 matrices on this device.

    ``threads`` are those that torch has now; another number is measured anew.
    """
    side = SIDES.get(device, 512)
    x = torch.ones(side, side, device=device)
    fastest = float("inf")
    for _ in range(TIMES):
        _wait(device)
        start = time.perf_counter()
        x @ x
        _wait(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2e-9 * side**3 / fastest


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def speed(
    images: int, calls: float, seconds: float, gflop: float | None, device: torch.device
) -> dict[str, float]:
    """What a fine-tuning reached: training images a second, and the share of its device.

    The operations are those of the U-Net, as a plan counts them (a backward pass is two forward
    ones); ``mfu`` divides their rate by that of a matrix product on the same device.

    Args:
        images: that were trained on, each as often as it was.
        calls: U-Net evaluations, in forward passes of one image.
        gflop: of one of them; None: not known, and then only images/s are.
    """
    reached = {"images_per_s": images / seconds}
    if gflop is None:
        return reached
    rate = calls * gflop / seconds
    peak = matmul_gflops(device.type, torch.get_num_threads())
    return {**reached, "gflops": rate, "mfu": rate / peak}
