"""A U-Net whose residual blocks are compiled by torch, so that what they do between convolutions is fused.

In a block, normalisation, SiLU and additions read and write the features many times over; compiled,
each goes through memory as few times as it can. Blocks of one shape share their code, which compiles
quicker than the whole network, and what others do to its modules (low-rank updates, a change of the
middle block, a shared beginning) works as before.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from dclip.errors import need

# Of one block in all its shapes: two dozen of a network, with and without gradient, a few batches.
MOST_SHAPES = 512


def check_compiler(setting: str) -> None:
    """DclipError where torch has nothing to compile for a GPU with."""
    need(
        find_spec("triton") is not None,
        f"{setting} needs Triton, which is not installed here; "
        "pip install triton (on Windows: triton-windows), or choose trainer.speed=fast",
    )


def compile_blocks(net: nn.Module, backend: str = "inductor") -> int:
    """Let torch compile the residual blocks of a U-Net, and its last normalisation; their number.

    Each is compiled when it is first called. Shapes are fixed: another batch size is compiled anew.
    Names and values of weights stay.
    """
    import torch._dynamo
    from diffusers import UNet2DModel
    from diffusers.models.resnet import ResnetBlock2D

    from dclip.models.lucidrains import ResBlock

    torch._dynamo.config.recompile_limit = MOST_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 4 * MOST_SHAPES
    # a low-rank update that is attached or detached later changes the block
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    blocks = [block for block in net.modules() if isinstance(block, ResnetBlock2D | ResBlock)]
    if isinstance(net, UNet2DModel):
        blocks.append(net.conv_norm_out)
    for block in blocks:
        block.compile(dynamic=False, backend=backend)
    return len(blocks)
