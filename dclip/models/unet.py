"""A diffusion model as the rest of dclip sees it: a U-Net from diffusers with its schedule and its kind of variance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dclip.config import Grid
from dclip.diffusion.sampler import Prediction
from dclip.diffusion.schedule import HO, Schedule
from dclip.diffusion.timesteps import STEPS
from dclip.errors import need
from dclip.models.compiled import compile_blocks
from dclip.runtime.imports import lightly

VARIANCES = ("fixed_small", "fixed_large", "learned_range")

# What a network may predict, as eps: (its output, x_t, alpha_bar [N,1,1,1]) -> eps.
# v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022, appendix D).
PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": lambda out, x, a: out,
    "v": lambda out, x, a: a.sqrt() * out + (1 - a).sqrt() * x,
    "x0": lambda out, x, a: (x - a.sqrt() * out) / (1 - a).sqrt(),
}

# 3.7 M parameters: the ToonFaces model
TOONFACES_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 16,
    "attention_head_dim": 32,
}


# The same for 32x32 pictures, with attention at 8x8 too.
CIFAR10_UNET: dict[str, Any] = {
    **TOONFACES_UNET,
    "sample_size": 32,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}


# 8.2 M parameters, 16 MB in half precision: as wide everywhere as suits a GPU's matrix units.
CIFAR10_LARGE_UNET: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": (128, 128, 128, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 32,
    "attention_head_dim": 64,
}


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a checkpoint besides its weights; travels in the safetensors header."""

    name: str
    unet: dict[str, Any]
    variance: str = "fixed_small"
    schedule: Schedule = field(default_factory=Schedule)
    notes: dict[str, Any] = field(default_factory=dict)
    prediction: str = "epsilon"  # a key of PREDICTIONS


class DiffusionModel(nn.Module):
    """An unconditional noise predictor eps(x_t, t) for images in [-1, 1].

    A network with learned variance has twice the output channels; the sampler only ever sees eps, and ancestral sampling
    asks for the log-variance, read as LEARNED_RANGE (Nichol & Dhariwal 2021, Eq. 15).

    Attributes:
        fast: calls without gradient compute in bfloat16 (``trainer.speed=fast``); what comes out is float32 all the same.
        compiled: the network's residual blocks are compiled (``trainer.speed=compiled``), a copy's too.
        evaluated: how many images went through the network so far.
    """

    def __init__(self, unet: nn.Module, info: ModelInfo, digest: str = "") -> None:
        super().__init__()
        self.unet, self.info, self.digest = unet, info, digest
        self.fast = self.compiled = False
        self.evaluated = 0

    @property
    def schedule(self) -> Schedule:
        """The noise schedule that the model was trained with."""
        return self.info.schedule

    def check_schedule(self, grid: Grid = Grid.uniform) -> None:
        """DclipError for a schedule of another length than that in which all settings count.

        Also for a ``grid`` that would be spread on another schedule than the model's.
        """
        steps = self.schedule.steps
        need(
            steps == STEPS,
            f"{self.info.name} was trained with a schedule of {steps:,} timesteps; t0 and all "
            f"other timesteps of dclip are those of {STEPS:,}, and would mean other amounts of "
            f"noise there; give a model of {STEPS:,} timesteps",
        )
        need(
            self.schedule == HO or not grid.follows_noise,
            f"sampler.grid={grid} is spread on Ho et al.'s linear schedule; {self.info.name} was "
            f"trained on a {self.schedule.kind} one; choose sampler.grid=uniform or quadratic",
        )

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.info.unet["sample_size"])

    @property
    def channels(self) -> int:
        """Colour channels of the images."""
        return int(self.info.unet.get("in_channels", 3))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def compile_blocks(self) -> None:
        """Compile the network's residual blocks, each when it is first called."""
        compile_blocks(self.unet)
        self.compiled = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy's blocks are compiled as the original's were; torch's own copy would forget it."""
        self.__dict__.update(state)
        if self.compiled:
            self.compile_blocks()

    def output(self, x: Tensor, t: Tensor) -> Tensor:
        """Raw network output [N, C or 2C, H, W] in float32."""
        self.evaluated += len(x)
        if not self.fast or torch.is_grad_enabled():
            out: Tensor = self.unet(x, t, return_dict=False)[0]
            return out.float()
        with torch.autocast(x.device.type, torch.bfloat16):
            out = self.unet(x, t, return_dict=False)[0]
        return out.float()

    def predict(self, x: Tensor, t: Tensor) -> Prediction:
        """What the network says of x_t [N,C,H,W] at the 0-based timesteps t [N], in float32.

        A variance fraction is there if the network has learned one.
        """
        out, channels = self.output(x, t), x.shape[1]
        eps = self._eps(out[:, :channels], x, t)
        if self.info.variance == "learned_range":
            return Prediction(eps, out[:, channels:])
        return Prediction(eps)

    def _eps(self, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What the network predicts, as noise."""
        if self.info.prediction == "epsilon":
            return out
        return PREDICTIONS[self.info.prediction](out, x, self.schedule.alpha_bar_at(t))

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicted noise of x_t at t, in the shape of x."""
        return self.predict(x, t).eps


# What networks that are not of RGB images are, by the channels that go in.
_OTHERS = {
    1: "greyscale images",
    4: "the latents of an autoencoder",
    6: "an image beside another one, as for super-resolution or self-conditioning",
}


def check_channels(config: Mapping[str, Any], source: str) -> None:
    """Refuse a network that is not of RGB images alone.

    Raises:
        DclipError: it does not take 3 channels, or gives neither 3 nor, with its variance, 6.
    """
    into, out = int(config.get("in_channels", 3)), int(config.get("out_channels", 3))
    what = ""
    if into in _OTHERS:
        what = f" ({_OTHERS[into]})"
    need(
        into == 3 and out in (3, 6),
        f"{source} takes images of other channels: {into} in{what}, {out} out; "
        "dclip edits RGB images: 3 in, and 3 out (6 with a learned variance), are needed",
    )


def build_unet(config: dict[str, Any]) -> nn.Module:
    """The U-Net of a configuration (random weights).

    It is diffusers' ``UNet2DModel``, unless ``network`` names another of ``NETWORKS``.
    ``attention_heads`` is the number of heads of every attention layer, where that is what all
    have in common, and not the channels of a head.
    """
    settings = dict(config)
    network = settings.pop("network", "diffusers")
    return NETWORKS[network](settings)


def _diffusers(settings: dict[str, Any]) -> nn.Module:
    with lightly():
        import diffusers.hooks  # noqa: F401  (which a network imports when it is moved)
        from diffusers import UNet2DModel
        from diffusers.models.attention_processor import Attention

    heads = settings.pop("attention_heads", None)
    unet: nn.Module = UNet2DModel(**settings)
    if heads is None:
        return unet
    for module in unet.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim / heads) ** -0.5
    return unet


def _lucidrains(settings: dict[str, Any]) -> nn.Module:
    from dclip.models.lucidrains import LinearUnet

    return LinearUnet(**settings)


NETWORKS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "diffusers": _diffusers,
    "lucidrains": _lucidrains,
}
