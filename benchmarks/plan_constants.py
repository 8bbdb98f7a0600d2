"""The constants of ``task=plan``: work and memory of one network call, counted on meta tensors (no
weights, no memory).

python benchmarks/plan_constants.py

For each published architecture: parameters, multiply-adds x 2 of one forward pass of one image
(GFLOP), and what autograd keeps of it for the backward pass (MB). They are written into
``dclip/models/weights.yaml``; a test counts the small ones again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dclip.models.memory import kept_mb
from dclip.models.unet import TOONFACES_UNET, build_unet

DDIM = {
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "attention_head_dim": None,
}
ADM = {
    "resnet_time_scale_shift": "scale_shift",
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 64,
    "attn_norm_num_groups": 32,
    "out_channels": 6,
}


def unet(
    size: int,
    widths: tuple[int, ...],
    layers: int,
    attention: tuple[int, ...],
    own: Mapping[str, object],
) -> nn.Module:
    """A published U-Net, as ``dclip.models.convert`` describes it."""
    plain = "Resnet{}sampleBlock2D" if "downsample_type" in own else "{}Block2D"
    kinds = ["Attn{}Block2D" if level in attention else plain for level in range(len(widths))]
    down, up = (
        tuple(k.format(way) for k in order) for way, order in (("Down", kinds), ("Up", kinds[::-1]))
    )
    shape = {
        "sample_size": size,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "norm_num_groups": 32,
    }
    return build_unet({**shape, "down_block_types": down, "up_block_types": up, **own})


SIX = (128, 128, 256, 256, 512, 512)
UNETS: dict[str, Callable[[], nn.Module]] = {
    "toonfaces": lambda: build_unet(TOONFACES_UNET),
    "ddim 256": lambda: unet(256, SIX, 2, (4,), DDIM),
    "ddim CIFAR-10": lambda: unet(32, (128, 256, 256, 256), 2, (1,), DDIM),
    "adm 256": lambda: unet(256, SIX, 1, (4,), ADM),
    "adm ImageNet-512": lambda: unet(512, (128, 256, 256, 512, 512, 1024, 1024), 2, (4, 5, 6), ADM),
}


def count(net: nn.Module) -> tuple[int, float, float]:
    """(parameters, GFLOP of a forward pass, MB kept for the backward pass) of one image."""
    with FlopCounterMode(display=False) as flops:
        megabytes = kept_mb(net)
    return sum(p.numel() for p in net.parameters()), flops.get_total_flops() / 1e9, megabytes


def seconds(net: nn.Module, batch: int, backward: bool) -> float:
    """Time of one call of the ToonFaces network on this machine, per image."""
    size = int(net.config.sample_size)  # type: ignore[union-attr,arg-type]
    x, t = torch.randn(batch, 3, size, size), torch.full((batch,), 500)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            out = net(x.contiguous(memory_format=torch.channels_last), t, return_dict=False)[0]
        if backward:
            out.square().mean().backward()
        times.append(time.perf_counter() - start)
    return min(times) / batch


def main() -> None:
    """Print the table, then the measured speed of this machine."""
    for name, make in UNETS.items():
        with torch.device("meta"):
            net = make()
        parameters, gflop, megabytes = count(net)
        print(f"{name:18} {parameters:12,d} parameters {gflop:9.1f} GFLOP {megabytes:9.1f} MB kept")
    net = UNETS["toonfaces"]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward, both = seconds(net, 25, False), seconds(net, 2, True)
    speed = f"forward {1e3 * forward:.1f} ms, with backward {1e3 * both:.1f} ms an image"
    print(f"toonfaces on this machine, {torch.get_num_threads()} threads: {speed}")


if __name__ == "__main__":
    main()
